//! The journal: the durable, totally ordered log of events. The truth.
//!
//! This page is its contract; one suite (`contract/`) holds every implementation to it. A journal stores envelopes
//! and the last state of each channel; it does not know what a task is. It never assumes that it has one writer only,
//! and neither may its callers.
//!
//! # Appending
//! [`Journal::append`] takes groups. A group is all or nothing, has an id that is stored with its events, and says what
//! it expects of channels. Groups are tried in order: one whose expectation does not hold, counting the groups before
//! it in the same call, is left out as [`Outcome::Conflict`], and the others commit together. When the call returns,
//! what was committed has reached the disk.
//!
//! The answer brings all events after the caller's `known_head`, others' events first-hand too, through the last one
//! of the caller's, in seq order; where nothing of the caller's was written, through the head, so that a group that
//! conflicted can be decided again. A caller changes its own state from these only.
//!
//! Where the answer was lost on the way, the outcome is [`Outcome::Unknown`]: the group may be committed or not. Appending
//! the same group (same id) again is then safe: a group whose id is found after `known_head` is answered as committed
//! and not written twice. So whoever only wants to hear what is new appends a group without drafts: no outcome would say that
//! the answer to no groups was lost.
//!
//! # Folding and trimming
//! Behind the log stand one row a channel ([`Stored`]) and the channel's history of visible events, both folded from
//! the log in slices off the hot path; [`Journal::last`], [`Journal::last_many`], [`Journal::read`], [`Journal::list`],
//! [`Journal::live`] and [`Journal::finished_before`] answer as though the fold had caught up.
//!
//! A channel's history loses ticks that a later tick replaced. Of its changes, notices and finals it keeps the longest
//! end that is within two bounds, on their count and on the bytes of their data and names; the newest of them is kept
//! however big it is. So all histories are bounded in bytes: by that bound, one such event, one tick and, of a topic, its
//! newest change at or below the floor, which may be its value. The channel's `floor` rises to the last event other than
//! a tick that was trimmed. The last visible event is always kept, unless [`Journal::trim`] was asked for. Where a bound is
//! lowered between two starts, no read brings more than the lower bound on bytes. A tombstone empties the history and
//! lifts the floor to itself, and its memo is in the log only; a channel that gets an event after its tombstone begins anew,
//! above that floor.
//!
//! The log itself keeps its newest events whole, ticks and hidden ones too, up to a bound, for [`Journal::tail`] and
//! for finding group ids. Older ones are trimmed, but none above [`Journal::folded_through`]. An append
//! with a `known_head` below which the log was trimmed is [`JournalError::Lapsed`].
//!
//! # Epochs
//! Each life of a store has an epoch: the cursors of what is appended from then on have its name, and those of what was
//! written before stay the same. A life begins wherever what was committed last may have been lost: of an embedded store
//! with each start, of a shared one when its server starts, it is restored or a standby is promoted, but not when one of its
//! nodes starts.
//! A store that is an older copy of itself begins another epoch than the one that was lost.
//!
//! A shared store may begin a life while it is in use: [`Journal::epochs`] and its clones know it from then on. Unless the
//! new life has all that was ever answered here, what the caller knows may be what was lost: so each append is
//! [`JournalError::Lapsed`] until the caller has loaded the channels anew and says so with [`Journal::adopt`].
//!
//! # Newer versions
//! A newer version may write to the same store what this one does not know. An event of another class
//! ([`Unknown`](crate::event::Class::Unknown)) is kept like a change, without [`Member`]s; a channel of another kind ([`ChannelKind::Unknown`])
//! like any other, and [`Journal::finished_before`] leaves it out: how long it is kept is not known here. So nothing of it
//! is lost, and it stops nobody who does not ask for it.
//!
//! # Other nodes
//! [`Journal::follow`] brings what other nodes have appended; a caller changes its state from it as from the answer to an
//! append. Leases and all else that ends by time are judged by [`Journal::time`], whatever the clock of a node says.

mod column;
mod member;
mod moved;
pub mod postgres;
pub mod sqlite;

#[cfg(test)]
mod contract;

pub use member::Member;
pub(crate) use member::Members;
pub use moved::{MovedChannel, MovedEvent};

use async_trait::async_trait;
use uuid::Uuid;

use crate::event::{ChannelKind, ChannelName, Draft, Epoch, Epochs, Event, History, Seq, Timestamp};
use bytes::Bytes;

/// Most tombstones that one [`Journal::sweep`] removes and most channels that one [`Journal::trim`] trims, so that no
/// append waits long for it.
pub const SWEEP_MAX: usize = 256;

/// What a group expects of one channel when it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The channel's last event, hidden ones and tombstones too, has this seq.
    At(Seq),
    /// The channel has never had an event, or its tombstone has been swept.
    Absent,
}

/// Events that are committed all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Unique; stored with each of its events.
    pub id: Uuid,
    /// When it was decided; the `at` of each of its events.
    pub at: Timestamp,
    /// What must hold; a channel that is not named here may be in any state.
    pub expects: Vec<(ChannelName, Expect)>,
    /// What is appended, in this order.
    pub drafts: Vec<Draft>,
}

/// What became of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on the disk.
    Committed,
    /// An expectation did not hold on this channel; nothing of the group was written.
    Conflict(ChannelName),
    /// The answer was lost; the group's id tells, see the module's page.
    Unknown,
}

/// The answer to [`Journal::append`].
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// One a group, in the order in which they were given.
    pub outcomes: Vec<Outcome>,
    /// All events after `known_head` through the last one appended, in seq order; none where an outcome is unknown.
    pub events: Vec<Event>,
}

