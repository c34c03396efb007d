//! The fan-out: what each watcher gets, whenever it joins and however slow it is.

mod bounds;
mod interleavings;
mod joining;
mod pacing;
mod several;
mod view;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::event::{Cursor, Draft, Epoch, Event, HistoryBounds, Timestamp};

pub(super) const INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn epoch() -> Epoch {
    "k3f90000".parse().unwrap()
}

pub(super) fn registry(history: impl Into<HistoryBounds>) -> Registry {
    let limits =
        StreamLimits { history: history.into(), tick_interval: INTERVAL, streams: 100, streams_per_channel: 100 };
    Registry::new(epoch(), limits)
}

pub(super) fn task(nth: u128) -> ChannelName {
    ChannelName::task(Uuid::from_u128(nth))
}

pub(super) fn event_on(channel: &ChannelName, seq: u64, class: Class) -> Event {
    let draft = Draft {
        channel: channel.clone(),
        name: Some("progress".into()),
        class,
        data: Bytes::from_static(b"{}"),
        memo: Some(Bytes::from_static(b"{}")),
        origin: None,
    };
    Event { seq: Seq(seq), at: Timestamp::from_millis(0), group: Uuid::nil(), draft }
}

pub(super) fn history(floor: u64, events: &[(u64, Class)]) -> History {
    let event = |(seq, class): &(u64, Class)| event_on(&task(1), *seq, *class);
    History { floor: Seq(floor), events: events.iter().map(event).collect() }
}

/// Publishes as the tracker does.
pub(super) fn publish(registry: &Registry, seq: u64, class: Class) {
    publish_on(registry, &task(1), seq, class);
}

pub(super) fn publish_on(registry: &Registry, channel: &ChannelName, seq: u64, class: Class) {
    registry.advance(Seq(seq));
    registry.publish(&event_on(channel, seq, class), std::time::Instant::now());
}

pub(super) fn cursor(seq: u64) -> Resume {
    Resume::After(Cursor { epoch: epoch(), seq: Seq(seq) })
}

pub(super) async fn open(registry: &Registry, cursor: Resume, loaded: History) -> (Join, Subscriber) {
    registry.open(&task(1), cursor, async || Ok::<_, Infallible>(loaded)).await.unwrap()
}

/// What can be had now: the seqs of the frames, and what came after them.
pub(super) fn poll_all(subscriber: &mut Subscriber) -> (Vec<u64>, Option<Delivery>) {
    let mut seqs = Vec::new();
    loop {
        match subscriber.poll_next(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(Delivery::Frame(frame)) => seqs.push(frame.seq().0),
            std::task::Poll::Ready(end) => return (seqs, Some(end)),
            std::task::Poll::Pending => return (seqs, None),
        }
    }
}

/// The frames that can be had now, where the stream goes on.
#[track_caller]
pub(super) fn frames(subscriber: &mut Subscriber) -> Vec<u64> {
    let (seqs, end) = poll_all(subscriber);
    assert!(end.is_none(), "it ended: {end:?}");
    seqs
}

pub(super) fn state_of(join: &Join) -> Option<u64> {
    match join {
        Join::First(state) | Join::Reset(state) => state.as_ref().map(|frame| frame.seq().0),
        Join::Waiting | Join::Resumed | Join::Ended => None,
    }
}
