//! The table itself: every task that is in memory, and the ways to find them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, OnceLock},
};

use uuid::Uuid;

use super::{
    decide::Policy,
    intent::{NewTask, PAYLOAD_BYTES_MAX},
    lease::Lease,
    refusal::Refusal,
    row::Row,
    state::{Entry, InvalidEvent, Status, Task, payload_bytes},
};
use crate::event::{ChannelKind, ChannelName, Class, Event, Seq, Timestamp};

/// So many tasks before the bound of a user it begins to matter what other nodes make of which this one has not heard yet.
const COUNTED_BEFORE: usize = 1024;

/// The tasks in memory: all that are not finished, and those whose end is not folded yet.
#[derive(Debug)]
pub struct Table {
    policy: Policy,
    rows: HashMap<ChannelName, TableSlot>,
    /// May name a task too early, never too late: so a report, which puts off the time, changes nothing here.
    due: BTreeSet<(Timestamp, Uuid)>,
    pending: BTreeMap<(String, Seq), Uuid>,
    /// What leaves memory when its seq is folded.
    ended: BTreeMap<Seq, ChannelName>,
    counts: [usize; Status::ALL.len()],
    live: Load,
    /// How many of them each user has.
    live_of_users: HashMap<String, usize>,
    unreadable: usize,
}

/// How many tasks have not ended, and the bytes of their `input` and `metadata`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tasks.
    pub tasks: usize,
    /// Bytes.
    pub size_bytes: usize,
}

impl Load {
    /// With one more task, if the bounds allow it; its user has so many.
    ///
    /// # Errors
    /// When they do not.
    pub fn with(self, new: &NewTask, of_user: usize, policy: &Policy) -> Result<Self, Refusal> {
        let size_bytes = self.size_bytes + payload_bytes([&new.input, &new.metadata]);
        let more = Self { tasks: self.tasks + 1, size_bytes };
        let refusal = |setting, most| Err(Refusal::TooManyTasks { setting, most });
        if more.tasks > policy.live_tasks_max {
            return refusal("max-live-tasks", policy.live_tasks_max);
        }
        if more.size_bytes > policy.live_bytes_max && more.size_bytes > self.size_bytes {
            return refusal("max-live-data", policy.live_bytes_max);
        }
        if of_user >= policy.live_tasks_per_user_max {
            return refusal("max-live-tasks-per-user", policy.live_tasks_per_user_max);
        }
        Ok(more)
    }

    /// Of one task.
    fn of(entry: &Entry) -> Self {
        if entry.task.status.is_final() {
            return Self::default();
        }
        Self { tasks: 1, size_bytes: entry.origin.size_bytes() }
    }
}

#[derive(Debug)]
struct TableSlot {
    /// Without the tick after it.
    row: Row,
    tick: Option<Box<UnreadTick>>,
    last: Seq,
    keys: IndexKeys,
}

/// The newest tick that another node decided. It is read when somebody asks for the task, and not at all if a later event
/// comes first.
#[derive(Debug)]
struct UnreadTick {
    event: Event,
    read: OnceLock<Row>,
}

/// Under what a row stands in the indexes.
#[derive(Debug, Default)]
struct IndexKeys {
    status: Option<Status>,
    pending: Option<(String, Seq)>,
    due_at: Option<Timestamp>,
    ended: Option<Seq>,
    live: Load,
    is_unreadable: bool,
}

