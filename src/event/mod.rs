//! The envelope: what the journal stores and what channels fan out.
//!
//! A leaf: it uses nothing of ours. It knows that an event happened on a channel and how it may be treated
//! (kept, merged, hidden); it does not know what a task is, nor how an event looks on the wire.

mod channel_name;
mod cursor;
mod epochs;
mod history_bounds;
mod name;
mod time;

pub use channel_name::{ChannelKind, ChannelName, InvalidName, NAME_BYTES_MAX, check_name};
pub use cursor::{Cursor, Epoch, InvalidCursor, Resume, Seq};
pub use epochs::Epochs;
pub use history_bounds::{HistoryBounds, HistorySize};
pub use name::Name;
pub use time::Timestamp;

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

/// How an event may be treated by those who store and send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A visible change; it is never dropped, at most trimmed with the channel's floor raised.
    Change,
    /// A visible change of which only the latest matters; it may be merged into a later one.
    Tick,
    /// A visible event that is not the state of its channel, such as a text, a notification or a broadcast: kept like a
    /// change, but never a snapshot.
    Notice,
    /// The last visible event of its channel; it ends every stream.
    Final,
    /// Counts for conditions, but has no frame and does not move what a reader sees (a lease renewal).
    Hidden,
    /// The channel is forgotten; only the fact that it was there remains for a while.
    Tombstone,
    /// One that this version does not know, by its number: a newer one writes to the same store. Stores keep it as they
    /// keep a change (what is to be kept in another way needs a new version of the stores), but nobody is shown it, and
    /// nothing is decided upon it.
    Unknown(u8),
}

impl Class {
    /// Whether watchers get a frame for it.
    pub fn is_visible(self) -> bool {
        matches!(self, Self::Change | Self::Tick | Self::Notice | Self::Final)
    }

    /// Whether this version knows it.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Its number in stores. Never reuse a number.
    pub fn code(self) -> u8 {
        match self {
            Self::Change => 1,
            Self::Tick => 2,
            Self::Final => 3,
            Self::Hidden => 4,
            Self::Tombstone => 5,
            Self::Notice => 6,
            Self::Unknown(code) => code,
        }
    }

    /// The class with this number; `None` where no version can have written it.
    pub fn from_code(code: i64) -> Option<Self> {
        let code = u8::try_from(code).ok().filter(|code| *code > 0)?;
        let known = [Self::Change, Self::Tick, Self::Final, Self::Hidden, Self::Tombstone, Self::Notice];
        Some(known.into_iter().find(|class| class.code() == code).unwrap_or(Self::Unknown(code)))
    }
}

/// The name in an SSE frame's `event:` field, such as `progress`; an event without one is an unnamed message.
pub type EventName = Cow<'static, str>;

/// What is to be appended to one channel; it becomes an [`Event`] when the journal gives it a [`Seq`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The channel on which it happens.
    pub channel: ChannelName,
    /// The name in its frame.
    pub name: Option<EventName>,
    /// How it may be treated.
    pub class: Class,
    /// The whole visible state after it (JSON), or the text as given; empty when hidden.
    pub data: Bytes,
    /// The private state of the channel's owner after it (JSON), never framed; `None` leaves the earlier one in force.
    pub memo: Option<Bytes>,
    /// What never changes (JSON), given with the first event of a channel only, so that later rows stay small.
    pub origin: Option<Bytes>,
}

/// One thing that happened on one channel. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the journal.
    pub seq: Seq,
    /// When the journal's writer decided it.
    pub at: Timestamp,
    /// The group with which it was committed, all or nothing.
    pub group: Uuid,
    /// What happened.
    pub draft: Draft,
}

/// The visible events that are kept of one channel, or those of them after a seq.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The seq of the last event other than a tick that was trimmed; zero when none was.
    pub floor: Seq,
    /// The events in seq order; `memo` and `origin` are left out. One at or below the floor is the value of a topic.
    pub events: Vec<Event>,
}

impl History {
    /// Whether this version knows all that is in it.
    pub fn is_known(&self) -> bool {
        self.events.iter().all(|event| event.class().is_known())
    }
}

impl Event {
    /// The channel on which it happened.
    pub fn channel(&self) -> &ChannelName {
        &self.draft.channel
    }

    /// How it may be treated.
    pub fn class(&self) -> Class {
        self.draft.class
    }

    /// What it counts in a history: the bytes of its data and its name.
    pub fn size_bytes(&self) -> u64 {
        (self.draft.data.len() + self.draft.name.as_ref().map_or(0, |name| name.len())) as u64
    }
}