/// The state of one channel: its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The channel.
    pub channel: ChannelName,
    /// Seq of its first event (after its tombstone, when it began anew).
    pub created: Seq,
    /// Seq of its last event of any class: what [`Expect::At`] compares with.
    pub last: Seq,
    /// Seq of the last change, final or tombstone that was trimmed; zero when none was. Trimmed ticks do not lift it, since
    /// a later tick stands for them, nor do hidden events, since nobody is shown them.
    pub floor: Seq,
    /// The last visible event, or one after it of a class that this version does not know (its `memo` and `origin` are
    /// left out).
    pub visible: Option<Event>,
    /// The newest memo.
    pub memo: Option<Bytes>,
    /// What the first event gave.
    pub origin: Option<Bytes>,
    /// When its final event was decided.
    pub finished_at: Option<Timestamp>,
    /// Whether its last event is a tombstone; then `visible`, `memo` and `origin` are absent, and `floor` is `last`.
    pub gone: bool,
}

impl Stored {
    /// Whether this version knows what its last visible event is.
    pub fn is_known(&self) -> bool {
        self.visible.as_ref().is_none_or(|event| event.class().is_known())
    }
}

/// What [`Journal::tail`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Every event after the seq asked for, hidden ones too, in seq order, up to the limit.
    Events(Vec<Event>),
    /// Some events after it have been trimmed from the log: load the channels anew.
    Lapsed,
}

/// Which channels to list, newest first by [`Stored::created`]. Tombstones are never listed.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Of this kind.
    pub kind: ChannelKind,
    /// Only those whose visible state (JSON) has one of the values (strings) at each of these members.
    pub members: Vec<(Member, Vec<String>)>,
    /// Only those created before this seq.
    pub created_before: Option<Seq>,
    /// At most so many.
    pub limit: usize,
}

/// The answer to [`Journal::count`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// After all events through this one, and none later.
    pub through: Seq,
    /// Each value, with how many channels have it.
    pub values: Vec<(String, u64)>,
}

/// Why a call to a journal failed. Nothing of the call was committed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no room left on the disk.
    #[error("the disk is full")]
    Full,
    /// The store does not answer; trying again later may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Some events after `known_head` have been trimmed from the log, or the store has begun another life: load the
    /// channels anew, then decide again.
    #[error("events after the known head have been trimmed")]
    Lapsed,
    /// The store answered with something that it cannot have been given.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// A journal; see the module's page for the contract.
///
/// # Cancel safety
/// An append whose future is dropped may or may not commit; no read changes anything.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// The epochs of this store. What was written before the last began keeps its own.
    fn epochs(&self) -> &Epochs;

    /// The name of this node among those that share the store; an embedded store has one node, without a name.
    fn node(&self) -> Option<&str> {
        None
    }

    /// What time it is by the clock of the store, which all nodes share; `None` where the node's own is the only one.
    fn time(&self) -> Option<Timestamp> {
        None
    }

    /// What the caller appends from now on is decided upon what it has loaded in this epoch.
    fn adopt(&self, _epoch: Epoch) {}

    /// What others have appended after the caller's head, at most `limit` events, once there is something.
    /// [`Tail::Lapsed`] where the caller is to load the channels anew. Nobody else writes to an embedded store.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing. One caller at a time.
    async fn follow(&self, _known_head: Seq, _limit: usize) -> Tail {
        std::future::pending().await
    }

    /// Everything at or before it is in the channels' rows.
    fn folded_through(&self) -> Seq;

    /// Seq of the last event; never goes back, also after trimming and restart.
    async fn head(&self) -> Result<Seq, JournalError>;

    /// Whether an append would work now.
    async fn check(&self) -> Result<(), JournalError> {
        self.head().await.map(drop)
    }

    /// Appends groups; see the module's page. A `known_head` above the head is [`JournalError::Damaged`]: this store
    /// cannot have given it.
    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError>;

    /// All events after a seq, at most `limit`.
    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError>;

    /// The kept visible events of one channel after a seq. Ticks that a later tick replaced may or may not be among them.
    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError>;

    /// The same of many channels, from their beginning: one answer each, in their order.
    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError>;

    /// The state of one channel, or `None` when it has never had an event or its tombstone was swept.
    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError>;

    /// What [`Journal::last`] answers for each of these channels, in their order, all of one moment.
    ///
    /// This is for whoever appends: it never waits for the reads of others.
    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError>;

    /// The states of many channels.
    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError>;

    /// How many channels of a kind have each value of a member, tombstones left out.
    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Counted, JournalError>;

    /// The channels of a kind that have neither a final event nor a tombstone, oldest first by [`Stored::created`], created
    /// after a seq, at most `limit`. An empty answer means that there are no more.
    ///
    /// A page need not be of one moment: a caller who restores from it then follows the events after a head that it asked
    /// for before.
    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError>;

    /// Channels of kinds that are known with a final event decided before `at` and no tombstone yet, oldest finish first (then oldest creation),
    /// at most `limit`, with the seq of their last event.
    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError>;

    /// Removes the oldest tombstones decided before `at`, at most `limit` and at most [`SWEEP_MAX`]; then these channels
    /// are as though they had never been. A tombstone that is not folded may stay until it is.
    ///
    /// Answers whether there may be more: the caller comes again, and lets others go first.
    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError>;

    /// Trims from the histories of channels of a kind what was decided before `at`, the oldest first and up to the first
    /// event that was not, and raises their floors. Only live channels that were created after a seq, in that order, at
    /// most `limit` and at most [`SWEEP_MAX`]. What is not folded may stay.
    ///
    /// Answers after which channel there may be more: the caller comes again, and lets others go first.
    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError>;

    /// Folds what is left and closes the store. Later calls answer [`JournalError::Unavailable`].
    async fn close(&self) -> Result<(), JournalError>;
}
