//! Streams of several channels, against a plain oracle: no gap, no duplicate, no stale last state, whatever happens when.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;
use crate::channel::Joined;

const CHANNELS: u128 = 4;

#[derive(Clone, Debug)]
enum Act {
    Publish(u128, Class),
    /// The client takes what is there.
    Read,
    /// The client takes one event.
    ReadOne,
    Pass(u64),
    /// The connection is cut; the client comes back with its cursor.
    Cut,
}

fn any_act() -> impl Strategy<Value = Act> {
    let class = prop_oneof![5 => Just(Class::Tick), 3 => Just(Class::Change), 1 => Just(Class::Notice), 1 => Just(Class::Hidden), 1 => Just(Class::Final)];
    prop_oneof![
        8 => (1..=CHANNELS, class).prop_map(|(channel, class)| Act::Publish(channel, class)),
        2 => Just(Act::Read),
        2 => Just(Act::ReadOne),
        3 => (0u64..120).prop_map(Act::Pass),
        1 => Just(Act::Cut),
    ]
}

/// A client, and what it has been shown.
struct Client {
    registry: Registry,
    journal: Vec<Event>,
    subscriber: Subscriber,
    cursor: Seq,
    /// The last state of each channel that it was shown.
    shown: [Seq; CHANNELS as usize],
    is_over: bool,
}

fn place(name: &ChannelName) -> usize {
    name.id().unwrap().as_u128() as usize - 1
}

async fn connect(registry: &Registry, journal: &[Event], resume: Resume) -> (Joined, Subscriber) {
    let names: Vec<_> = (1..=CHANNELS).map(task).collect();
    let load = async |names: &[ChannelName]| {
        let events = |name| journal.iter().filter(move |event| event.channel() == name && event.class().is_visible());
        let history = |name| History { floor: Seq::ZERO, events: events(name).cloned().collect() };
        Ok::<_, Infallible>(names.iter().map(history).collect())
    };
    registry.open_several(&names.iter().map(Wanted::state).collect::<Vec<_>>(), resume, load).await.unwrap()
}

impl Client {
    async fn new(registry: Registry) -> Self {
        let (joined, subscriber) = connect(&registry, &[], Resume::First).await;
        assert_eq!(joined.position.map(|cursor| cursor.seq), Some(Seq::ZERO));
        let shown = [Seq::ZERO; CHANNELS as usize];
        Self { registry, journal: Vec::new(), subscriber, cursor: Seq::ZERO, shown, is_over: false }
    }

    fn publish(&mut self, channel: u128, class: Class) {
        let name = task(channel);
        let mut of_channel = self.journal.iter().filter(|event| *event.channel() == name);
        if of_channel.any(|event| event.class() == Class::Final) {
            return;
        }
        let event = event_on(&name, self.journal.len() as u64 + 1, class);
        self.journal.push(event.clone());
        self.registry.advance(event.seq);
        drop(self.registry.publish(&event, std::time::Instant::now()));
    }

    fn read_one(&mut self) -> bool {
        match self.subscriber.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Delivery::Frame(frame)) => self.take(&frame),
            Poll::Ready(Delivery::Ended { .. }) => self.is_over = true,
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => return false,
        }
        !self.is_over
    }

    fn take(&mut self, frame: &Frame) {
        let seq = frame.seq();
        assert!(seq > self.cursor, "{seq} after {}", self.cursor);
        let passed = |event: &&Event| event.seq > self.cursor && event.seq < seq;
        let lasting = |event: &&Event| matches!(event.class(), Class::Change | Class::Notice | Class::Final);
        let missed: Vec<_> = self.journal.iter().filter(passed).filter(lasting).map(|event| event.seq).collect();
        assert!(missed.is_empty(), "{missed:?} are passed by {seq}");
        self.cursor = seq;
        if frame.class() != Class::Notice {
            self.shown[place(frame.event().channel())] = seq;
        }
        self.check_nothing_is_passed();
    }

    /// Where the cursor is at or past the last state of a channel, that state was shown.
    fn check_nothing_is_passed(&self) {
        for channel in 1..=CHANNELS {
            let is_state = |event: &&Event| {
                let class = event.class();
                *event.channel() == task(channel) && class.is_visible() && class != Class::Notice
            };
            let last = self.journal.iter().rfind(is_state).map_or(Seq::ZERO, |event| event.seq);
            if last <= self.cursor {
                assert_eq!(self.shown[place(&task(channel))], last, "the last state of {channel} is passed");
            }
        }
    }

    async fn cut(&mut self) {
        let cursor = Cursor { epoch: epoch(), seq: self.cursor };
        let (joined, subscriber) = connect(&self.registry, &self.journal, Resume::After(cursor)).await;
        self.subscriber = subscriber;
        for (name, join) in joined.channels {
            assert!(matches!(join, Join::Resumed | Join::Ended), "{name}: {join:?}");
        }
    }
}

