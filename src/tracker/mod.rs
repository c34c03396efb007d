//! The spine: the one writer, and the handle through which all else asks it.
//!
//! One task owns every change: it takes requests from a bounded queue in batches, decides them against a scratch
//! overlay, appends, and lets the table follow the events that the journal answers with. So every change has its place
//! in one order, one durable commit answers many callers, and a caller who is dropped half-way leaves no half change.
//!
//! It never assumes that it is alone: what a group expected of the journal may not hold, because another node was
//! quicker; then the group is decided again upon what came back. Reads do not pass through the queue.

mod batch;
mod catching_up;
mod clock;
mod conditions;
mod holders;
mod inbox;
mod keys;
mod live_list;
mod members;
mod nodes;
mod orphans;
mod people;
mod reads;
mod restore;
mod sweeper;
mod timers;
mod topics;
mod unknown;
mod user_overlay;
mod watching;
mod writer;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot, watch,
    },
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use clock::Clock;
pub use holders::LeaseGuard;
pub use inbox::InboxFilter;
pub use live_list::{Counts, ListJoin, counts_json};
pub use members::MemberWatcher;
pub use nodes::PresenceDoubts;
pub use reads::{Found, TaskFilter};

use crate::{
    channel::Registry,
    config::{PeopleConfig, TopicConfig},
    event::{Cursor, Draft, Seq},
    journal::{Journal, JournalError},
    nodes::NodeTable,
    people::{PeopleRefusal, PeopleTable},
    shutdown::Stage,
    task::{Entry, EventKey, Intent, InvalidEvent, Lease, NewTask, Policy, Refusal, Status, Table, key_digest},
    telemetry::Metrics,
    topics::{TopicRefusal, TopicTable},
};
use batch::{Ask, EventAsk};
use holders::Holders;
use live_list::LiveLists;
use members::Memberships;
use nodes::OwnNode;
use unknown::UnknownChannels;

/// How long a request waits for a place in the queue before it is turned away.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Settings of the tracker.
#[derive(Clone, Debug)]
pub struct TrackerOptions {
    /// On what decisions depend.
    pub policy: Policy,
    /// Requests that wait for the writer, at most.
    pub queue_length: usize,
    /// How long a finished task is kept, from its finish.
    pub retention: Duration,
    /// How many topics there may be, and how long.
    pub topics: TopicConfig,
    /// How many users are known, how long they and their notifications are kept.
    pub people: PeopleConfig,
    /// What time it is.
    pub clock: Clock,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The task's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What there is of topics does not allow it.
    #[error(transparent)]
    Topic(#[from] TopicRefusal),
    /// What is known of users does not allow it.
    #[error(transparent)]
    People(#[from] PeopleRefusal),
    /// More requests wait than the queue holds.
    #[error("the request queue is full")]
    Busy,
    /// There is no room left on the disk. Nothing was changed.
    #[error("the disk is full")]
    Full,
    /// The store does not answer.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store holds what this version cannot have written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl From<JournalError> for TrackerError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full => Self::Full,
            JournalError::Damaged(what) => Self::Damaged(what),
            JournalError::Unavailable(reason) => Self::Unavailable(reason),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<InvalidEvent> for TrackerError {
    fn from(error: InvalidEvent) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The task as it is now; absent when it was deleted, or the request was none on a task.
    pub entry: Option<Arc<Entry>>,
    /// Everything that was asked for is at or before it in the journal; where events were appended, it is that of the last.
    /// Zero when nothing had to be written.
    pub seq: Seq,
    /// Whether anything had to be written.
    pub changed: bool,
}

/// The way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Tracker {
    shared: Arc<Core>,
}

struct Core {
    requests: mpsc::Sender<Request>,
    journal: Arc<dyn Journal>,
    table: RwLock<Table>,
    topics: RwLock<TopicTable>,
    people: RwLock<PeopleTable>,
    nodes: RwLock<NodeTable>,
    /// Which of them this is, where there are nodes.
    own_node: Option<OwnNode>,
    members: Memberships,
    unknown: UnknownChannels,
    people_config: PeopleConfig,
    registry: Registry,
    clock: Clock,
    work: watch::Sender<()>,
    /// Told when what nodes share may have changed.
    facts: watch::Sender<()>,
    holders: Arc<Holders>,
    lists: LiveLists,
    metrics: Metrics,
    /// Of tasks in memory, by status.
    status_gauges: [Gauge; Status::ALL.len()],
}

/// One request on its way to the writer.
#[derive(Debug)]
struct Request {
    ask: Ask,
    reply: Option<oneshot::Sender<Result<Answer, TrackerError>>>,
    conflicts: u32,
    /// Whether the tables have followed all that was in the store when it was made.
    is_caught_up: bool,
}

impl Request {
    /// What time alone asks for.
    fn timer(id: Uuid, intent: Intent) -> Self {
        Self { ask: Ask::Task(id, intent), reply: None, conflicts: 0, is_caught_up: false }
    }

    fn is_timer(&self) -> bool {
        self.reply.is_none()
    }

    fn answer(self, answer: Result<Answer, TrackerError>) {
        if let Some(reply) = self.reply {
            // Whoever hung up does not want to know.
            let _hung_up = reply.send(answer);
        }
    }
}

impl Tracker {
    /// Restores the table from the journal and starts the writer as a task of `stage`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn start(
        journal: Arc<dyn Journal>,
        registry: Registry,
        options: TrackerOptions,
        metrics: Metrics,
        stage: &Stage,
    ) -> Result<Self, TrackerError> {
        let (requests, queue) = mpsc::channel(options.queue_length.max(1));
        let lists = LiveLists::new(registry.clone());
        let shared = Arc::new(Core {
            requests,
            clock: options.clock.of(Arc::clone(&journal)),
            nodes: RwLock::default(),
            own_node: journal.node().and_then(OwnNode::new),
            journal,
            table: RwLock::new(Table::new(options.policy)),
            topics: RwLock::new(TopicTable::new(options.topics.max_topics)),
            people: RwLock::new(PeopleTable::new(options.people.max_users)),
            members: Memberships::default(),
            unknown: UnknownChannels::default(),
            people_config: options.people,
            registry,
            work: watch::Sender::new(()),
            facts: watch::Sender::default(),
            holders: Arc::default(),
            lists,
            status_gauges: Status::ALL.map(|status| metrics.tasks_with(status.as_str())),
            metrics,
        });
        let writer = writer::Writer::restore(Arc::clone(&shared), queue).await?;
        stage.spawn(writer.run(stage.stop()));
        let tracker = Self { shared };
        stage.spawn(release(tracker.clone(), stage.stop()));
        stage.spawn(nodes::keep(tracker.clone(), stage.stop()));
        stage.spawn(sweeper::run(tracker.clone(), options.retention, options.topics.topic_retention, stage.stop()));
        Ok(tracker)
    }

    /// Asks for something of a task.
    ///
    /// # Errors
    /// When it is refused, or the store cannot take it.
    ///
    /// # Cancel safety
    /// Once the request is in the queue it is carried out, whether anybody waits for the answer or not.
    pub async fn submit(&self, id: Uuid, intent: Intent) -> Result<Answer, TrackerError> {
        self.ask(Ask::Task(id, intent)).await
    }

    /// Makes a task. With a key, the same request makes the same task again and again.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn create(&self, id: Uuid, new: NewTask, key: Option<&str>) -> Result<Answer, TrackerError> {
        let key = key.map(key_digest);
        self.ask(Ask::Task(id, Intent::Create { new, key, lease: None })).await
    }

