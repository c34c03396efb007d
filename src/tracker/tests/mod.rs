//! The spine against a journal that misbehaves: whatever happens, each caller hears the truth once.
//!
//! A test is a function of the [`Store`] that the journal is on; the macro at the end of each file runs it on every store.

/// Runs each of these tests on every store: those under `running` while time goes on, those under `paused` with a clock
/// that moves only when all wait for it, those under `any` without a runtime.
macro_rules! on_each_store {
    (@running $test:ident $store:ident) => {
        #[tokio::test]
        async fn $test() {
            super::$test(crate::tracker::tests::Store::$store).await;
        }
    };
    (@paused $test:ident $store:ident) => {
        #[tokio::test(start_paused = true)]
        async fn $test() {
            super::$test(crate::tracker::tests::Store::$store).await;
        }
    };
    (@any $test:ident $store:ident) => {
        #[test]
        fn $test() {
            super::$test(crate::tracker::tests::Store::$store);
        }
    };
    ($($clock:ident { $($test:ident),+ $(,)? })+) => {
        mod memory { $($(on_each_store!(@$clock $test Memory);)+)+ }
        mod sqlite { $($(on_each_store!(@$clock $test Sqlite);)+)+ }
    };
}

mod behind;
mod bounds;
mod conflicts;
mod durability;
mod evicted;
mod fairness;
mod faults;
mod keys;
mod lost_answers;
mod merging;
mod members;
mod nodes;
mod people;
mod stores;
mod timers;
mod topics;
mod unreadable;
mod watching;

use stores::{Store, any_acts};
use tokio::task::JoinSet;

use super::*;
use crate::{
    channel::{Delivery, Join, StreamLimits, Subscriber, Watch},
    event::{ChannelName, Event, Resume},
    journal::{Group, Tail},
    shutdown::Shutdown,
    task::{Decision, Row, Status, decide},
    testing::{Faults, FaultyJournal, TestStore},
};

pub(super) const STALLED_AFTER: Duration = Duration::from_secs(30);
pub(super) const RETENTION: Duration = Duration::from_secs(3_600);
pub(super) const USER_RETENTION: Duration = Duration::from_secs(10 * 3_600);
const TOPIC_RETENTION: Duration = Duration::from_secs(10 * 3_600);
const PENDING_MAX: Duration = Duration::from_secs(10 * 3_600);
pub(super) const INBOX_MAX_AGE: Duration = Duration::from_secs(20 * 3_600);
const POLICY: Policy = Policy { stalled_after: STALLED_AFTER, pending_max: PENDING_MAX, ..Policy::WIDE };

/// A tracker on a journal that can be made to fail.
pub(super) struct Rig {
    pub(super) journal: FaultyJournal<dyn TestStore>,
    pub(super) tracker: Tracker,
    pub(super) stage: Stage,
}

impl Rig {
    pub(super) async fn start(store: Store) -> Self {
        Self::on(store.open()).await
    }

    pub(super) async fn on(journal: FaultyJournal<dyn TestStore>) -> Self {
        Self::with(POLICY, journal, 4_096, Clock::runtime()).await
    }

    /// Where this happens before each append; where it fails, so does the append.
    pub(super) async fn haunted(
        store: Store,
        before_append: impl FnMut(&mut Faults, &[Group]) -> Result<(), JournalError> + Send + 'static,
    ) -> Self {
        let journal = store.open();
        journal.before_append(before_append);
        Self::on(journal).await
    }

    /// Stopped in order, and started again on the same store.
    pub(super) async fn restarted(self) -> Self {
        assert!(self.stage.end(Duration::from_secs(60)).await, "it ends by itself");
        Self::with(POLICY, self.journal.reopened(), 4_096, self.tracker.clock()).await
    }

    pub(super) async fn with(
        policy: Policy,
        journal: FaultyJournal<dyn TestStore>,
        queue_length: usize,
        clock: Clock,
    ) -> Self {
        Self::paced(policy, journal, queue_length, clock, Duration::ZERO).await
    }

    /// The same, where ticks come no more often than this.
    pub(super) async fn paced(
        policy: Policy,
        journal: FaultyJournal<dyn TestStore>,
        queue_length: usize,
        clock: Clock,
        tick_interval: Duration,
    ) -> Self {
        let limits = StreamLimits { history: 100.into(), tick_interval, streams: 100, streams_per_channel: 100 };
        let people =
            PeopleConfig { user_retention: USER_RETENTION, inbox_max_age: INBOX_MAX_AGE, ..PeopleConfig::default() };
        let topics = TopicConfig { topic_retention: TOPIC_RETENTION, ..TopicConfig::default() };
        let options = TrackerOptions { policy, queue_length, retention: RETENTION, clock, people, topics };
        let stage = Shutdown::default().tracker;
        let registry = Registry::new(journal.epochs().clone(), limits);
        let tracker =
            Tracker::start(Arc::new(journal.clone()), registry, options, Metrics::new(), &stage).await.unwrap();
        Self { journal, tracker, stage }
    }

