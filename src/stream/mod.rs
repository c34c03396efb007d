//! The stream: one SSE response. It joins a channel for one watcher and turns deliveries into bytes.
//!
//! The bytes themselves come from [`crate::wire`]; this module decides their order: the opening, the current state or
//! a reset, then each delivery at once, heartbeats in between, and a last word at the end. It must not know what an
//! event says, nor which route asked for it.

mod body;
mod leash;

use std::time::Duration;

use bytes::Bytes;

use crate::{
    channel::{Join, Joined},
    event::{ChannelName, Cursor},
    wire::{self, Dialect},
};

pub use body::StreamBody;
pub use leash::Leash;

/// Shortest wait that clients are told before they connect again, when the service ends their stream.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// More watchers than this are told to come back spread out, so that they do not all ask at once.
const CROWD: usize = 16;

/// How a route wants its streams.
#[derive(Clone, Debug)]
pub struct Style {
    /// The framing.
    pub dialect: Dialect,
    /// Bytes before anything else.
    pub opening: Vec<Bytes>,
    /// Whether the current state is shown first; where not, a watcher without a cursor gets what comes from now on.
    pub shows_state: bool,
    /// What keeps it alive.
    pub heartbeat: Heartbeat,
}

/// What keeps a stream alive.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// How often.
    pub every: Duration,
    /// What is sent.
    pub bytes: Bytes,
    /// Whether it is sent only where nothing else was for so long.
    pub when_quiet: bool,
}

impl Heartbeat {
    /// A comment on a quiet stream.
    pub fn comment(every: Duration) -> Self {
        Self { every, bytes: wire::COMMENT, when_quiet: true }
    }
}

impl Style {
    /// The bytes that come before the first delivery on one channel.
    fn opening(&self, channel: &ChannelName, join: &Join) -> Vec<Bytes> {
        let mut opening = self.opening.clone();
        opening.extend(join.is_reset().then(|| wire::reset(channel)));
        let state = join.state().filter(|_| self.shows_state);
        opening.extend(state.map(|frame| frame.bytes(self.dialect)));
        opening
    }

    /// The bytes that come before the first delivery on several channels: a state each, and where the watcher stands after
    /// them. Where events wait for the watcher, it stands there only once they are delivered, too; without states, the
    /// ids of these events tell.
    fn opening_of_several(&self, joined: &Joined) -> (Vec<Bytes>, Option<Cursor>) {
        let mut opening = self.opening.clone();
        let last = joined.channels.iter().rposition(|(_, join)| join.state().is_some());
        let position = joined.position.filter(|_| !joined.has_waiting);
        for (nth, (channel, join)) in joined.channels.iter().enumerate() {
            opening.extend(join.is_reset().then(|| wire::reset(channel)));
            let id = position.filter(|_| Some(nth) == last);
            opening.extend(join.state().map(|frame| frame.snapshot(self.dialect, id)));
        }
        opening.extend(position.filter(|_| last.is_none() && self.dialect.has_ids()).map(wire::position));
        (opening, joined.position.filter(|_| joined.has_waiting && last.is_some()))
    }
}

/// A wait between half a second and five, different each time.
pub fn jittered_retry() -> Duration {
    let span_ms = (RETRY_MAX - RETRY_MIN).as_millis();
    let random = uuid::Uuid::new_v4().as_u128() % span_ms;
    RETRY_MIN + Duration::from_millis(random as u64)
}

#[cfg(test)]
mod tests;
