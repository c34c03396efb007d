//! Jobs on a tracker with a journal in memory, in paused time.

mod claiming;
mod files;
mod leases;
mod resuming;
mod running;
mod uploading;

use std::{fs, future::pending, sync::Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::watch, time::Instant};

use super::*;
use crate::{
    channel::{Registry, StreamLimits},
    config::{PeopleConfig, TaskConfig, UploadConfig},
    event::{ChannelName, Seq},
    journal::Journal,
    shared::{SharedFacts, SharedFiles},
    shutdown::Shutdown,
    task::{Entry, Intent, Lease, Payload, Policy, Status, StepSpec, Task},
    testing::MemoryJournal,
    tracker::{Answer, Clock, Found, TrackerOptions},
};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(3600);

/// A running tracker with its jobs.
struct House {
    journal: MemoryJournal,
    tracker: Tracker,
    jobs: Jobs,
    metrics: Metrics,
    shutdown: Shutdown,
    directory: Arc<TempDir>,
}

/// What a house is built with.
struct Plan {
    journal: MemoryJournal,
    clock: Clock,
    directory: Arc<TempDir>,
    is_shared: bool,
    concurrency: usize,
    uploads: UploadConfig,
    disk: Arc<dyn Disk>,
    jobs: Vec<Arc<dyn Job>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            journal: MemoryJournal::new(),
            clock: Clock::runtime(),
            directory: Arc::new(TempDir::new().unwrap()),
            is_shared: false,
            concurrency: 4,
            uploads: UploadConfig::default(),
            disk: Arc::new(WholeDisk),
            jobs: vec![Arc::new(Simulate)],
        }
    }
}

impl Plan {
    async fn build(self) -> House {
        let shutdown = Shutdown::default();
        let metrics = Metrics::new();
        let tracker = tracker(&self.journal, self.clock, &shutdown, metrics.clone()).await;
        let config = Config {
            data_dir: self.directory.path().to_owned(),
            jobs: JobConfig { concurrency: self.concurrency, lease: LEASE },
            tasks: TaskConfig { retention: RETENTION, ..TaskConfig::default() },
            uploads: self.uploads,
            ..Config::default()
        };
        let epoch = self.journal.epochs().store();
        let place = if self.is_shared {
            let facts = SharedFacts::of(Arc::new(self.journal.clone()));
            FilesPlace::Shared(SharedFiles::prove(&facts, epoch.as_str(), &config.data_dir).await.unwrap())
        } else {
            FilesPlace::Own { data_dir: config.data_dir.clone(), store: epoch.to_string() }
        };
        let words = crate::http::UPLOAD_WORDS;
        let setup = Setup { place, config: &config, words, metrics: metrics.clone(), disk: self.disk, jobs: self.jobs };
        let jobs = Jobs::set_up(tracker.clone(), setup, &shutdown.jobs).unwrap();
        House { journal: self.journal, tracker, jobs, metrics, shutdown, directory: self.directory }
    }
}

async fn tracker(journal: &MemoryJournal, clock: Clock, shutdown: &Shutdown, metrics: Metrics) -> Tracker {
    let limits = StreamLimits {
        history: 1000.into(),
        tick_interval: Duration::from_millis(50),
        streams: 10,
        streams_per_channel: 10,
    };
    let options = TrackerOptions {
        policy: Policy { stalled_after: Duration::from_secs(30), ..Policy::WIDE },
        queue_length: 100,
        retention: RETENTION,
        people: PeopleConfig::default(),
        topics: crate::config::TopicConfig::default(),
        clock,
    };
    let registry = Registry::new(journal.epochs().clone(), limits);
    Tracker::start(Arc::new(journal.clone()), registry, options, metrics, &shutdown.tracker).await.unwrap()
}

/// How a run of the service ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    InOrder,
    Killed,
}

/// A new upload, with its steps.
fn uploading() -> NewTask {
    let step = |(name, weight): (&str, f64)| StepSpec { name: name.into(), weight };
    let steps = [("receive", 6.0), ("validate", 1.0), ("transform", 2.0), ("save", 1.0)].map(step).into();
    NewTask { kind: Some(UPLOAD_KIND.into()), unit: Some("bytes".into()), steps, ..NewTask::default() }
}

impl House {
    /// What the next run is built with, once this one has ended.
    async fn end_run(self, end: End) -> Plan {
        let bound = if end == End::InOrder { Duration::from_secs(5) } else { Duration::ZERO };
        let in_order = self.shutdown.jobs.end(bound).await;
        assert_eq!(in_order, end == End::InOrder);
        self.shutdown.tracker.end(bound).await;
        let clock = self.tracker.clock();
        Plan { journal: self.journal.reopened(), clock, directory: self.directory, ..Plan::default() }
    }

    async fn submit(&self, kind: &str, input: Value) -> Uuid {
        self.create(NewTask { kind: Some(kind.into()), input: Payload::of(&input), ..NewTask::default() }).await
    }

    async fn create(&self, new: NewTask) -> Uuid {
        let id = Uuid::now_v7();
        self.tracker.create(id, new, None).await.unwrap();
        id
    }

    async fn ask(&self, id: Uuid, intent: Intent) -> Answer {
        self.tracker.submit(id, intent).await.unwrap()
    }

    async fn task(&self, id: Uuid) -> Task {
        self.entry(id).await.task.clone()
    }

    async fn entry(&self, id: Uuid) -> Arc<Entry> {
        match self.tracker.find(id).await.unwrap() {
            Found::Task(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the task is as asked for.
    async fn until(&self, id: Uuid, is_so: impl Fn(&Task) -> bool) -> Task {
        self.until_entry(id, |entry| is_so(&entry.task)).await.task.clone()
    }

    /// The same, with what is kept beside it. A tick wakes nobody, so it looks again at intervals.
    async fn until_entry(&self, id: Uuid, is_so: impl Fn(&Entry) -> bool) -> Arc<Entry> {
        let looking = async {
            loop {
                let entry = self.entry(id).await;
                if is_so(&entry) {
                    return entry;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(3600), looking).await {
            Ok(entry) => entry,
            Err(_) => panic!("it never was: {:?}", self.task(id).await),
        }
    }

    async fn end(&self, id: Uuid) -> Task {
        self.until(id, |task| task.status.is_final()).await
    }

    async fn error_code(&self, id: Uuid) -> String {
        let task = self.end(id).await;
        assert_eq!(task.status, Status::Error, "{task:?}");
        task.error.unwrap().code
    }

    /// What was said to a user.
    async fn said_to(&self, user: &str) -> Vec<String> {
        let channel = ChannelName::user(user).unwrap();
        let log = self.journal.read(&channel, Seq::ZERO).await.unwrap();
        log.events.iter().map(|event| String::from_utf8(event.draft.data.to_vec()).unwrap()).collect()
    }

    /// The files in one of the directories, but for the one that names its store.
    fn listed(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "store").collect()
    }

    #[track_caller]
    fn assert_no_files(&self) {
        assert_eq!([self.listed("incoming"), self.listed("files")], [const { Vec::<String>::new() }; 2]);
    }
}

/// A job that does what its test says.
struct Scripted<F>(&'static str, F);

#[async_trait]
impl<F, R> Job for Scripted<F>
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, JobError>> + Send,
{
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn run(&self, context: &JobContext) -> Result<Value, JobError> {
        (self.1)(context.clone()).await
    }
}

fn scripted<F, R>(kind: &'static str, run: F) -> Arc<dyn Job>
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, JobError>> + Send + 'static,
{
    Arc::new(Scripted(kind, run))
}
