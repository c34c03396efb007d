//! The rows of a store on their way from one journal into another.

use super::{Members, Stored};
use crate::event::{Event, HistorySize, Seq, Timestamp};

/// A channel with what its journal counts of it.
#[derive(Clone, Debug)]
pub struct MovedChannel {
    pub(crate) stored: Stored,
    pub(crate) last_at: Timestamp,
    pub(crate) size: HistorySize,
    pub(crate) tick: Seq,
    pub(crate) members: Members,
}

/// An event in the history of the channel that was created at a seq.
#[derive(Clone, Debug)]
pub struct MovedEvent {
    pub(crate) channel: Seq,
    pub(crate) event: Event,
}