impl Table {
    /// An empty table.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            rows: HashMap::new(),
            due: BTreeSet::new(),
            pending: BTreeMap::new(),
            ended: BTreeMap::new(),
            counts: [0; Status::ALL.len()],
            live: Load::default(),
            live_of_users: HashMap::new(),
            unreadable: 0,
        }
    }

    /// The settings that decisions depend on.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is in memory of a channel.
    pub fn row(&self, channel: &ChannelName) -> Option<&Row> {
        self.rows.get(channel).map(TableSlot::row)
    }

    /// Seq of the last event of a channel in memory.
    pub fn last(&self, channel: &ChannelName) -> Option<Seq> {
        self.rows.get(channel).map(|slot| slot.last)
    }

    /// A task in memory.
    pub fn get(&self, id: Uuid) -> Option<&Arc<Entry>> {
        self.row(&ChannelName::task(id)).and_then(Row::task)
    }

    /// The tasks after a place in the order of when they are due, each if it has such a lease: only these are read.
    pub fn leased(
        &self,
        after: Option<(Timestamp, Uuid)>,
        is_such: impl Fn(&Lease) -> bool,
    ) -> impl Iterator<Item = ((Timestamp, Uuid), Option<&Arc<Entry>>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let has_such = move |row: &Row| row.task().and_then(|entry| entry.memo.lease.as_ref()).is_some_and(&is_such);
        let leased = move |id| self.rows.get(&ChannelName::task(id)).filter(|slot| has_such(&slot.row))?.row().task();
        self.due.range((from, Bound::Unbounded)).map(move |place| (*place, leased(place.1)))
    }

    /// The pending tasks of a kind, oldest first.
    pub fn pending<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        let range = (kind.to_owned(), Seq::ZERO)..=(kind.to_owned(), Seq(u64::MAX));
        self.pending.range(range).filter_map(|(_, id)| self.get(*id))
    }

    /// The earliest time at which time alone may change a task.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The tasks whose time has come, out of the first `limit` that may be due. `turn` says when what is due at some time
    /// is to be seen to here.
    pub fn due(
        &mut self,
        now: Timestamp,
        limit: usize,
        turn: impl Fn(&Entry, Timestamp) -> Timestamp,
    ) -> Vec<Arc<Entry>> {
        let named: Vec<_> = self.due.iter().take_while(|(at, _)| *at <= now).take(limit).copied().collect();
        let mut due = Vec::new();
        for (at, id) in named {
            let channel = ChannelName::task(id);
            let Some(slot) = self.rows.get_mut(&channel) else { continue };
            let Some(entry) = slot.row().task() else {
                let last = slot.last;
                self.put(channel, Row::Unreadable, last);
                continue;
            };
            let true_at = entry.due(&self.policy).map(|at| turn(entry, at));
            if true_at.is_some_and(|true_at| true_at <= now) {
                due.push(Arc::clone(entry));
            } else {
                slot.keys.due_at = true_at;
                self.due.remove(&(at, id));
                self.due.extend(true_at.map(|true_at| (true_at, id)));
            }
        }
        due
    }

    /// How many tasks in memory have each status, in the order of [`Status::ALL`].
    pub fn counts(&self) -> [usize; Status::ALL.len()] {
        self.counts
    }

    /// What the tasks that have not ended take.
    pub fn live(&self) -> Load {
        self.live
    }

    /// How many tasks of this user have not ended.
    pub fn live_of(&self, user: Option<&str>) -> usize {
        user.and_then(|user| self.live_of_users.get(user)).copied().unwrap_or_default()
    }

    /// Whether so many more tasks may be too many, if they are of this user.
    pub fn is_nearly_full(&self, more: usize, user: Option<&str>) -> bool {
        let Load { tasks, size_bytes } = self.live;
        tasks + more > self.policy.live_tasks_max
            || self.live_of(user) + more > self.policy.live_tasks_per_user_max
            || size_bytes + more * 2 * PAYLOAD_BYTES_MAX > self.policy.live_bytes_max
    }

    /// The channel of the user of a new task, if they have nearly as many tasks as they may, so that tasks which other
    /// nodes make at the same time would count.
    pub fn counted_user(&self, new: &NewTask) -> Option<ChannelName> {
        let user = new.user_id.as_deref()?;
        let is_near = self.live_of(Some(user)) + COUNTED_BEFORE >= self.policy.live_tasks_per_user_max;
        is_near.then(|| ChannelName::user(user).ok()).flatten()
    }

    /// How many channels in memory hold what this version cannot read.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Makes the table follow an event that was decided elsewhere; one on a channel that it does not hold, or that it was
    /// loaded with, changes nothing. Answers the row that was there before.
    ///
    /// # Errors
    /// When the event does not hold what this version writes; then nothing is changed.
    pub fn apply(&mut self, event: &Event) -> Result<Option<Row>, InvalidEvent> {
        let slot = self.rows.get(event.channel());
        if slot.is_some_and(|slot| slot.last >= event.seq) {
            return Ok(None);
        }
        let before = slot.map(|slot| slot.row_before(event));
        let has_left = before.is_none() && event.draft.origin.is_none();
        if has_left && event.channel().kind() == ChannelKind::Task && event.class() != Class::Tombstone {
            // What is asked of a task that has left memory is decided upon what the store holds.
            return Ok(None);
        }
        let Some(row) = Row::after(before, event)? else { return Ok(None) };
        let before = self.put(event.channel().clone(), row, event.seq);
        Ok(before.or_else(|| Entry::from_tombstone(event).map(|entry| Row::Task(Arc::new(entry)))))
    }

    /// Takes a tick that was decided elsewhere, if its task is in memory, without reading it: nothing by which a task is
    /// found, listed or held changes with a tick. Answers the task as it was before those of which nobody asked.
    pub fn apply_tick(&mut self, event: &Event) -> Option<Arc<Entry>> {
        let is_next = |slot: &&mut TableSlot| event.class() == Class::Tick && slot.last < event.seq;
        let slot = self.rows.get_mut(event.channel()).filter(is_next)?;
        let entry = Arc::clone(slot.row.task()?);
        let mut event = event.clone();
        let known = slot.tick.take().and_then(|tick| tick.event.draft.memo);
        event.draft.memo = event.draft.memo.or(known);
        slot.last = event.seq;
        // A task that had stalled has not any more.
        let silence_ends = (entry.task.status == Status::Processing).then(|| event.at + self.policy.stalled_after);
        if let (Some(id), Some(at)) = (event.channel().id(), silence_ends)
            && slot.keys.due_at.is_none_or(|due_at| due_at > at)
        {
            slot.keys.due_at.replace(at).map(|due_at| self.due.remove(&(due_at, id)));
            self.due.insert((at, id));
        }
        slot.tick = Some(Box::new(UnreadTick { event, read: OnceLock::new() }));
        Some(entry)
    }

    /// Puts in a row that was loaded, unless one is there that is as new.
    pub fn restore(&mut self, channel: ChannelName, row: Row, last: Seq) {
        if self.rows.get(&channel).is_none_or(|slot| slot.last < last) {
            self.put(channel, row, last);
        }
    }

    /// Puts in the row of a channel after its event `last`. Answers the row that was there before.
    pub fn put(&mut self, channel: ChannelName, row: Row, last: Seq) -> Option<Row> {
        let slot = self.rows.remove(&channel);
        let (before, old) = slot.map_or((None, IndexKeys::default()), TableSlot::into_parts);
        self.count_users(before.as_ref().and_then(live_user), live_user(&row));
        let keys = self.index(&channel, &old, IndexKeys::of(&row, last, &self.policy));
        self.rows.insert(channel, TableSlot { row, tick: None, last, keys });
        before
    }

    /// Lets go of what has ended and is folded: the store can answer for it now.
    pub fn forget_folded(&mut self, folded_through: Seq) {
        while let Some(first) = self.ended.first_entry().filter(|first| *first.key() <= folded_through) {
            let channel = first.remove();
            if let Some(slot) = self.rows.remove(&channel) {
                self.index(&channel, &slot.keys, IndexKeys::default());
            }
        }
    }

    /// The user of a live task is no longer the one, but the other.
    fn count_users(&mut self, was: Option<&str>, is: Option<&str>) {
        if was == is {
            return;
        }
        if let Some((user, count)) = was.and_then(|user| self.live_of_users.remove_entry(user))
            && count > 1
        {
            self.live_of_users.insert(user, count - 1);
        }
        if let Some(user) = is {
            *self.live_of_users.entry(user.to_owned()).or_default() += 1;
        }
    }

    /// Brings the indexes up to date; those whose key has not changed are not touched.
    fn index(&mut self, channel: &ChannelName, old: &IndexKeys, mut new: IndexKeys) -> IndexKeys {
        let id = channel.id().unwrap_or_default();
        if old.status != new.status {
            old.status.into_iter().for_each(|status| self.counts[status as usize] -= 1);
            new.status.into_iter().for_each(|status| self.counts[status as usize] += 1);
        }
        self.live.tasks = self.live.tasks + new.live.tasks - old.live.tasks;
        self.live.size_bytes = self.live.size_bytes + new.live.size_bytes - old.live.size_bytes;
        self.unreadable -= usize::from(old.is_unreadable);
        self.unreadable += usize::from(new.is_unreadable);
        if old.pending != new.pending {
            if let Some(key) = &old.pending {
                self.pending.remove(key);
            }
            self.pending.extend(new.pending.clone().map(|key| (key, id)));
        }
        if old.ended != new.ended {
            if let Some(seq) = old.ended {
                self.ended.remove(&seq);
            }
            self.ended.extend(new.ended.map(|seq| (seq, channel.clone())));
        }
        match (old.due_at, new.due_at) {
            (Some(before), Some(after)) if before <= after => new.due_at = old.due_at,
            (before, after) => {
                if let Some(at) = before {
                    self.due.remove(&(at, id));
                }
                self.due.extend(after.map(|at| (at, id)));
            }
        }
        new
    }
}

