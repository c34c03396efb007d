//! Reading: never behind the writer. Memory answers for what is live, the journal for the rest.

use std::sync::Arc;

use uuid::Uuid;

use super::{Counts, Tracker, TrackerError};
use crate::{
    event::{ChannelKind, ChannelName, Cursor, Seq},
    journal::{Listing, Member, Stored},
    task::{Entry, Refusal, Row, Status},
};

/// What is known of a task.
#[derive(Clone, Debug)]
pub enum Found {
    /// It is there.
    Task(Arc<Entry>),
    /// It was there.
    Gone,
    /// It never was, or that was long ago.
    Unknown,
}

impl Found {
    /// The task.
    ///
    /// # Errors
    /// When it is not there.
    pub fn entry(self) -> Result<Arc<Entry>, Refusal> {
        match self {
            Self::Task(entry) => Ok(entry),
            Self::Gone => Err(Refusal::Gone),
            Self::Unknown => Err(Refusal::NotFound),
        }
    }
}

/// Which tasks to list. An empty list of values lets all through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskFilter {
    /// With one of these statuses.
    pub statuses: Vec<Status>,
    /// Of one of these kinds.
    pub kinds: Vec<String>,
    /// Of one of these users.
    pub user_ids: Vec<String>,
    /// In one of these queues.
    pub queues: Vec<String>,
    /// Whether the list comes with counts of all tasks.
    pub has_counts: bool,
}

impl Default for TaskFilter {
    fn default() -> Self {
        Self { statuses: vec![], kinds: vec![], user_ids: vec![], queues: vec![], has_counts: true }
    }
}

impl TaskFilter {
    /// Whether the list with this filter has this task.
    pub fn matches(&self, entry: &Entry) -> bool {
        fn has<T: PartialEq>(wanted: &[T], value: Option<&T>) -> bool {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
        }
        let task = &entry.task;
        has(&self.statuses, Some(&task.status))
            && has(&self.kinds, Some(&task.kind))
            && has(&self.user_ids, task.user_id.as_ref())
            && has(&self.queues, Some(&task.queue))
    }
}

/// A page of the list, newest first.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// The tasks.
    pub tasks: Vec<Entry>,
    /// Where the next page begins: after the task that was created at this seq.
    pub next: Option<Seq>,
}

impl Tracker {
    /// Looks for a task.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, id: Uuid) -> Result<Found, TrackerError> {
        let channel = ChannelName::task(id);
        match self.shared.table().row(&channel) {
            Some(Row::Task(entry)) => return Ok(Found::Task(Arc::clone(entry))),
            Some(Row::Unreadable) => return Err(Refusal::Unreadable.into()),
            Some(_) => return Ok(Found::Gone),
            None => {}
        }
        self.find_stored(id).await
    }

    /// The same after all that other nodes have written, of which the table may not have heard yet.
    ///
    /// # Errors
    /// When the store does not answer, or this version cannot read the task.
    pub async fn find_stored(&self, id: Uuid) -> Result<Found, TrackerError> {
        match self.shared.journal.last(&ChannelName::task(id)).await? {
            None => Ok(Found::Unknown),
            Some(stored) if stored.gone => Ok(Found::Gone),
            Some(stored) => Ok(Found::Task(Arc::new(entry(&stored)?))),
        }
    }

    /// Whether a cursor is of a later state than this one, as another node may have told it.
    pub fn is_after(&self, cursor: Cursor, entry: &Entry) -> bool {
        cursor.seq > entry.visible && self.shared.journal.epochs().know(cursor)
    }

    /// Asks the store whether it is there.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn check(&self) -> Result<(), TrackerError> {
        Ok(self.shared.journal.check().await?)
    }

    /// Lists tasks, newest first, created before the given seq.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, filter: TaskFilter, before: Option<Seq>, limit: usize) -> Result<ListPage, TrackerError> {
        let statuses = filter.statuses.iter().map(ToString::to_string).collect();
        let members = [
            (Member::Status, statuses),
            (Member::Kind, filter.kinds),
            (Member::UserId, filter.user_ids),
            (Member::Queue, filter.queues),
        ];
        let listing = Listing {
            kind: ChannelKind::Task,
            members: members.into_iter().filter(|(_, values)| !values.is_empty()).collect(),
            created_before: before,
            limit: limit + 1,
        };
        let mut stored = self.shared.journal.list(listing).await?;
        let more = stored.len() > limit;
        stored.truncate(limit);
        let next = stored.last().filter(|_| more).map(|last| last.created);
        // One that this version cannot read is left out; the others are listed.
        Ok(ListPage { tasks: stored.iter().filter_map(|stored| entry(stored).ok()).collect(), next })
    }

    /// How many channels hold what this version cannot read, as far as they were met.
    pub fn unreadable(&self) -> usize {
        self.shared.table().unreadable() + self.shared.unknown.count()
    }

    /// How many tasks have each status, over all that are known.
    pub fn counts(&self) -> Counts {
        self.shared.lists.counts()
    }

    /// The oldest pending tasks of a kind, at most `limit`.
    pub fn pending(&self, kind: &str, limit: usize) -> Vec<Arc<Entry>> {
        self.shared.table().pending(kind).take(limit).cloned().collect()
    }

    /// A task that is in memory.
    pub fn live(&self, id: Uuid) -> Option<Arc<Entry>> {
        self.shared.table().get(id).cloned()
    }

    /// The tasks whose lease this holder has.
    pub fn leased_to(&self, holder: &str) -> Vec<Uuid> {
        let table = self.shared.table();
        let held = table.leased(None, |lease| lease.holder == holder);
        let mut tasks: Vec<_> = held.filter_map(|(_, entry)| Some(entry?.task.task_id)).collect();
        tasks.sort_unstable();
        tasks
    }
}

/// Reads a task from its row. The store answers for it that it is as it was written.
pub(super) fn entry(stored: &Stored) -> Result<Entry, Refusal> {
    match (&stored.visible, &stored.memo, &stored.origin) {
        (Some(visible), Some(memo), Some(origin)) if stored.is_known() => {
            Entry::from_kept(stored.created, stored.last, visible, memo, origin).map_err(|_| Refusal::Unreadable)
        }
        _ => Err(Refusal::Unreadable),
    }
}
