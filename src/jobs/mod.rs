//! Jobs: the work that the service does itself.
//!
//! A [`Job`] advances the tasks of one kind. A runner claims the pending tasks of each kind. Each attempt runs supervised
//! in a task of its own, under an ordinary lease, so that a panic, a cancel or a crash becomes a state of the job's task
//! and does not affect the service. An upload is a job too, but begins with a request that brings its bytes.
//!
//! [`Jobs`] owns the places in which jobs run and the files they leave. It must not know HTTP: a request's body arrives
//! as a stream of bytes.

mod attempt;
mod job;
mod files;
mod janitor;
mod lease;
mod reporter;
mod runner;
mod simulate;
mod upload;

use std::{collections::HashSet, io, sync::Arc};

use uuid::Uuid;

pub use files::{Disk, FilesPlace, OverQuota, SavedFile, WholeDisk};
pub use job::{Job, JobContext, JobError};
pub use upload::{Form, Piece, ReceiveError, UploadError, UploadWords};

use crate::{
    config::{Config, JobConfig},
    shared::FilesAway,
    shutdown::Stage,
    task::NewTask,
    telemetry::Metrics,
    tracker::Tracker,
};
use files::{Files, KeptFiles, Quota};
use janitor::Janitor;
use lease::LeftLease;
use runner::JobKind;
use simulate::Simulate;
use upload::Upload;

/// The holder of a job's lease where the store is embedded; where it is shared, that is the node. Nobody else is this
/// node, so a lease of this holder that is found at start belongs to an earlier run of it.
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
    /// The same job, with its places.
    upload_kind: Arc<JobKind>,
    /// All kinds, uploads too.
    kinds: Vec<Arc<JobKind>>,
    stage: Stage,
}

/// What [`Jobs`] is built from.
struct Setup<'a> {
    place: FilesPlace,
    config: &'a Config,
    words: UploadWords,
    metrics: Metrics,
    disk: Arc<dyn Disk>,
    jobs: Vec<Arc<dyn Job>>,
}

impl Jobs {
    /// Resumes or gives back what an earlier run of the service held, and starts the runners as tasks of `stage`.
    ///
    /// `words` give the errors of uploads.
    ///
    /// # Errors
    /// When the directories of files cannot be created or renamed.
    pub fn start(
        tracker: Tracker,
        place: FilesPlace,
        config: &Config,
        words: UploadWords,
        metrics: Metrics,
        stage: &Stage,
    ) -> io::Result<Self> {
        let setup = Setup { place, config, words, metrics, disk: Arc::new(WholeDisk), jobs: vec![Arc::new(Simulate)] };
        Self::set_up(tracker, setup, stage)
    }

    fn set_up(tracker: Tracker, setup: Setup<'_>, stage: &Stage) -> io::Result<Self> {
        let Setup { place, config, words, metrics, disk, jobs } = setup;
        // Before anything can be claimed, so that all leases are of earlier runs.
        let left = LeftLease::all(&tracker, config.jobs.lease);
        let resuming = left.iter().filter(|left| left.can_resume()).map(|left| left.entry.task.task_id);
        let resuming: HashSet<_> = resuming.collect();
        let kept = KeptFiles::new(Quota::from(&config.limits), metrics.clone());
        let files = Files::open(place, disk, kept, |id| resuming.contains(&id))?;
        let janitor = Janitor { tracker: tracker.clone(), files: files.clone(), retention: config.tasks.retention };
        if files.are_somewhere() {
            stage.spawn(janitor.clone().run(stage.stop()));
        } else {
            files.kept.set_counted();
        }
        let kind = |job| Arc::new(JobKind::new(job, config.jobs.concurrency));
        let upload = Arc::new(Upload { files: files.clone(), janitor, config: config.uploads.clone(), words, metrics });
        left.iter().filter(|left| left.can_resume()).for_each(|left| upload.count_received(&left.entry));
        let upload_kind = kind(Arc::clone(&upload) as Arc<dyn Job>);
        let served: Vec<_> = jobs.into_iter().map(kind).collect();
        let kinds: Vec<_> = served.iter().chain([&upload_kind]).cloned().collect();
        let (config, stage) = (config.jobs.clone(), stage.clone());
        let jobs = Self { inner: Arc::new(Inner { tracker, config, files, upload, upload_kind, kinds, stage }) };
        let inner = &jobs.inner;
        for left in left {
            let kind = inner.kinds.iter().find(|kind| kind.job.kind() == left.entry.task.kind).cloned();
            inner.stage.spawn(runner::settle(Arc::clone(inner), kind, left));
        }
        inner.stage.spawn(runner::adopt(Arc::clone(inner)));
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
        if let Some(JobKind { job, .. }) = job.map(AsRef::as_ref) {
            job.check(new.input.as_ref())?;
            if new.steps.is_empty() {
                let (steps, unit) = job.steps();
                new.steps = steps;
                new.unit = new.unit.or_else(|| unit.map(str::to_owned));
            }
        }
        Ok(new)
    }

    /// Whether there is a directory for files now.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_files(&self) -> Result<(), FilesAway> {
        self.inner.files.check().await
    }

    /// Whether this user may keep one more file of at least so many bytes.
    ///
    /// # Errors
    /// When their files take all that they may.
    pub async fn check_quota(&self, user: Option<&str>, bytes: u64) -> Result<(), OverQuota> {
        self.inner.files.kept.counted().await;
        self.inner.files.kept.check(user, bytes)
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
