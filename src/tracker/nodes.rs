//! The life of this node among those that share the store: its own lease, and what becomes of the nodes whose lease has
//! run out; what they have left behind is in `orphans.rs`. Where the store is embedded, nothing of this runs.
//!
//! A node that does not renew its lease is declared dead by the tombstone of its channel, which is conditional: a renewal
//! that came first wins. What was its own counts for nobody from then on: it is not one of the places of its users, and
//! its jobs are tried again or have failed. That is the work of the node that has lived the longest; where two think that
//! they are it, one is beaten to it, which is harmless. A node that was declared dead while it was cut off enters again,
//! and says anew who is connected to it.

use std::{
    collections::BTreeSet,
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

use super::{Core, Tracker, TrackerError, orphans::can_resume, writer::Writer};
use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::Group,
    nodes::{NODE_LEASE, NodeLease, NodeTable},
    task::Entry,
};

/// How often a node renews its lease.
const RENEWED_EVERY: Duration = Duration::from_secs(3);
/// How often it looks whether the leases of others have run out; also, how soon a renewal that failed is tried again.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// A longer time between two renewals was trouble of this node or of the store: so others may have had it too, and have
/// the length of a lease to come back before they are declared dead.
const PULSE_MAX: Duration = Duration::from_secs(6);
/// It looks so often for what dead nodes have left behind, should that be anywhere without having been told.
const LOOKS_ANYWAY_EVERY: Duration = Duration::from_secs(60);
/// For what only the first node is to do at once, each further one waits so much longer.
pub(super) const TURN: Duration = Duration::from_millis(500);
/// Most users of whom it is noted one by one that they are in doubt; of more, all are.
const DOUBTED_MAX: usize = 1_024;

/// Of whom what the store says may be wrong: whether they are connected here.
#[derive(Debug, Default)]
pub struct PresenceDoubts {
    /// Of everybody.
    pub are_of_all: bool,
    /// Of these.
    pub users: BTreeSet<Arc<str>>,
}

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
    presence: watch::Sender<PresenceDoubts>,
    /// Changes when there may be tasks that nodes have left behind.
    pub(super) left_behind: watch::Sender<()>,
}

impl OwnNode {
    pub(super) fn new(name: &str) -> Option<Self> {
        Some(Self {
            channel: ChannelName::node(name).ok()?,
            name: name.into(),
            life: Uuid::new_v4(),
            buried: Notify::new(),
            is_orphaning: AtomicBool::new(true),
            presence: watch::Sender::default(),
            left_behind: watch::Sender::new(()),
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn doubt_all(&self) {
        self.presence.send_modify(|doubts| doubts.are_of_all = true);
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
    pub fn presence(&self) -> Option<watch::Receiver<PresenceDoubts>> {
        self.shared.own_node.as_ref().map(|own| own.presence.subscribe())
    }

    /// Of whom that is so since it was last asked.
    pub fn take_doubts(&self) -> PresenceDoubts {
        let mut taken = PresenceDoubts::default();
        if let Some(own) = &self.shared.own_node {
            own.presence.send_if_modified(|doubts| {
                taken = std::mem::take(doubts);
                false
            });
        }
        taken
    }

    /// Whether this is the node that does what one alone should do.
    pub(super) fn is_first_node(&self) -> bool {
        self.shared.rank() == 0
    }
}

/// Renews the lease of this node, and looks after the others, until it is told to stop.
pub(super) async fn keep(tracker: Tracker, stop: CancellationToken) {
    let Some(own) = &tracker.shared.own_node else { return };
    let clock = tracker.clock();
    let mut pulse = Pulse::new(clock.now());
    let mut renew_at = Instant::now() + RENEWED_EVERY;
    let mut look_at = Instant::now() + LOOKS_ANYWAY_EVERY;
    let mut is_bereaving = false;
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
                    }
                    Err(error) => tracing::warn!(%error, "the lease of this node could not be renewed; retrying"),
                }
            }
            let now = clock.now();
            tracker.shared.metrics.nodes.set(tracker.shared.nodes().living(now).len() as i64);
            let is_told = own.is_orphaning.swap(false, Ordering::Relaxed) || Instant::now() >= look_at;
            if is_told {
                look_at = Instant::now() + LOOKS_ANYWAY_EVERY;
                own.left_behind.send_replace(());
            }
            let has_work = || is_told || !tracker.shared.nodes().lapsed(now).is_empty();
            is_bereaving = tracker.is_first_node() && (is_bereaving || has_work());
            if is_bereaving && pulse.is_steady(now) {
                // However much that is, this node says in time that it lives. The rest is taken after that.
                let bereaved = timeout_at(renew_at, tracker.bereave()).await;
                is_bereaving = !matches!(bereaved, Ok(Ok(())));
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

    /// There may be something that belongs to nodes that are gone.
    pub(super) fn note_orphans(&self) {
        if let Some(own) = &self.own_node {
            own.is_orphaning.store(true, Ordering::Relaxed);
        }
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
            own.doubt_all();
        } else if self.nodes().lease(&own.name).is_some_and(|lease| lease.life != own.life) {
            tracing::error!("another process has the name of this node: was its data directory copied?");
        }
    }

    /// All that is known of nodes was read anew.
    pub(super) fn set_nodes(&self, nodes: NodeTable) {
        *self.nodes_mut() = nodes;
        if let Some(own) = &self.own_node {
            own.is_orphaning.store(true, Ordering::Relaxed);
            own.doubt_all();
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
            own.presence.send_modify(|doubts| {
                doubts.users.insert((*user.name()).into());
                if doubts.users.len() > DOUBTED_MAX {
                    doubts.users.clear();
                    doubts.are_of_all = true;
                }
            });
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
