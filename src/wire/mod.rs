//! The bytes: how an event looks on a stream. The only place that writes `data:`.
//!
//! An event is encoded at most once a dialect, on first use, and all watchers share the bytes. This module knows
//! envelopes and framing; it must not know what the data says, nor who watches.

mod json_object;
mod sse;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::de::IgnoredAny;

pub use json_object::with_members;
pub use sse::{COMMENT, event, position, refused, reset, retry, text};

use crate::event::{ChannelKind, Class, Cursor, Draft, Epoch, Event, Seq};

/// The framing that a route promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `event`, the whole state with its cursor as data, `id`.
    Progress,
    /// Unnamed, without id; text or JSON as given.
    Plain,
    /// `event`, text or JSON as given, `id`.
    Named,
    /// Unnamed; the channel's name and the text or JSON in one object, `id`.
    Multiplexed,
}

impl Dialect {
    /// All of them, in their order.
    const ALL: [Self; 4] = [Self::Progress, Self::Plain, Self::Named, Self::Multiplexed];
}

/// A visible event with its bytes.
#[derive(Debug)]
pub struct Frame {
    cursor: Cursor,
    event: Event,
    decided: Option<Instant>,
    encoded: [OnceLock<Bytes>; Dialect::ALL.len()],
}

impl Frame {
    /// A frame of this event; nothing is encoded yet. `decided` is when it was decided, where that was a moment ago.
    pub fn new(epoch: Epoch, event: Event, decided: Option<Instant>) -> Self {
        Self { cursor: Cursor { epoch, seq: event.seq }, event, decided, encoded: Default::default() }
    }

    /// The event's place in the journal.
    pub fn seq(&self) -> Seq {
        self.cursor.seq
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// How it may be treated.
    pub fn class(&self) -> Class {
        self.event.class()
    }

    /// How long ago it was decided; `None` for one that was loaded from the journal.
    pub fn age(&self) -> Option<Duration> {
        self.decided.map(|decided| decided.elapsed())
    }

    /// Its bytes in a dialect, ready for the socket.
    pub fn bytes(&self, dialect: Dialect) -> Bytes {
        let id = (dialect != Dialect::Plain).then_some(self.cursor);
        self.encoded[dialect as usize].get_or_init(|| self.encode(dialect, id)).clone()
    }

    /// Its bytes as a state that is shown first, where the stream stands at `id` afterwards.
    pub fn snapshot(&self, dialect: Dialect, id: Option<Cursor>) -> Bytes {
        self.encode(dialect, id)
    }

    /// Its text or JSON in one object with its channel's name.
    pub fn addressed(&self) -> Bytes {
        let data = &self.event.draft.data;
        let is_json = serde_json::from_slice::<IgnoredAny>(data).is_ok();
        // A string always has a JSON text.
        let text = || serde_json::to_vec(&String::from_utf8_lossy(data)).unwrap_or_default();
        let data = if is_json { data.clone() } else { text().into() };
        with_members(b"{}", [("channel", format!("\"{}\"", self.event.channel().shown()).as_bytes()), ("data", &data)])
    }

    fn encode(&self, dialect: Dialect, id: Option<Cursor>) -> Bytes {
        let Draft { name, data, channel, .. } = &self.event.draft;
        match dialect {
            Dialect::Progress if channel.kind() == ChannelKind::Task => {
                let data = with_members(data, [("cursor", format!("\"{}\"", self.cursor).as_bytes())]);
                sse::event(name.as_deref(), &data, id)
            }
            Dialect::Progress | Dialect::Named => sse::event(name.as_deref(), data, id),
            Dialect::Plain => sse::event(None, data, id),
            Dialect::Multiplexed => sse::event(None, &self.addressed(), id),
        }
    }
}

#[cfg(test)]
mod tests;
