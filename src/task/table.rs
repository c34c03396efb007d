//! The table itself: every task that is in memory, and the ways to find them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    decide::Policy,
    state::{Entry, InvalidEvent, KeyMemo, Status},
};
use crate::event::{ChannelKind, Class, Event, Seq, Timestamp};

/// The tasks in memory: all that are not finished, and those whose end is not folded yet.
#[derive(Debug)]
pub struct Table {
    policy: Policy,
    tasks: HashMap<Uuid, Arc<Entry>>,
    by_creation: BTreeMap<Seq, Uuid>,
    due: BTreeSet<(Timestamp, Uuid)>,
    pending: BTreeMap<(String, Seq), Uuid>,
    keys: HashMap<Uuid, KeyMemo>,
    gone: HashSet<Uuid>,
    finished: BTreeMap<Seq, Finished>,
    counts: [usize; Status::ALL.len()],
}

/// What leaves memory when its seq is folded.
#[derive(Clone, Copy, Debug)]
enum Finished {
    Task(Uuid),
    Key(Uuid),
    Gone(Uuid),
}

impl Table {
    /// An empty table.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            tasks: HashMap::new(),
            by_creation: BTreeMap::new(),
            due: BTreeSet::new(),
            pending: BTreeMap::new(),
            keys: HashMap::new(),
            gone: HashSet::new(),
            finished: BTreeMap::new(),
            counts: [0; Status::ALL.len()],
        }
    }

    /// The settings that decisions depend on.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A task in memory.
    pub fn get(&self, id: Uuid) -> Option<&Arc<Entry>> {
        self.tasks.get(&id)
    }

    /// Whether it was deleted a moment ago.
    pub fn is_gone(&self, id: Uuid) -> bool {
        self.gone.contains(&id)
    }

    /// The task that an idempotency key stands for.
    pub fn key(&self, key: Uuid) -> Option<KeyMemo> {
        self.keys.get(&key).copied()
    }

    /// Tasks from the newest to the oldest, created before the given seq.
    pub fn newest_first(&self, before: Option<Seq>) -> impl Iterator<Item = &Arc<Entry>> {
        let end = before.unwrap_or(Seq(u64::MAX));
        self.by_creation.range(..end).rev().filter_map(|(_, id)| self.tasks.get(id))
    }

    /// The pending tasks of a kind, oldest first.
    pub fn pending<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        let range = (kind.to_owned(), Seq::ZERO)..=(kind.to_owned(), Seq(u64::MAX));
        self.pending.range(range).filter_map(|(_, id)| self.tasks.get(id))
    }

    /// The tasks whose lease this holder has.
    pub fn leased_to(&self, holder: &str) -> Vec<Uuid> {
        let held = |entry: &Entry| entry.memo.lease.as_ref().is_some_and(|lease| lease.holder == holder);
        self.tasks.iter().filter(|(_, entry)| held(entry)).map(|(id, _)| *id).collect()
    }

    /// The earliest time at which time alone changes a task.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The tasks whose time has come, at most `limit`.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<Uuid> {
        self.due.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, id)| *id).collect()
    }

    /// How many tasks in memory have each status, in the order of [`Status::ALL`].
    pub fn counts(&self) -> [usize; Status::ALL.len()] {
        self.counts
    }

    /// Makes the table follow an event; events of other kinds of channels, and those it has followed, change nothing.
    ///
    /// # Errors
    /// When the event does not hold what this version writes; then nothing is changed.
    pub fn apply(&mut self, event: &Event) -> Result<(), InvalidEvent> {
        let channel = event.channel();
        let Some(id) = channel.id() else { return Ok(()) };
        match channel.kind() {
            ChannelKind::Task if event.class() == Class::Tombstone => {
                self.remove(id);
                self.gone.insert(id);
                self.finished.insert(event.seq, Finished::Gone(id));
            }
            ChannelKind::Task => {
                let entry = match self.tasks.get(&id) {
                    Some(entry) if entry.last >= event.seq => return Ok(()),
                    Some(entry) => Entry::after(Some(Entry::clone(entry)), event)?,
                    // The first events of a task that has left memory, seen again.
                    None if event.draft.origin.is_none() => return Ok(()),
                    None => Entry::after(None, event)?,
                };
                self.insert(entry);
            }
            ChannelKind::Key => {
                let memo = event.draft.memo.as_ref().ok_or(InvalidEvent(event.seq))?;
                self.keys.insert(id, serde_json::from_slice(memo).map_err(|_| InvalidEvent(event.seq))?);
                self.finished.insert(event.seq, Finished::Key(id));
            }
            ChannelKind::User => {}
        }
        Ok(())
    }

    /// Puts in a task that was loaded, unless a newer state of it is there.
    pub fn restore(&mut self, entry: Entry) {
        let id = entry.task.task_id;
        let newer = self.tasks.get(&id).is_some_and(|known| known.last >= entry.last);
        if !newer && !self.gone.contains(&id) {
            self.insert(entry);
        }
    }

    /// Puts in an idempotency key that was loaded.
    pub fn restore_key(&mut self, key: Uuid, memo: KeyMemo, last: Seq) {
        self.keys.insert(key, memo);
        self.finished.insert(last, Finished::Key(key));
    }

    /// Notes that a task was deleted, as was learnt from the store.
    pub fn restore_gone(&mut self, id: Uuid, last: Seq) {
        self.gone.insert(id);
        self.finished.insert(last, Finished::Gone(id));
    }

    /// Lets go of what has ended and is folded: the store can answer for it now.
    pub fn forget_folded(&mut self, folded_through: Seq) {
        while let Some((seq, finished)) = self.finished.first_key_value().map(|(seq, finished)| (*seq, *finished)) {
            if seq > folded_through {
                break;
            }
            self.finished.remove(&seq);
            match finished {
                Finished::Task(id) => self.remove(id),
                Finished::Key(key) => drop(self.keys.remove(&key)),
                Finished::Gone(id) => drop(self.gone.remove(&id)),
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        let id = entry.task.task_id;
        self.remove(id);
        let entry = Arc::new(entry);
        self.counts[entry.task.status as usize] += 1;
        self.by_creation.insert(entry.created, id);
        if let Some(at) = entry.due(&self.policy) {
            self.due.insert((at, id));
        }
        if entry.task.status == Status::Pending {
            self.pending.insert((entry.task.kind.clone(), entry.created), id);
        }
        if entry.task.status.is_final() {
            self.finished.insert(entry.last, Finished::Task(id));
        }
        self.tasks.insert(id, entry);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(entry) = self.tasks.remove(&id) else { return };
        self.counts[entry.task.status as usize] -= 1;
        self.by_creation.remove(&entry.created);
        if let Some(at) = entry.due(&self.policy) {
            self.due.remove(&(at, id));
        }
        if entry.task.status == Status::Pending {
            self.pending.remove(&(entry.task.kind.clone(), entry.created));
        }
        if entry.task.status.is_final() {
            self.finished.remove(&entry.last);
        }
    }
}