/// The user of a task that has not ended.
fn live_user(row: &Row) -> Option<&str> {
    row.task().filter(|entry| !entry.task.status.is_final())?.task.user_id.as_deref()
}

impl TableSlot {
    /// The row after its last event.
    fn row(&self) -> &Row {
        let (Some(tick), Row::Task(entry)) = (&self.tick, &self.row) else { return &self.row };
        tick.read.get_or_init(|| {
            let read = Entry::clone(entry).followed_by(&tick.event);
            read.map_or(Row::Unreadable, |entry| Row::Task(Arc::new(entry)))
        })
    }

    /// What the next event is added to: of a task, a visible event with a memo replaces all that a tick changes.
    fn row_before(&self, next: &Event) -> &Row {
        let replaces_all = next.class().is_visible() && next.draft.memo.is_some();
        if replaces_all { &self.row } else { self.row() }
    }

    /// The row as far as somebody has read it.
    fn into_parts(self) -> (Option<Row>, IndexKeys) {
        let read = self.tick.and_then(|tick| tick.read.into_inner());
        (Some(read.unwrap_or(self.row)), self.keys)
    }
}

impl IndexKeys {
    fn of(row: &Row, last: Seq, policy: &Policy) -> Self {
        let entry = match row {
            Row::Task(entry) => entry,
            Row::Key(_) | Row::Gone => return Self { ended: Some(last), ..Self::default() },
            // It stays, so that nothing is decided upon less than what there is.
            Row::Unreadable => return Self { is_unreadable: true, ..Self::default() },
        };
        let Task { status, kind, .. } = &entry.task;
        Self {
            status: Some(*status),
            pending: (*status == Status::Pending).then(|| (kind.clone(), entry.created)),
            due_at: entry.due(policy),
            ended: status.is_final().then_some(last),
            live: Load::of(entry),
            is_unreadable: false,
        }
    }
}
