//! The life of this node among those that share the store: its own lease, and what becomes of the nodes whose lease has
//! run out. Where the store is embedded, nothing of this runs.
//!
//! A node that does not renew its lease is declared dead by the tombstone of its channel, which is conditional: a renewal
//! that came first wins. What was its own counts for nobody from then on: it is not one of the places of its users, and
//! its jobs are tried again or have failed. That is the work of the node that has lived the longest; where two think that
//! they are it, one is beaten to it, which is harmless. A node that was declared dead while it was cut off enters again,
//! and says anew who is connected to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant as StdInstant},
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Core, Tracker, TrackerError,
    batch::{Ask, EventAsk},
    sweeper::ask_all,
    writer::Writer,
};
use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::Group,
    nodes::{NODE_LEASE, NodeLease, NodeTable, Turns},
    people::{PresenceStatus, UserIntent, UserState},
    task::{Entry, Intent, Lease, Status},
};

/// How often a node renews its lease.
const RENEWED_EVERY: Duration = Duration::from_secs(3);
/// How often it looks whether the leases of others have run out; also, how soon a renewal that failed is tried again.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// A longer time between two renewals was trouble of this node or of the store: so others may have had it too, and have
/// the length of a lease to come back before they are declared dead.
const PULSE_MAX: Duration = Duration::from_secs(6);
/// What is taken from a dead node at a time.
const SLICE: usize = 256;
/// For what only the first node is to do at once, each further one waits so much longer.
const TURN: Duration = Duration::from_millis(500);

/// This node.
pub(super) struct OwnNode {
    name: Arc<str>,
    channel: ChannelName,
    /// Tells this run of it from earlier ones.
    life: Uuid,
    /// Told when another node has declared it dead.
    buried: Notify,
    /// Whether there may be something that belongs to dead nodes.
    is_orphaning: AtomicBool,
    /// Changes when what the store says of those who are connected here may be wrong.
    presence: watch::Sender<()>,
    /// Changes when there may be tasks that nodes have left behind.
    left_behind: watch::Sender<()>,
}