async fn run(acts: Vec<Act>) {
    let registry = registry(1_000);
    let mut background = JoinSet::new();
    let running = registry.clone();
    background.spawn(async move { running.run().await });
    let mut client = Client::new(registry).await;
    for act in acts {
        match act {
            Act::Publish(channel, class) => client.publish(channel, class),
            Act::Read => while client.read_one() {},
            Act::ReadOne => drop(client.read_one()),
            Act::Pass(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Act::Cut => client.cut().await,
        }
    }
    // At the end nothing is left, however often it is cut.
    client.cut().await;
    while client.cursor
        < client.journal.iter().rfind(|event| event.class().is_visible()).map_or(Seq::ZERO, |last| last.seq)
    {
        while client.read_one() {}
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.check_nothing_is_passed();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn several_channels_are_one_sequence(acts in prop::collection::vec(any_act(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            // A run that does not come to its end is to fail.
            tokio::time::timeout(Duration::from_secs(3_600), run(acts)).await.expect("everything arrives");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_come_in_rounds_and_any_other_event_takes_along_what_came_before() {
    let registry = registry(10);
    let mut client = Client::new(registry).await;
    let taken = |client: &mut Client| {
        let before = client.cursor;
        while client.read_one() {}
        (before.0, client.cursor.0)
    };
    client.publish(1, Class::Tick);
    assert_eq!(taken(&mut client), (0, 1), "the first round is at once");
    client.publish(2, Class::Tick);
    client.publish(3, Class::Tick);
    assert_eq!(taken(&mut client), (1, 1), "the next is not due");
    client.publish(4, Class::Change);
    client.publish(2, Class::Tick);
    assert_eq!(taken(&mut client), (1, 4), "the change ends the round; what came after it waits");
    assert_eq!(client.shown.map(|seq| seq.0), [1, 0, 3, 4], "the tick of 2 was replaced before it was due");
    tokio::time::advance(INTERVAL).await;
    assert_eq!(taken(&mut client), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn one_place_is_taken_and_one_channel_too_full_refuses_all() {
    let limits = StreamLimits { history: 3.into(), tick_interval: INTERVAL, streams: 2, streams_per_channel: 1 };
    let registry = Registry::new(epoch(), limits);
    let (_, first) = connect(&registry, &[], Resume::First).await;
    assert_eq!((registry.streams(), registry.channels()), (1, CHANNELS as usize));
    let load = async |names: &[ChannelName]| Ok::<_, Infallible>(names.iter().map(|_| History::default()).collect());
    let refused =
        registry.open_several(&[task(9), task(1)].map(|name| Wanted::state(&name)), Resume::First, load).await;
    assert_eq!(refused.unwrap_err(), WatchError::Refused(StreamRefused::TooManyOnChannel));
    drop(first);
    assert_eq!((registry.streams(), registry.channels()), (0, 0), "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_history_is_gone_is_reset_and_the_others_go_on() {
    let registry = registry(2);
    let mut client = Client::new(registry.clone()).await;
    for (channel, class) in
        [(1, Class::Change), (2, Class::Change), (2, Class::Change), (2, Class::Change), (1, Class::Change)]
    {
        client.publish(channel, class);
    }
    drop(client.subscriber.poll_next(&mut Context::from_waker(Waker::noop())));
    let cursor = Resume::After(Cursor { epoch: epoch(), seq: Seq(1) });
    let (joined, mut subscriber) = connect(&registry, &client.journal, cursor).await;
    let joins: Vec<_> = joined.channels.iter().map(|(_, join)| (join.is_reset(), state_of(join))).collect();
    assert_eq!(joins, [(false, None), (true, Some(4)), (false, None), (false, None)]);
    assert_eq!(joined.position, None, "what is to come on the others is not passed");
    assert_eq!(frames(&mut subscriber), [5]);
}

#[tokio::test]
async fn after_a_gap_a_stream_of_several_is_interrupted_and_not_at_its_end() {
    let registry = registry(100);
    let (_, mut subscriber) = connect(&registry, &[], Resume::First).await;
    registry.begin_anew(Seq::ZERO);
    assert!(matches!(poll_all(&mut subscriber), (_, Some(Delivery::Interrupted))));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_any_channel_and_when_a_tick_is_due() {
    let registry = registry(100);
    let (_, mut subscriber) = connect(&registry, &[], Resume::First).await;
    let (sender, mut received) = tokio::sync::mpsc::channel(10);
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Delivery::Frame(frame) = subscriber.next().await {
            sender.send((frame.seq().0, began.elapsed().as_millis())).await.unwrap();
        }
    });
    tokio::task::yield_now().await;
    for (channel, seq, class, at) in [(3, 1, Class::Change, 0), (2, 2, Class::Tick, 50), (3, 3, Class::Change, 50)] {
        publish_on(&registry, &task(channel), seq, class);
        registry.publish_through(Seq(seq));
        let next = tokio::time::timeout(Duration::from_secs(60), received.recv()).await;
        assert_eq!(next, Ok(Some((seq, at))));
    }
}
