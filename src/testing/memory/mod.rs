//! The journal in memory: it forgets everything with its last handle.
//!
//! It is written to be plainly right, not fast: it keeps every event of a channel and works out each answer from them
//! (`model.rs`), so that it is the model to which the other journals are held. It knows nothing of tasks.

mod model;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::faults::{FaultyJournal, TestStore};
use crate::{
    event::{ChannelKind, ChannelName, Class, Epoch, Epochs, Event, History, HistoryBounds, Seq, Timestamp},
    journal::{
        Appended, Counted, Expect, Group, Journal, JournalError, Listing, Member, Members, Outcome, SWEEP_MAX, Stored,
        Tail,
    },
};

/// Changes and finals kept per channel, unless said otherwise.
const HISTORY_DEFAULT: usize = 1_000;

/// Events kept in the log, unless said otherwise.
const LOG_DEFAULT: usize = 65_536;

/// The journal in memory, with the faults that tests give it.
pub type MemoryJournal = FaultyJournal<StoreInMemory>;

/// The journal in memory itself. Clones share the store.
#[derive(Clone)]
pub struct StoreInMemory {
    epochs: Epochs,
    /// As which of several nodes it is used; it is embedded in one process if absent.
    node: Option<Arc<str>>,
    // A std mutex: it is never held across an await, and no call under it is long.
    store: Arc<Mutex<MemoryStore>>,
}

struct MemoryStore {
    bounds: HistoryBounds,
    log_max: usize,
    /// All events of each channel since it was swept.
    channels: HashMap<ChannelName, Vec<Event>>,
    /// Up to where some were trimmed because of their age.
    trimmed: HashMap<ChannelName, Seq>,
    /// The newest events of all channels, without a gap up to `head`.
    log: VecDeque<Event>,
    epochs: Epochs,
    head: Seq,
    folded_through: Seq,
    /// Highest seq that was trimmed from the log.
    trimmed_through: Seq,
    closed: bool,
    /// What time it was at some moment, whatever the clocks of nodes say.
    time: (Instant, Timestamp),
    told: watch::Sender<Seq>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryJournal {
    /// An empty journal with the default bounds.
    pub fn new() -> Self {
        Self::with_bounds(HISTORY_DEFAULT, LOG_DEFAULT)
    }

    /// An empty journal that keeps so much of each channel and so many events in the log.
    pub fn with_bounds(bounds: impl Into<HistoryBounds>, log_max: usize) -> Self {
        let epochs = Epochs::from(Epoch::random()).begin_after(Seq::ZERO);
        let store = MemoryStore {
            epochs: epochs.clone(),
            bounds: bounds.into(),
            log_max,
            channels: HashMap::new(),
            trimmed: HashMap::new(),
            log: VecDeque::new(),
            head: Seq::ZERO,
            folded_through: Seq::ZERO,
            trimmed_through: Seq::ZERO,
            closed: false,
            time: (Instant::now(), Timestamp::now()),
            told: watch::Sender::new(Seq::ZERO),
        };
        Self::around(Arc::new(StoreInMemory { epochs, node: None, store: Arc::new(Mutex::new(store)) }))
    }

    /// The same store as one of several nodes uses it, with faults of its own.
    #[must_use]
    pub fn on_node(&self, name: &str) -> Self {
        Self::around(Arc::new(StoreInMemory { node: Some(name.into()), ..StoreInMemory::clone(&self.store) }))
    }

    /// The store without the faults.
    pub fn into_store(self) -> Arc<StoreInMemory> {
        self.store
    }

    /// Another handle on the same store, open again after a close: a restart. The faults stay.
    #[must_use]
    pub fn reopened(&self) -> Self {
        self.moved_to(Arc::new(self.store.opened_again()))
    }
}

impl StoreInMemory {
    fn opened_again(&self) -> Self {
        if self.node.is_some() {
            return self.clone();
        }
        let mut store = self.store();
        store.closed = false;
        store.epochs = store.epochs.begin_after(store.head);
        Self { epochs: store.epochs.clone(), ..self.clone() }
    }

