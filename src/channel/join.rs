//! How a watcher begins: what it asks for, and what it is given first.
//!
//! Values only; the log decides how one begins (`backlog.rs`).

use std::sync::Arc;

use crate::{
    event::{ChannelName, Cursor, Seq, Timestamp},
    wire::Frame,
};

/// A channel that is to be watched.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The channel.
    pub channel: ChannelName,
    /// Which of its events wait for this watcher; `None` for a channel whose state is shown.
    pub waiting: Option<WaitingSince>,
}

impl Wanted {
    /// A channel whose state is shown.
    pub fn state(channel: &ChannelName) -> Self {
        Self { channel: channel.clone(), waiting: None }
    }
}

/// Which events of a channel wait for a watcher.
#[derive(Clone, Copy, Debug)]
pub struct WaitingSince {
    /// Those after it, if the watcher has no cursor.
    pub seen: Seq,
    /// None at or before it, whatever the cursor.
    pub joined: Seq,
    /// None that are older.
    pub not_before: Timestamp,
}

/// How a watcher of several channels begins.
#[derive(Clone, Debug)]
pub struct Joined {
    /// How it begins on each.
    pub channels: Vec<(ChannelName, Join)>,
    /// Where it stands once it has been shown that; `None` where it goes on from where it was on some of them.
    pub position: Option<Cursor>,
    /// Whether events at or before that position wait for it: it stands there only after them.
    pub has_waiting: bool,
}

/// How a watcher begins.
#[derive(Clone, Debug)]
pub enum Join {
    /// With the current state, where there is one.
    First(Option<Arc<Frame>>),
    /// With what waits for it.
    Waiting,
    /// With what comes after its cursor.
    Resumed,
    /// Its cursor is of no use: with the current state, declared as a reset.
    Reset(Option<Arc<Frame>>),
    /// It has seen the end.
    Ended,
}

impl Join {
    /// The state that is shown first, where there is one.
    pub fn state(&self) -> Option<&Arc<Frame>> {
        match self {
            Self::First(state) | Self::Reset(state) => state.as_ref(),
            Self::Waiting | Self::Resumed | Self::Ended => None,
        }
    }

    /// The same, where nothing is shown first.
    pub(super) fn without_state(self) -> Self {
        match self {
            Self::First(_) => Self::First(None),
            Self::Reset(_) => Self::Reset(None),
            other => other,
        }
    }

    /// Whether what the watcher knew is void.
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Reset(_))
    }
}