    /// A new task that is being worked on.
    pub(super) async fn started(&self) -> Uuid {
        self.made(r#"{"start":true}"#).await
    }

    pub(super) async fn made(&self, new: &str) -> Uuid {
        let id = Uuid::now_v7();
        self.tracker.create(id, new_task(new), None).await.unwrap();
        id
    }

    /// A task that has ended and, unless the fold is held, has left memory.
    pub(super) async fn finished(&self) -> Uuid {
        let id = self.started().await;
        self.report(id, r#"{"status":"completed"}"#).await.unwrap();
        id
    }

    pub(super) async fn report(&self, id: Uuid, report: &str) -> Result<Answer, TrackerError> {
        self.tracker.submit(id, reported(report)).await
    }

    pub(super) async fn task(&self, id: Uuid) -> Entry {
        Entry::clone(&self.tracker.find(id).await.unwrap().entry().unwrap())
    }

    pub(super) async fn status(&self, id: Uuid) -> Status {
        self.task(id).await.task.status
    }

    pub(super) async fn watch(&self, id: Uuid, cursor: Resume) -> (Join, Subscriber) {
        self.tracker.watch(&ChannelName::task(id), cursor).await.unwrap()
    }

    /// What another node would commit for this intent.
    pub(super) async fn foreign(&self, id: Uuid, intent: &Intent) -> Group {
        let entry = self.tracker.find(id).await.unwrap().entry().ok();
        let now = self.tracker.clock().now();
        let drafts = drafts(decide(id, entry.as_deref(), intent, now, &POLICY).unwrap());
        Group { id: Uuid::now_v7(), at: now, expects: Vec::new(), drafts }
    }

    /// All events in the journal.
    pub(super) async fn events(&self) -> Vec<Event> {
        match self.journal.tail(Seq::ZERO, usize::MAX).await.unwrap() {
            Tail::Events(events) => events,
            Tail::Lapsed => panic!("it was trimmed"),
        }
    }

    /// Puts these into one batch; answers in the same order. Makes one append more than they need.
    pub(super) async fn in_one_batch(&self, asked: Vec<(Uuid, Intent)>) -> Vec<Result<Answer, TrackerError>> {
        let gate = self.journal.hold_appends();
        let mut callers = JoinSet::new();
        let blocking = self.tracker.clone();
        let blocker =
            callers.spawn(async move { (usize::MAX, blocking.create(Uuid::now_v7(), NewTask::default(), None).await) });
        gate.reached().await;
        for (nth, (id, intent)) in asked.into_iter().enumerate() {
            let tracker = self.tracker.clone();
            callers.spawn(async move {
                let answer = match intent {
                    Intent::Create { new, .. } => tracker.create(id, new, None).await,
                    other => tracker.ask(Ask::Task(id, other)).await,
                };
                (nth, answer)
            });
            // In this order: the caller runs until its request is in the queue.
            tokio::task::yield_now().await;
        }
        drop(blocker);
        gate.release();
        let mut answers = callers.join_all().await;
        answers.sort_by_key(|(nth, _)| *nth);
        answers.pop();
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// What is appended of a decision.
pub(super) fn drafts(decision: Decision) -> Vec<Draft> {
    decision.into_iter().map(|decided| decided.draft).collect()
}

pub(super) fn new_task(json: &str) -> NewTask {
    serde_json::from_str(json).unwrap()
}

pub(super) fn create(json: &str) -> Intent {
    Intent::Create { new: new_task(json), key: None, lease: None }
}

pub(super) fn reported(json: &str) -> Intent {
    Intent::Report { report: serde_json::from_str(json).unwrap(), token: None }
}

pub(super) fn refused(answer: Result<Answer, TrackerError>) -> Refusal {
    match answer {
        Err(TrackerError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// What a watcher can have now: `progress` of each event, and what came after them.
pub(super) fn shown(subscriber: &mut Subscriber) -> (Vec<Option<f64>>, Option<Delivery>) {
    let mut shown = Vec::new();
    loop {
        match subscriber.poll_next(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(Delivery::Frame(frame)) => {
                let task: crate::task::Task = serde_json::from_slice(&frame.event().draft.data).unwrap();
                shown.push(task.progress);
            }
            std::task::Poll::Ready(end) => return (shown, Some(end)),
            std::task::Poll::Pending => return (shown, None),
        }
    }
}
