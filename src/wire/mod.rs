//! The bytes: how an event looks on a stream. The only place that writes `data:`.
//!
//! An event is encoded at most once a dialect, on first use, and all watchers share the bytes. This module knows
//! envelopes and framing; it must not know what the data says, nor who watches.

mod document;
mod parse;
mod sse;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use document::with_members;
pub use parse::{Parsed, Parser};
pub use sse::{COMMENT, refused, reset, retry, text};

use crate::event::{Class, Cursor, Epoch, Event, Seq};

/// The framing that a route promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `id`, `event: progress`, and the whole state with its cursor as data.
    Progress,
    /// Unnamed, without id; text or JSON as given.
    Plain,
}

/// A visible event with its bytes.
#[derive(Debug)]
pub struct Frame {
    cursor: Cursor,
    event: Event,
    decided: Option<Instant>,
    progress: OnceLock<Bytes>,
    plain: OnceLock<Bytes>,
}

impl Frame {
    /// A frame of this event; nothing is encoded yet. `decided` is when it was decided, where that was a moment ago.
    pub fn new(epoch: Epoch, event: Event, decided: Option<Instant>) -> Self {
        Self {
            cursor: Cursor { epoch, seq: event.seq },
            event,
            decided,
            progress: OnceLock::new(),
            plain: OnceLock::new(),
        }
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
        let draft = &self.event.draft;
        match dialect {
            Dialect::Progress => self.progress.get_or_init(|| sse::named(self.cursor, draft)),
            Dialect::Plain => self.plain.get_or_init(|| sse::text(&draft.data)),
        }
        .clone()
    }
}

#[cfg(test)]
mod tests;
