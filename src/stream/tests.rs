//! The bytes of a stream, in their order and at their time.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use http_body::Body as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::{
    channel::{Channel, Registry, StreamLimits},
    event::{Class, Cursor, Draft, Epoch, Event, History, Resume, Seq, Timestamp},
    telemetry::Metrics,
};

const QUIET: Duration = Duration::from_secs(15);
const HISTORY: usize = 3;

struct Rig {
    registry: Registry,
    metrics: Metrics,
}

impl Rig {
    fn new() -> Self {
        let limits = StreamLimits {
            history: HISTORY.into(),
            tick_interval: Duration::ZERO,
            streams: 100,
            streams_per_channel: 100,
        };
        Self { registry: Registry::new(epoch(), limits), metrics: Metrics::new() }
    }

    fn publish(&self, seq: u64, class: Class, data: &'static str) {
        self.registry.advance(Seq(seq));
        self.registry.publish(&event(seq, class, data), std::time::Instant::now());
    }

    async fn open(&self, style: Style, cursor: Resume, history: &[(u64, Class)]) -> StreamBody {
        let events = history.iter().map(|(seq, class)| event(*seq, *class, "{}")).collect();
        let load = async || Ok::<_, Infallible>(History { floor: Seq::ZERO, events });
        let (join, subscriber) = self.registry.open(&channel(), cursor, load).await.unwrap();
        StreamBody::new(&join, subscriber, style, self.metrics.clone())
    }

    fn hang_up(&self) {
        self.registry.find(&channel()).iter().for_each(|channel| drop(Channel::hang_up(channel)));
    }
}

fn epoch() -> Epoch {
    "k3f90000".parse().unwrap()
}

fn channel() -> ChannelName {
    ChannelName::task(Uuid::nil())
}

fn event(seq: u64, class: Class, data: &'static str) -> Event {
    let name = Some("progress".into());
    let draft = Draft { channel: channel(), name, class, data: data.into(), memo: None, origin: None };
    Event { seq: Seq(seq), at: Timestamp::from_millis(0), group: Uuid::nil(), draft }
}

fn progress() -> Style {
    Style {
        dialect: Dialect::Progress,
        opening: vec![wire::retry(Duration::from_secs(2))],
        shows_state: true,
        heartbeat: Heartbeat::comment(QUIET),
    }
}

fn plain() -> Style {
    let keep_alive = wire::text(b"<3: Keep alive");
    Style {
        dialect: Dialect::Plain,
        opening: vec![wire::text(b"hello"), keep_alive.clone()],
        shows_state: false,
        heartbeat: Heartbeat { every: Duration::from_secs(5), bytes: keep_alive, when_quiet: false },
    }
}

fn frame(seq: u64) -> String {
    format!("event: progress\ndata: {{\"cursor\":\"k3f90000-{seq}\"}}\nid: k3f90000-{seq}\n\n")
}

fn at(seq: u64) -> Resume {
    Resume::After(Cursor { epoch: epoch(), seq: Seq(seq) })
}

/// The next piece, if there is one now; the inner `None` is the end.
fn poll(body: &mut StreamBody) -> Poll<Option<Bytes>> {
    let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
    polled.map(|piece| piece.map(|piece| piece.unwrap().into_data().unwrap()))
}

/// The pieces that can be had now, and whether the stream has ended.
fn pieces(body: &mut StreamBody) -> (Vec<Bytes>, bool) {
    let mut pieces = Vec::new();
    loop {
        match poll(body) {
            Poll::Ready(Some(piece)) => pieces.push(piece),
            Poll::Ready(None) => return (pieces, true),
            Poll::Pending => return (pieces, false),
        }
    }
}

fn text(body: &mut StreamBody) -> (String, bool) {
    let (pieces, ended) = pieces(body);
    (String::from_utf8(pieces.concat()).unwrap(), ended)
}