    fn store(&self) -> MutexGuard<'_, MemoryStore> {
        // No call under the lock leaves the store half-changed, so a panic elsewhere is no reason to stop.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_store(&self) -> Result<MutexGuard<'_, MemoryStore>, JournalError> {
        let store = self.store();
        if store.closed { Err(JournalError::Unavailable("the journal is closed".into())) } else { Ok(store) }
    }
}

#[async_trait]
impl TestStore for StoreInMemory {
    fn journal(&self) -> &dyn Journal {
        self
    }

    async fn fold(&self) {
        self.store().fold();
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn reopened(&self) -> Arc<dyn TestStore> {
        Arc::new(self.opened_again())
    }
}

#[async_trait]
impl Journal for StoreInMemory {
    fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    fn time(&self) -> Option<Timestamp> {
        let (started, at) = self.store().time;
        self.node.is_some().then(|| at + started.elapsed())
    }

    async fn follow(&self, known_head: Seq, limit: usize) -> Tail {
        let mut told = self.store().told.subscribe();
        if self.node.is_none() || told.wait_for(|head| *head > known_head).await.is_err() {
            return std::future::pending().await;
        }
        self.tail(known_head, limit).await.unwrap_or(Tail::Lapsed)
    }

    fn folded_through(&self) -> Seq {
        self.store().folded_through
    }

    async fn head(&self) -> Result<Seq, JournalError> {
        Ok(self.open_store()?.head)
    }

    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        self.open_store()?.append(known_head, groups)
    }

    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError> {
        let store = self.open_store()?;
        if after < store.trimmed_through {
            return Ok(Tail::Lapsed);
        }
        Ok(Tail::Events(store.after(after).take(limit).cloned().collect()))
    }

    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError> {
        let store = self.open_store()?;
        let Some(state) = store.state(channel) else { return Ok(History::default()) };
        let events = state.kept.into_iter().filter(|event| event.seq > after).collect();
        Ok(History { floor: state.stored.floor, events })
    }

    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError> {
        let mut logs = Vec::with_capacity(channels.len());
        for channel in channels {
            logs.push(self.read(channel, Seq::ZERO).await?);
        }
        Ok(logs)
    }

    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError> {
        Ok(self.open_store()?.state(channel).map(|state| state.stored))
    }

    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        let store = self.open_store()?;
        Ok(channels.iter().map(|channel| store.state(channel).map(|state| state.stored)).collect())
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError> {
        let store = self.open_store()?;
        let mut listed: Vec<Stored> = store
            .states()
            .map(|state| state.stored)
            .filter(|stored| stored.channel.kind() == listing.kind && !stored.gone)
            .filter(|stored| listing.created_before.is_none_or(|before| stored.created < before))
            .filter(|stored| {
                let members = stored.visible.as_ref().map(|event| Members::of(&event.draft));
                members.unwrap_or_default().match_all(&listing.members)
            })
            .collect();
        listed.sort_by_key(|stored| std::cmp::Reverse(stored.created));
        listed.truncate(listing.limit);
        Ok(listed)
    }

    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Counted, JournalError> {
        let store = self.open_store()?;
        let mut counts = BTreeMap::new();
        for state in store.states().filter(|state| state.stored.channel.kind() == kind && !state.stored.gone) {
            let members = state.stored.visible.as_ref().map(|event| Members::of(&event.draft)).unwrap_or_default();
            members.get(member).into_iter().for_each(|value| *counts.entry(value.to_owned()).or_default() += 1);
        }
        Ok(Counted { through: store.head, values: counts.into_iter().collect() })
    }

    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError> {
        let store = self.open_store()?;
        let states = store.states().map(|state| state.stored);
        let mut live: Vec<Stored> = states
            .filter(|stored| stored.channel.kind() == kind && !stored.gone && stored.finished_at.is_none())
            .filter(|stored| stored.created > after)
            .collect();
        live.sort_by_key(|stored| stored.created);
        live.truncate(limit);
        Ok(live)
    }

    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError> {
        let store = self.open_store()?;
        let mut finished: Vec<(Timestamp, Stored)> = store
            .states()
            .filter(|state| !state.stored.gone && state.stored.channel.kind() != ChannelKind::Unknown)
            .filter_map(|state| Some((state.stored.finished_at?, state.stored)))
            .filter(|(finished_at, _)| *finished_at < at)
            .collect();
        finished.sort_by_key(|(finished_at, stored)| (*finished_at, stored.created));
        Ok(finished.into_iter().take(limit).map(|(_, stored)| (stored.channel, stored.last)).collect())
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError> {
        let mut store = self.open_store()?;
        let lasts = store.channels.values().filter_map(|events| events.last());
        let gone = lasts.filter(|last| last.class() == Class::Tombstone && last.seq <= store.folded_through);
        let mut old: Vec<_> = gone.filter(|last| last.at < at).map(|last| (last.at, last.seq)).collect();
        old.sort_unstable();
        let limit = limit.min(SWEEP_MAX);
        let swept: HashSet<Seq> = old.iter().take(limit).map(|(_, seq)| *seq).collect();
        let MemoryStore { channels, trimmed, .. } = &mut *store;
        channels.retain(|_, events| events.last().is_some_and(|last| !swept.contains(&last.seq)));
        trimmed.retain(|channel, _| channels.contains_key(channel));
        Ok(old.len() > limit)
    }

    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError> {
        let mut older = Vec::new();
        for stored in self.live(kind, after, usize::MAX).await? {
            let state = self.open_store()?.state(&stored.channel);
            older.extend(state.and_then(|state| model::older(&state, at)).map(|through| (stored, through)));
        }
        let limit = limit.min(SWEEP_MAX);
        let next = limit.checked_sub(1).and_then(|last| older.get(last)).map(|(last, _)| last.created);
        let trimmed = older.into_iter().take(limit).map(|(stored, through)| (stored.channel, through));
        self.open_store()?.trimmed.extend(trimmed);
        Ok(next)
    }

    async fn close(&self) -> Result<(), JournalError> {
        let mut store = self.open_store()?;
        if self.node.is_some() {
            // The others go on.
            return Ok(());
        }
        store.fold();
        store.closed = true;
        Ok(())
    }
}

impl MemoryStore {
    fn append(&mut self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        if known_head > self.head {
            return Err(JournalError::Damaged(format!("it ends at {}, before the known head {known_head}", self.head)));
        }
        if known_head < self.trimmed_through {
            return Err(JournalError::Lapsed);
        }
        let mut committed: HashSet<Uuid> = self.after(known_head).map(|event| event.group).collect();
        let outcomes: Vec<Outcome> = groups.iter().map(|group| self.try_group(group, &mut committed)).collect();
        Ok(Appended { outcomes, events: self.after(known_head).cloned().collect() })
    }

