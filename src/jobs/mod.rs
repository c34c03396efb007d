//! Jobs: the work that the service does itself.
//!
//! A [`Job`] advances the tasks of one kind. The runner claims what waits for one; each attempt runs supervised in a
//! task of its own, under an ordinary lease, so that a panic, a cancel or a crash ends as a state of the job's task and
//! never as trouble of the service. Uploads are jobs that are handed their bytes instead of taking from a queue.
//!
//! [`Jobs`] owns the places that jobs run in and the files they leave. It must not know HTTP: what comes from a request
//! reaches it as a stream of bytes.

mod attempt;
mod context;
mod files;
mod janitor;
mod lease;
mod reporter;
mod runner;
mod simulate;
mod upload;

use std::{collections::HashSet, io, sync::Arc};

use uuid::Uuid;

pub use context::{Job, JobContext, JobError};
pub use files::{Disk, SavedFile, WholeDisk};
pub use upload::{Form, Piece, ReceiveError, UploadError, UploadWords};

use crate::{
    config::{Config, JobConfig},
    shutdown::Stage,
    task::NewTask,
    telemetry::Metrics,
    tracker::Tracker,
};
use files::Files;
use janitor::Janitor;
use lease::Left;
use runner::Kind;
use simulate::Simulate;
use upload::Upload;

/// The holder of a job's lease. The store is locked by this process, so that where a lease of this name is found at the
/// start its holder is dead.
pub const HOLDER: &str = "embedded";

/// The kind of task that [`Jobs::upload`] does.
pub const UPLOAD_KIND: &str = upload::KIND;

/// The way to the jobs of the service. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: Tracker,
    config: JobConfig,
    files: Files,
    upload: Arc<Upload>,
    uploads: Arc<Kind>,
    /// All kinds, uploads too.
    kinds: Vec<Arc<Kind>>,
    stage: Stage,
}

/// What is settled before any job runs.
struct Setup<'a> {
    store: &'a str,
    config: &'a Config,
    words: UploadWords,
    metrics: Metrics,
    disk: Arc<dyn Disk>,
    jobs: Vec<Arc<dyn Job>>,
}

impl Jobs {
    /// Goes on with what a dead predecessor held, or gives it back, and starts to work as tasks of `stage`.
    ///
    /// `store` names the store of the tracker, for ever: files that another store knows are set aside. `words` say what
    /// becomes of uploads.
    ///
    /// # Errors
    /// When the directories of files cannot be made or moved.
    pub fn start(
        tracker: Tracker,
        store: &str,
        config: &Config,
        words: UploadWords,
        metrics: Metrics,
        stage: &Stage,
    ) -> io::Result<Self> {
        let setup = Setup { store, config, words, metrics, disk: Arc::new(WholeDisk), jobs: vec![Arc::new(Simulate)] };
        Self::set_up(tracker, setup, stage)
    }

    fn set_up(tracker: Tracker, setup: Setup<'_>, stage: &Stage) -> io::Result<Self> {
        let Setup { store, config, words, metrics, disk, jobs } = setup;
        // Looked up before anything can be claimed, so that only the dead one's leases are among them.
        let left = Left::all(&tracker, config.jobs.lease);
        let going_on = left.iter().filter(|left| left.can_go_on()).map(|left| left.entry.task.task_id);
        let going_on: HashSet<_> = going_on.collect();
        let files = Files::open(&config.data_dir, store, disk, |id| going_on.contains(&id))?;
        let janitor = Janitor { tracker: tracker.clone(), files: files.clone(), retention: config.tasks.retention };
        stage.spawn(janitor.clone().run(stage.stop()));
        let kind = |job| Arc::new(Kind::new(job, config.jobs.concurrency));
        let upload = Arc::new(Upload { files: files.clone(), janitor, config: config.uploads.clone(), words, metrics });
        let uploads = kind(Arc::clone(&upload) as Arc<dyn Job>);
        let served: Vec<_> = jobs.into_iter().map(kind).collect();
        let kinds: Vec<_> = served.iter().chain([&uploads]).cloned().collect();
        let (config, stage) = (config.jobs.clone(), stage.clone());
        let jobs = Self { inner: Arc::new(Inner { tracker, config, files, upload, uploads, kinds, stage }) };
        let inner = &jobs.inner;
        for left in left {
            let kind = inner.kinds.iter().find(|kind| kind.job.kind() == left.entry.task.kind).cloned();
            inner.stage.spawn(runner::settle(Arc::clone(inner), kind, left));
        }
        for kind in served {
            inner.stage.spawn(runner::run(Arc::clone(inner), kind));
        }
        Ok(jobs)
    }

    /// Makes a new task ready for the job that will do it: its input is checked, and it has the job's steps where it
    /// declares none. A task that its submitter works on is left as it is.
    ///
    /// # Errors
    /// What is wrong with its input.
    pub fn prepare(&self, mut new: NewTask) -> Result<NewTask, String> {
        let kind = new.kind.as_deref().filter(|_| new.start != Some(true));
        let job = kind.and_then(|kind| self.inner.kinds.iter().find(|known| known.job.kind() == kind));
        if let Some(Kind { job, .. }) = job.map(AsRef::as_ref) {
            job.check(new.input.as_ref())?;
            if new.steps.is_empty() {
                let (steps, unit) = job.steps();
                new.steps = steps;
                new.unit = new.unit.or_else(|| unit.map(str::to_owned));
            }
        }
        Ok(new)
    }

    /// The file that a completed upload left, if it is there.
    ///
    /// # Errors
    /// When the disk does not answer.
    pub async fn open_file(&self, id: Uuid) -> io::Result<Option<SavedFile>> {
        self.inner.files.open_saved(id).await
    }

    /// Removes the file of a task that was deleted. Where that fails, it is tried again within minutes.
    pub async fn forget_file(&self, id: Uuid) {
        if let Err(error) = self.inner.files.remove_saved(id).await {
            tracing::warn!(%error, task = %id, "the file of a deleted task could not be removed yet");
        }
    }
}

#[cfg(test)]
mod tests;