async fn next(body: &mut StreamBody) -> Option<String> {
    let piece = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    piece.map(|piece| String::from_utf8(piece.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_stream_opens_then_shows_the_state_then_each_event() {
    let rig = Rig::new();
    let mut body = rig.open(progress(), Resume::First, &[(4, Class::Change)]).await;
    rig.publish(5, Class::Tick, "{}");
    rig.publish(6, Class::Change, "{}");
    assert_eq!(text(&mut body), (format!("retry: 2000\n\n{}{}{}", frame(4), frame(5), frame(6)), false));
    rig.publish(7, Class::Final, "{}");
    assert_eq!(text(&mut body), (frame(7), true), "the end comes without a word: nobody else watches");
}

#[tokio::test]
async fn a_stream_that_resumes_shows_what_was_missed_and_no_state() {
    let rig = Rig::new();
    let mut body = rig.open(progress(), at(4), &[(4, Class::Change), (5, Class::Change), (6, Class::Tick)]).await;
    assert_eq!(text(&mut body), (format!("retry: 2000\n\n{}{}", frame(5), frame(6)), false));
}

#[tokio::test]
async fn a_void_cursor_is_declared_before_the_state() {
    let rig = Rig::new();
    let mut body = rig.open(progress(), Resume::Unreadable, &[(4, Class::Change)]).await;
    let reset = "event: reset\ndata: {\"channel\":\"task:00000000-0000-0000-0000-000000000000\"}\n\n";
    assert_eq!(text(&mut body), (format!("retry: 2000\n\n{reset}{}", frame(4)), false));
}

#[tokio::test]
async fn what_has_ended_is_shown_once_and_not_again() {
    let rig = Rig::new();
    let ended = [(4, Class::Change), (5, Class::Final)];
    let mut first = rig.open(progress(), Resume::First, &ended).await;
    assert_eq!(text(&mut first), (format!("retry: 2000\n\n{}", frame(5)), true));
    let mut again = rig.open(progress(), at(5), &ended).await;
    assert_eq!(text(&mut again), ("retry: 2000\n\n".to_owned(), true));
}

#[tokio::test]
async fn a_plain_stream_without_state_begins_with_what_comes() {
    let rig = Rig::new();
    let mut body = rig.open(plain(), Resume::First, &[(4, Class::Change)]).await;
    rig.publish(5, Class::Change, "two\nlines");
    let expected = "data: hello\n\ndata: <3: Keep alive\n\ndata: two\ndata: lines\n\n";
    assert_eq!(text(&mut body), (expected.to_owned(), false));
}

#[tokio::test(start_paused = true)]
async fn a_comment_comes_only_where_nothing_else_did() {
    let rig = Rig::new();
    let mut body = rig.open(progress(), Resume::First, &[]).await;
    assert_eq!(next(&mut body).await.unwrap(), "retry: 2000\n\n");
    let started = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    assert_eq!(started.elapsed(), QUIET);

    tokio::time::sleep(Duration::from_secs(14)).await;
    rig.publish(1, Class::Change, "{}");
    assert_eq!(next(&mut body).await.unwrap(), frame(1));
    let started = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    assert_eq!(started.elapsed(), QUIET, "counted from the event");
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    assert_eq!(started.elapsed(), QUIET * 2);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_promised_comes_whatever_else_does() {
    let rig = Rig::new();
    let mut body = rig.open(plain(), Resume::First, &[]).await;
    assert_eq!(text(&mut body).0, "data: hello\n\ndata: <3: Keep alive\n\n");
    let started = Instant::now();
    for seq in 1..=20 {
        tokio::time::sleep_until(started + Duration::from_secs(seq)).await;
        rig.publish(seq, Class::Change, "x");
        let (sent, _) = text(&mut body);
        assert_eq!(sent.contains("Keep alive"), seq % 5 == 0, "{seq}: {sent}");
        assert!(sent.contains("data: x"), "{seq}: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_quiet_keeps_its_heartbeat() {
    let rig = Rig::new();
    let mut body = rig.open(plain(), Resume::First, &[]).await;
    text(&mut body);
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut beats = 0;
    for seq in 1..10 {
        // There is always another event before the stream is polled.
        rig.publish(seq, Class::Change, "x");
        let Poll::Ready(Some(piece)) = poll(&mut body) else { panic!("nothing") };
        beats += usize::from(piece == wire::text(b"<3: Keep alive"));
    }
    assert_eq!(beats, 1);
}

/// The wait in the last piece, and that nothing follows.
fn last_retry_ms(sent: &str) -> Option<u64> {
    let (_, retry) = sent.rsplit_once("retry: ")?;
    retry.strip_suffix("\n\n")?.parse().ok()
}

#[tokio::test]
async fn who_is_to_come_back_is_told_a_different_moment_each() {
    let mut waits = Vec::new();
    for _ in 0..40 {
        let rig = Rig::new();
        let mut body = rig.open(progress(), Resume::First, &[(1, Class::Change)]).await;
        rig.publish(2, Class::Tick, "{}");
        rig.registry.drain();
        let (sent, ended) = text(&mut body);
        assert!(ended && sent.contains(&frame(2)), "what was published comes first: {sent}");
        waits.push(last_retry_ms(&sent).unwrap());
    }
    assert!(waits.iter().all(|wait| (500..=5_000).contains(wait)), "{waits:?}");
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(most - least > 1_000, "they are spread: {waits:?}");
}

#[tokio::test]
async fn a_watcher_that_was_too_slow_is_told_to_come_back() {
    let rig = Rig::new();
    let mut body = rig.open(progress(), Resume::First, &[(1, Class::Change)]).await;
    assert_eq!(pieces(&mut body).0.len(), 2);
    for seq in 2..=2 + HISTORY as u64 {
        rig.publish(seq, Class::Change, "{}");
    }
    let (sent, ended) = text(&mut body);
    assert!(ended && sent.starts_with("retry: ") && last_retry_ms(&sent).is_some(), "{sent}");
}

#[tokio::test]
async fn after_a_gap_all_are_told_to_come_back_spread_out() {
    let rig = Rig::new();
    let mut body = rig.open(progress(), Resume::First, &[(1, Class::Change)]).await;
    assert_eq!(pieces(&mut body).0.len(), 2);
    rig.registry.begin_anew(Seq(1));
    let (sent, ended) = text(&mut body);
    assert!(ended && sent.starts_with("retry: ") && last_retry_ms(&sent).is_some(), "{sent}");
}

#[tokio::test]
async fn a_crowd_is_told_to_come_back_spread_out_and_a_few_are_not() {
    for (watchers, told) in [(CROWD, false), (CROWD + 1, true)] {
        let rig = Rig::new();
        let mut bodies = Vec::new();
        for _ in 0..watchers {
            bodies.push(rig.open(progress(), Resume::First, &[(1, Class::Change)]).await);
        }
        rig.publish(2, Class::Final, "{}");
        let (sent, ended) = text(&mut bodies[0]);
        assert!(ended);
        assert_eq!(!sent.ends_with(&frame(2)), told, "{watchers}: {sent}");
    }
}

#[tokio::test]
async fn who_is_hung_up_on_hears_nothing_more() {
    let rig = Rig::new();
    let mut body = rig.open(plain(), Resume::First, &[]).await;
    text(&mut body);
    rig.hang_up();
    assert_eq!(text(&mut body), (String::new(), true));
    assert!(matches!(poll(&mut body), Poll::Ready(None)), "the end stays the end");
}

#[tokio::test]
async fn open_streams_are_counted_until_they_end_or_are_dropped() {
    let rig = Rig::new();
    let mut ending = rig.open(progress(), Resume::First, &[(1, Class::Change)]).await;
    let dropped = rig.open(progress(), Resume::First, &[]).await;
    assert_eq!((rig.metrics.streams_open.get(), rig.registry.streams()), (2, 2));
    drop(dropped);
    assert_eq!((rig.metrics.streams_open.get(), rig.registry.streams()), (1, 1));
    rig.publish(2, Class::Final, "{}");
    assert!(pieces(&mut ending).1);
    assert_eq!((rig.metrics.streams_open.get(), rig.registry.streams()), (0, 0), "the end gives back its place");
    drop(ending);
    assert_eq!((rig.metrics.streams_open.get(), rig.registry.channels()), (0, 0));
}

#[tokio::test]
async fn what_a_stream_holds_is_let_go_with_it() {
    let rig = Rig::new();
    let load = async || Ok::<_, Infallible>(History::default());
    let (join, mut subscriber) = rig.registry.open(&channel(), Resume::First, load).await.unwrap();
    let held = std::sync::Arc::new(());
    subscriber.hold(std::sync::Arc::clone(&held));
    let mut body = StreamBody::new(&join, subscriber, progress(), rig.metrics.clone());
    assert_eq!(std::sync::Arc::strong_count(&held), 2);
    rig.registry.drain();
    assert!(pieces(&mut body).1);
    assert_eq!(std::sync::Arc::strong_count(&held), 1, "at the end, not only when the body is dropped");
}

#[tokio::test]
async fn all_watchers_of_a_dialect_share_the_bytes_of_an_event() {
    let rig = Rig::new();
    let mut bodies = Vec::new();
    for style in [progress(), progress(), plain(), plain()] {
        bodies.push(rig.open(style, Resume::First, &[(1, Class::Change)]).await);
    }
    bodies.iter_mut().for_each(|body| drop(pieces(body)));
    rig.publish(2, Class::Change, "{}");
    let sent: Vec<Bytes> = bodies.iter_mut().map(|body| pieces(body).0.remove(0)).collect();
    assert_eq!(sent[0].as_ptr(), sent[1].as_ptr());
    assert_eq!(sent[2].as_ptr(), sent[3].as_ptr());
    assert_ne!(sent[0], sent[2]);
}