    /// Makes a task that its maker works on under this lease from the first moment.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn create_claimed(&self, id: Uuid, new: NewTask, lease: Lease) -> Result<Answer, TrackerError> {
        self.ask(Ask::Task(id, Intent::Create { new, key: None, lease: Some(lease) })).await
    }

    /// Changes when what nodes share beside the log may have changed.
    pub fn facts(&self) -> watch::Receiver<()> {
        self.shared.facts.subscribe()
    }

    /// Says that the holder of a lease lives in this process, and for how long it wants the lease at a time: as long as
    /// the guard is there, the lease does not end by time alone.
    pub fn hold_lease(&self, token: Uuid, length: Duration) -> LeaseGuard {
        LeaseGuard::new(Arc::clone(&self.shared.holders), token, length)
    }

    /// Appends events to channels that are no task's; the answer names the place of the last of them. With a key, the
    /// same request again appends nothing and is answered like the first.
    ///
    /// # Errors
    /// See [`Tracker::submit`]; and when the key was used with another request.
    pub async fn append(&self, drafts: Vec<Draft>, key: Option<EventKey>) -> Result<Answer, TrackerError> {
        self.ask(Ask::Events(EventAsk::Append(drafts), key)).await
    }

    /// The cursor of a place in this store.
    pub fn cursor(&self, seq: Seq) -> Cursor {
        self.shared.journal.epochs().cursor(seq)
    }

    /// The name of this node among those that share the store, if others may.
    pub fn node(&self) -> Option<&str> {
        self.shared.own_node.as_ref().map(|own| &**own.name())
    }

    /// The clock by which decisions are made: it shows the time of the store.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// The last seq of the store that this node has seen.
    pub fn head(&self) -> Seq {
        self.shared.registry.head()
    }

    /// Comes back when the writer takes no requests any more: it was told to stop, or it is broken.
    pub async fn ended(&self) {
        self.shared.requests.closed().await;
    }

    /// Changes whenever a task waits for work.
    pub fn work(&self) -> watch::Receiver<()> {
        self.shared.work.subscribe()
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, TrackerError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { ask, reply: Some(reply), conflicts: 0, is_caught_up: false };
        let place = match self.shared.requests.try_reserve() {
            Err(TrySendError::Full(())) => {
                let place = timeout(QUEUE_WAIT_MAX, self.shared.requests.reserve()).await;
                place.map_err(|_| TrackerError::Busy)?.map_err(|_| TrackerError::Stopping)?
            }
            place => place.map_err(|_| TrackerError::Stopping)?,
        };
        place.send(request);
        answer.await.unwrap_or(Err(TrackerError::Stopping))
    }
}

impl Core {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics(&self) -> RwLockReadGuard<'_, TopicTable> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics_mut(&self) -> RwLockWriteGuard<'_, TopicTable> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> RwLockReadGuard<'_, NodeTable> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes_mut(&self) -> RwLockWriteGuard<'_, NodeTable> {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn people(&self) -> RwLockReadGuard<'_, PeopleTable> {
        self.people.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn people_mut(&self) -> RwLockWriteGuard<'_, PeopleTable> {
        self.people.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn release(tracker: Tracker, stop: CancellationToken) {
    let Core { registry, lists, .. } = &*tracker.shared;
    stop.run_until_cancelled(async { tokio::join!(registry.run(), lists.run()) }).await;
}

#[cfg(test)]
mod tests;
