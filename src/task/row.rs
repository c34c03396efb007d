//! What the table holds of one channel, and how it follows from events.

use std::sync::Arc;

use super::{
    key::Keyed,
    state::{Entry, InvalidEvent},
};
use crate::event::{ChannelKind, Class, Event, Seq};

/// What the table holds of one channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A task.
    Task(Arc<Entry>),
    /// An idempotency key, and what it stands for.
    Key(Keyed),
    /// It was deleted.
    Gone,
    /// Its last event is not what this version writes: a newer version may have written it.
    Unreadable,
}

impl Row {
    /// Reads the row of a channel after one more event, the first where there was none; `None` for channels that the
    /// table does not hold.
    ///
    /// # Errors
    /// When the event does not hold what this version writes.
    pub fn after(before: Option<&Self>, event: &Event) -> Result<Option<Self>, InvalidEvent> {
        Ok(Some(match event.channel().kind() {
            ChannelKind::User
            | ChannelKind::Inbox
            | ChannelKind::Group
            | ChannelKind::Topic
            | ChannelKind::Node
            | ChannelKind::Shared
            | ChannelKind::Unknown => {
                return Ok(None);
            }
            _ if !event.class().is_known() => return Err(InvalidEvent(event.seq)),
            ChannelKind::Task | ChannelKind::Key if event.class() == Class::Tombstone => Self::Gone,
            ChannelKind::Task => Self::Task(Arc::new(match before {
                Some(Self::Task(entry)) => Entry::clone(entry).followed_by(event)?,
                _ => Entry::from_first(event)?,
            })),
            ChannelKind::Key => Self::from_key_memo(event.seq, event.draft.memo.as_deref().unwrap_or_default())?,
        }))
    }

    /// Reads the row of an idempotency key from its memo.
    ///
    /// # Errors
    /// When it does not hold what this version writes.
    pub fn from_key_memo(seq: Seq, memo: &[u8]) -> Result<Self, InvalidEvent> {
        Keyed::read(seq, memo).map(Self::Key)
    }

    /// The task, if it is one.
    pub fn task(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Task(entry) => Some(entry),
            Self::Key(_) | Self::Gone | Self::Unreadable => None,
        }
    }

    /// The row now that an event which it was decided with has got its place.
    pub fn placed(&mut self, seq: Seq, class: Class) {
        match self {
            // Nobody else has it yet, so nothing is copied.
            Self::Task(entry) => Arc::make_mut(entry).placed(seq, class),
            Self::Key(keyed) => keyed.placed(seq),
            Self::Gone | Self::Unreadable => {}
        }
    }
}
