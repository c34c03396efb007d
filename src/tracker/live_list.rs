//! Live lists: what changes among the tasks that match a filter, for any number of watchers at a bounded cost; and how
//! many tasks have each status.
//!
//! There is one view for each distinct filter that is watched; the writer checks each change once against each of these.
//! This module must not know how a page is made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};
use uuid::Uuid;

use super::TaskFilter;
use crate::{
    channel::{Registry, View, ViewBounds, ViewWatcher},
    event::{ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::Counted,
    task::{Entry, Status},
};

/// How often a list releases what is new.
const RELEASE_INTERVAL: Duration = Duration::from_millis(200);
/// How often counts are sent, at most.
const COUNTS_INTERVAL: Duration = Duration::from_secs(1);
/// Most tasks, and most bytes, of which a list keeps the latest change for those who come back.
const VIEW_BOUNDS: ViewBounds = ViewBounds { changes: 10_000, size_bytes: 16 * 1024 * 1024 };

/// How many tasks have each status, in the order of [`Status::ALL`].
pub type Counts = [u64; Status::ALL.len()];

/// What happened to one task.
pub(super) struct TaskChange {
    pub(super) seq: Seq,
    pub(super) before: Option<Arc<Entry>>,
    /// `None` where it was deleted; of a tick, as it was before.
    pub(super) after: Option<Arc<Entry>>,
    /// The visible state after it (JSON).
    pub(super) data: Bytes,
}

/// All live lists.
pub(super) struct LiveLists {
    registry: Registry,
    lists: Mutex<Lists>,
    watched: Notify,
}

struct Lists {
    counts: Counts,
    /// Every change at or before it is in the counts.
    counted_through: Seq,
    /// Since they were sent. They may be again what they were then: a page may have shown them in between.
    counts_changed: bool,
    counts_due: Instant,
    views: HashMap<TaskFilter, View>,
    /// Every change at or before it has been checked.
    through: Seq,
}

/// How a watcher of a list begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListJoin {
    /// With a page.
    First,
    /// With what changed since its cursor.
    Resumed,
    /// Its cursor is of no use: with a page, declared as a reset.
    Reset,
}

impl LiveLists {
    pub(super) fn new(registry: Registry) -> Self {
        let lists = Lists {
            counts: Counts::default(),
            counted_through: Seq::ZERO,
            counts_changed: false,
            counts_due: Instant::now(),
            views: HashMap::new(),
            through: Seq::ZERO,
        };
        Self { registry, lists: Mutex::new(lists), watched: Notify::new() }
    }

    /// Begins anew after the event at `through`: nobody knows what came before it.
    pub(super) fn reset(&self, counted: &Counted, through: Seq) {
        let count = |status: Status| counted.values.iter().find(|(name, _)| name == status.as_str());
        let mut lists = self.lists();
        lists.counts = Status::ALL.map(|status| count(status).map_or(0, |(_, count)| *count));
        (lists.counted_through, lists.through) = (counted.through, through);
        let ended = lists.views.drain().flat_map(|(_, view)| view.end()).collect();
        drop(lists);
        drop(self.registry.wake(ended));
    }

    pub(super) fn counts(&self) -> Counts {
        self.lists().counts
    }

    /// Takes in a batch of changes, in seq order.
    pub(super) fn push(&self, changes: &[TaskChange], through: Seq) {
        let mut lists = self.lists();
        for change in changes {
            let status = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.task.status);
            let (before, after) = (status(&change.before), status(&change.after));
            if before != after && change.seq > lists.counted_through {
                lists.counts_changed = true;
                if let Some(before) = before {
                    lists.counts[before as usize] = lists.counts[before as usize].saturating_sub(1);
                }
                after.into_iter().for_each(|after| lists.counts[after as usize] += 1);
            }
            let both = || change.before.iter().chain(&change.after);
            let matching = lists.views.iter().filter(|(filter, _)| both().any(|entry| filter.matches(entry)));
            let mut frame = None;
            for (_, view) in matching {
                let event = change.event();
                let id = event.channel().id().unwrap_or_default();
                view.push(id, frame.get_or_insert_with(|| self.registry.frame(event, None)));
            }
        }
        lists.through = lists.through.max(through);
    }

    /// Lets a watcher in; it goes on after `cursor` where that is still known, and the answer says so.
    pub(super) fn watch(
        &self,
        filter: TaskFilter,
        cursor: Option<Seq>,
        permit: OwnedSemaphorePermit,
    ) -> (bool, ViewWatcher) {
        let mut lists = self.lists();
        let through = lists.through;
        let view = lists.views.entry(filter).or_insert_with(|| View::new(through, VIEW_BOUNDS));
        let watched = view.watch(cursor, through, permit);
        drop(lists);
        self.watched.notify_one();
        watched
    }

    /// Ends all lists after what has been taken in.
    pub(super) fn drain(&self) {
        let lists = self.lists();
        let ended = lists.views.values().flat_map(View::drain).collect();
        drop(lists);
        drop(self.registry.wake(ended));
    }

    /// Releases what is new, at intervals while somebody watches. Runs for ever.
    pub(super) async fn run(&self) {
        loop {
            if self.lists().views.is_empty() {
                self.watched.notified().await;
            }
            tokio::time::sleep(RELEASE_INTERVAL).await;
            self.release();
        }
    }

    fn release(&self) {
        let mut lists = self.lists();
        let now = Instant::now();
        let mut counts = None;
        if lists.counts_changed && now >= lists.counts_due {
            (lists.counts_changed, lists.counts_due) = (false, now + COUNTS_INTERVAL);
            counts = Some(Registry::beside("counts", &counts_json(&lists.counts)));
        }
        lists.views.retain(|_, view| view.is_watched());
        let released =
            |(filter, view): (&TaskFilter, &View)| view.release(counts.as_ref().filter(|_| filter.has_counts));
        let waiting = lists.views.iter().flat_map(released).collect();
        drop(lists);
        drop(self.registry.wake(waiting));
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskChange {
    /// The event that a list tells of it: the task's own, or that it was removed.
    fn event(&self) -> Event {
        let entry = self.after.as_ref().or(self.before.as_ref());
        let id = entry.map(|entry| entry.task.task_id).unwrap_or_default();
        let (name, data) = match &self.after {
            Some(_) => ("progress", self.data.clone()),
            None => ("removed", format!("{{\"taskId\":\"{id}\"}}").into()),
        };
        let channel = ChannelName::task(id);
        let draft = Draft { channel, name: Some(name.into()), class: Class::Change, data, memo: None, origin: None };
        Event { seq: self.seq, at: Timestamp::default(), group: Uuid::nil(), draft }
    }
}

/// Counts as they are sent: `{"pending":1,…}`.
pub fn counts_json(counts: &Counts) -> String {
    let members = Status::ALL.iter().zip(counts).map(|(status, count)| format!("\"{status}\":{count}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}