impl OwnNode {
    pub(super) fn new(name: &str) -> Option<Self> {
        Some(Self {
            channel: ChannelName::node(name).ok()?,
            name: name.into(),
            life: Uuid::new_v4(),
            buried: Notify::new(),
            is_orphaning: AtomicBool::new(true),
            presence: watch::Sender::new(()),
            left_behind: watch::Sender::new(()),
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Tracker {
    /// Whether the others know that this node lives, so that what it says of users counts.
    pub fn is_present(&self) -> bool {
        let shared = &self.shared;
        shared.own_node.as_ref().is_none_or(|own| shared.nodes().has(&own.name))
    }

    /// Changes when what the store says of those who are connected here may be wrong, because others thought that this
    /// node was dead; `None` where there are no others.
    pub fn presence(&self) -> Option<watch::Receiver<()>> {
        self.shared.own_node.as_ref().map(|own| own.presence.subscribe())
    }

    /// Changes when there may be tasks to resume, see [`Tracker::left_tasks`]; `None` where there are no others.
    pub fn left_behind(&self) -> Option<watch::Receiver<()>> {
        self.shared.own_node.as_ref().map(|own| own.left_behind.subscribe())
    }

    /// The tasks that jobs of other nodes have left behind with a checkpoint: any node that can may resume them.
    pub fn left_tasks(&self) -> Vec<Uuid> {
        let (table, nodes) = (self.shared.table(), self.shared.nodes());
        // What somebody here holds is not left, whatever others think of this node.
        let is_held = |lease: &Lease| self.shared.holders.length(lease.token).is_some();
        let left = table.leased(|lease| is_gone(lease, &nodes) && !is_held(lease));
        let mut tasks: Vec<_> = left.filter(|entry| can_resume(entry)).map(|entry| entry.task.task_id).collect();
        tasks.sort_unstable();
        tasks
    }

    /// Whether a task is still left behind with this lease.
    pub fn is_left(&self, id: Uuid, token: Uuid) -> bool {
        let (table, nodes) = (self.shared.table(), self.shared.nodes());
        let is_such = |lease: &Lease| lease.token == token && is_gone(lease, &nodes);
        table.get(id).is_some_and(|entry| entry.memo.lease.as_ref().is_some_and(is_such) && can_resume(entry))
    }

    /// How long this node leaves a task that any of them may take to those whose turn is before its own.
    pub fn turns(&self) -> impl Fn(Uuid) -> Duration + use<> {
        let shared = &self.shared;
        let turns = shared.own_node.as_ref().map(|own| shared.nodes().turns(&own.name, shared.clock.now()));
        let turns = turns.unwrap_or(Turns::ALONE);
        move |task| TURN * turns.before(task)
    }

    /// Whether this is the node that does what one alone should do.
    pub(super) fn is_first_node(&self) -> bool {
        self.shared.rank() == 0
    }

    /// Takes from dead nodes what was theirs.
    async fn bereave(&self) -> Result<(), TrackerError> {
        let now = self.shared.clock.now();
        let lapsed = self.shared.nodes().lapsed(now);
        for (node, _) in &lapsed {
            tracing::warn!(%node, "a node has not renewed its lease; it is taken for dead");
        }
        let bury = |(node, last): (Arc<str>, Seq)| Some(Ask::Forget(ChannelName::node(&node).ok()?, Some(last)));
        ask_all(self, lapsed.into_iter().filter_map(bury)).await?;
        let mut after: Option<ChannelName> = None;
        loop {
            // Anew each time: a node may have entered meanwhile.
            let known: Arc<BTreeSet<Arc<str>>> = Arc::new(self.shared.nodes().names().cloned().collect());
            let is_orphan = |(user_id, state): (&Arc<str>, &Arc<UserState>)| {
                // A user who is known has a valid name.
                is_left_behind(state, &known).then(|| ChannelName::user(user_id).ok()).flatten()
            };
            let orphans = self.users(after.as_ref().map(ChannelName::name).as_deref(), SLICE, is_orphan);
            let is_last = orphans.len() < SLICE;
            after = orphans.last().cloned();
            let bereave = |user| Ask::Events(EventAsk::User(user, UserIntent::Bereave(Arc::clone(&known))), None);
            ask_all(self, orphans.into_iter().map(bereave)).await?;
            if is_last {
                break;
            }
        }
        let lost: BTreeMap<_, _> = {
            let (table, nodes) = (self.shared.table(), self.shared.nodes());
            let lost = table.leased(|lease| is_gone(lease, &nodes)).filter(|entry| !can_resume(entry));
            lost.filter_map(|entry| Some((entry.task.task_id, abandoned(entry)?))).collect()
        };
        let mut lost = lost.into_iter().map(|(id, abandon)| Ask::Task(id, abandon)).peekable();
        while lost.peek().is_some() {
            ask_all(self, lost.by_ref().take(SLICE)).await?;
        }
        Ok(())
    }
}

/// Whether a user is connected to a node that is gone, or to none.
fn is_left_behind(state: &UserState, known: &BTreeSet<Arc<str>>) -> bool {
    state.status == PresenceStatus::Connected && (state.nodes.is_empty() || !state.nodes.is_subset(known))
}

/// What takes a task from the job that holds it.
fn abandoned(entry: &Entry) -> Option<Intent> {
    let lease = entry.memo.lease.as_ref()?;
    Some(Intent::Abandon { holder: lease.holder.clone(), token: Some(lease.token) })
}

/// Whether a job holds it whose node is not there any more.
fn is_gone(lease: &Lease, nodes: &NodeTable) -> bool {
    lease.node().is_some_and(|node| !nodes.has(node))
}

/// Whether a job has made a checkpoint: when its node is gone, another one can resume it, or its own when it comes back,
/// until the lease of the task ends.
fn can_resume(entry: &Entry) -> bool {
    entry.memo.checkpoint.is_some() && entry.task.status == Status::Processing
}

/// Renews the lease of this node, and looks after the others, until it is told to stop.
pub(super) async fn keep(tracker: Tracker, stop: CancellationToken) {
    let Some(own) = &tracker.shared.own_node else { return };
    let clock = tracker.clock();
    let mut pulse = Pulse::new(clock.now());
    let mut renew_at = Instant::now() + RENEWED_EVERY;
    let rounds = async {
        loop {
            tokio::select! {
                () = own.buried.notified() => tracing::warn!("other nodes took this one for dead; it enters again"),
                () = sleep(LOOKS_EVERY) => {}
            }
            if Instant::now() >= renew_at || !tracker.is_present() {
                let started = Instant::now();
                match tracker.append(tracker.shared.renewal().into_iter().collect(), None).await {
                    Ok(_) => {
                        pulse.beat(clock.now());
                        renew_at = started + RENEWED_EVERY;
                        own.is_orphaning.store(true, Ordering::Relaxed);
                    }
                    Err(error) => tracing::warn!(%error, "the lease of this node could not be renewed; retrying"),
                }
            }
            let now = clock.now();
            tracker.shared.metrics.nodes.set(tracker.shared.nodes().living(now).len() as i64);
            let is_orphaning = own.is_orphaning.swap(false, Ordering::Relaxed);
            if is_orphaning {
                own.left_behind.send_replace(());
            }
            let has_work = || is_orphaning || !tracker.shared.nodes().lapsed(now).is_empty();
            if pulse.is_steady(now) && tracker.is_first_node() && has_work() {
                // However much that is, this node says in time that it lives. The rest is taken after that.
                let bereaved = timeout_at(renew_at, tracker.bereave()).await;
                if !matches!(bereaved, Ok(Ok(()))) {
                    own.is_orphaning.store(true, Ordering::Relaxed);
                }
                if let Ok(Err(error)) = bereaved {
                    tracing::warn!(%error, "cannot take from dead nodes what was theirs; retrying");
                }
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// Whether the renewals of this node went well, by the time of the store: otherwise it cannot tell who is dead from who
/// had the same trouble.
struct Pulse {
    beat_at: Timestamp,
    steady_since: Timestamp,
}

impl Pulse {
    fn new(now: Timestamp) -> Self {
        Self { beat_at: now, steady_since: now }
    }

    fn beat(&mut self, now: Timestamp) {
        if now.since(self.beat_at) > PULSE_MAX {
            self.steady_since = now;
        }
        self.beat_at = now;
    }

    fn is_steady(&self, now: Timestamp) -> bool {
        now.since(self.beat_at) <= PULSE_MAX && now.since(self.steady_since) >= NODE_LEASE
    }
}

impl Core {
    /// How many nodes come before this one, for what only the first is to do at once.
    pub(super) fn rank(&self) -> u32 {
        self.own_node.as_ref().map_or(0, |own| self.nodes().rank(&own.name, self.clock.now()))
    }

    /// What says that this node lives; `None` where there are no others.
    fn renewal(&self) -> Option<Draft> {
        let own = self.own_node.as_ref()?;
        let (now, nodes) = (self.clock.now(), self.nodes());
        let known = nodes.lease(&own.name).filter(|lease| lease.life == own.life);
        let since = known.map_or(now, |lease| lease.since);
        Some(NodeLease { life: own.life, since, until: now + NODE_LEASE }.draft(own.channel.clone()))
    }

    /// Makes what is known of nodes follow an event on the channel of one.
    pub(super) fn follow_node(&self, event: &Event) {
        let was_known = self.own_node.as_ref().is_some_and(|own| self.nodes().has(&own.name));
        self.nodes_mut().apply(event);
        let Some(own) = &self.own_node else { return };
        if event.class() == Class::Tombstone {
            own.is_orphaning.store(true, Ordering::Relaxed);
        }
        if *event.channel() != own.channel {
            return;
        }
        if event.class() == Class::Tombstone {
            own.buried.notify_one();
        } else if !was_known {
            own.presence.send_replace(());
        } else if self.nodes().lease(&own.name).is_some_and(|lease| lease.life != own.life) {
            tracing::error!("another process has the name of this node: was its data directory copied?");
        }
    }

    /// All that is known of nodes was read anew.
    pub(super) fn set_nodes(&self, nodes: NodeTable) {
        *self.nodes_mut() = nodes;
        if let Some(own) = &self.own_node {
            own.is_orphaning.store(true, Ordering::Relaxed);
            own.presence.send_replace(());
        }
    }

    /// Whether the store says that a user is connected to this node, where there are others.
    pub(super) fn is_here(&self, user: &ChannelName) -> bool {
        let is_here =
            |own: &OwnNode| self.people().get(&user.name()).is_some_and(|user| user.nodes.contains(&own.name));
        self.own_node.as_ref().is_some_and(is_here)
    }

    /// Others have changed a user who was connected here: if they say otherwise now, they are to be told.
    pub(super) fn check_here(&self, user: &ChannelName) {
        if let Some(own) = self.own_node.as_ref().filter(|_| !self.is_here(user)) {
            own.presence.send_replace(());
        }
    }

    /// When this node is to see to a task that is due at some time. The end of the lease of a job is seen to by its node,
    /// which alone knows whether the job is there, as long as it lives. That of what it has left behind is first seen to by
    /// those who are to resume it. For the rest the nodes take turns, so that mostly one alone does it.
    pub(super) fn turn(&self, rank: u32, now: Timestamp, entry: &Entry, due_at: Timestamp) -> Timestamp {
        let Some(own) = &self.own_node else { return due_at };
        let turn = due_at + TURN * rank;
        let Some((lease, node)) = entry.memo.lease.as_ref().and_then(|lease| Some((lease, lease.node()?))) else {
            return turn;
        };
        match lease.expires_at <= now {
            _ if *node == *own.name => due_at,
            true if self.nodes().has(node) => now + LOOKS_EVERY,
            true if can_resume(entry) && self.holders.length(lease.token).is_none() => turn + NODE_LEASE,
            _ => turn,
        }
    }
}

impl Writer {
    /// Tells the others that this node lives, before it does anything.
    pub(super) async fn enter(&mut self) -> Result<(), TrackerError> {
        match self.shared.renewal() {
            Some(renewal) => self.say(renewal).await,
            None => Ok(()),
        }
    }

    /// Tells the others that this node ends: they need not wait for the end of its lease.
    pub(super) async fn leave(&mut self) {
        let Some(channel) = self.shared.own_node.as_ref().map(|own| own.channel.clone()) else { return };
        let gone =
            Draft { class: Class::Tombstone, channel, name: None, data: bytes::Bytes::new(), memo: None, origin: None };
        if let Err(error) = self.say(gone).await {
            tracing::warn!(%error, "other nodes could not be told that this one ends");
        }
    }

    async fn say(&mut self, draft: Draft) -> Result<(), TrackerError> {
        let at = self.shared.clock.now();
        let group = Group { id: Uuid::now_v7(), at, expects: Vec::new(), drafts: vec![draft] };
        let appended = self.append(|| vec![group.clone()]).await?;
        drop(self.follow_events(&mut [], &appended.events, StdInstant::now()));
        Ok(())
    }

    /// Reads which nodes have a lease.
    pub(super) async fn load_nodes(&self) -> Result<NodeTable, TrackerError> {
        let mut nodes = NodeTable::default();
        if self.shared.own_node.is_some() {
            let live = self.shared.journal.live(ChannelKind::Node, Seq::ZERO, usize::MAX).await?;
            live.iter().for_each(|stored| {
                stored.memo.iter().for_each(|memo| nodes.restore(&stored.channel, memo, stored.last));
            });
        }
        Ok(nodes)
    }
}