    fn try_group(&mut self, group: &Group, committed: &mut HashSet<Uuid>) -> Outcome {
        if committed.contains(&group.id) {
            return Outcome::Committed;
        }
        for (channel, expect) in &group.expects {
            let last = self.channels.get(channel).and_then(|events| events.last()).map(|event| event.seq);
            let holds = match expect {
                Expect::At(seq) => last == Some(*seq),
                Expect::Absent => last.is_none(),
            };
            if !holds {
                return Outcome::Conflict(channel.clone());
            }
        }
        committed.insert(group.id);
        self.commit(group);
        Outcome::Committed
    }

    /// Appends a group whatever it expects.
    fn commit(&mut self, group: &Group) {
        for draft in &group.drafts {
            self.head = self.head.next();
            let event = Event { seq: self.head, at: group.at, group: group.id, draft: draft.clone() };
            self.log.push_back(event.clone());
            self.channels.entry(event.channel().clone()).or_default().push(event);
        }
        self.told.send_replace(self.head);
    }

    fn after(&self, seq: Seq) -> impl Iterator<Item = &Event> {
        self.log.iter().skip(self.log.partition_point(|event| event.seq <= seq))
    }

    fn fold(&mut self) {
        self.folded_through = self.head;
        while self.log.len() > self.log_max {
            if let Some(event) = self.log.pop_front() {
                self.trimmed_through = event.seq;
            }
        }
    }

    fn state(&self, channel: &ChannelName) -> Option<model::ChannelModel> {
        let trimmed = self.trimmed.get(channel).copied().unwrap_or_default();
        model::state(self.channels.get(channel)?, self.bounds, trimmed)
    }

    fn states(&self) -> impl Iterator<Item = model::ChannelModel> {
        self.channels.keys().filter_map(|channel| self.state(channel))
    }
}
