//! What a job is, and what it is given to work with.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{lease::Backoff, reporter::Reporter};
use crate::{
    event::ChannelName,
    people,
    task::{Entry, EventKey, Payload, Report, StepSpec, Task, TaskError},
    tracker::{Tracker, TrackerError},
};

/// Maximum size of a checkpoint, in bytes of JSON.
const CHECKPOINT_BYTES_MAX: usize = 4 * 1024;

/// Work on the tasks of one kind.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// The kind of task that it does.
    fn kind(&self) -> &'static str;

    /// Maximum number of its tasks that run at once; further ones wait. `working` is the setting for jobs that use the disk
    /// or the processor.
    fn places(&self, working: usize) -> usize {
        working
    }

    /// The steps of its tasks, where a task declares none; and what they count.
    fn steps(&self) -> (Vec<StepSpec>, Option<&'static str>) {
        (Vec::new(), None)
    }

    /// Whether this node can resume the attempts of others, which have ended with their nodes.
    fn can_adopt(&self) -> bool {
        true
    }

    /// Checks the input of a new task, before it is accepted.
    ///
    /// # Errors
    /// What is wrong with it: `must be an object`, `steps must be 1 to 10`.
    fn check(&self, _input: Option<&Payload>) -> Result<(), String> {
        Ok(())
    }

    /// Does one task, and answers what came of it: up to 64 KiB of JSON.
    ///
    /// It should end soon once [`JobContext::unless_stopped`] says so; it is dropped if it does not. If the service ends before a job that
    /// has made a checkpoint, the next run of the service calls this again in the same attempt: the job then continues
    /// from [`JobContext::last_checkpoint`].
    ///
    /// # Errors
    /// [`JobError::Failed`] with what the task's submitter is to read, [`JobError::Stopped`] where it was asked to stop.
    async fn run(&self, context: &JobContext) -> Result<Value, JobError>;

    /// Removes what an attempt has left that did not complete its task; not called if a later run of the service will
    /// resume it. `entry` is the task as it was when the attempt began.
    async fn clean_up(&self, _entry: &Entry) {}
}

/// Why a job ended without a result.
#[derive(Clone, Debug, PartialEq)]
pub enum JobError {
    /// It could not be done.
    Failed(TaskError),
    /// It was asked to stop.
    Stopped,
}

impl From<TaskError> for JobError {
    fn from(error: TaskError) -> Self {
        Self::Failed(error)
    }
}

/// One attempt at one task, as its job sees it. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    pub(super) entry: Arc<Entry>,
    pub(super) tracker: Tracker,
    pub(super) reporter: Reporter,
    pub(super) stop: CancellationToken,
}

impl JobContext {
    /// The task's id.
    pub fn task_id(&self) -> Uuid {
        self.entry.task.task_id
    }

    /// The task as it was when this attempt began.
    pub fn task(&self) -> &Task {
        &self.entry.task
    }

    /// What it is to work on.
    pub fn input(&self) -> Option<&Payload> {
        self.entry.origin.input.as_ref()
    }

    /// Tells how it goes, without waiting: of what is told in a short while, the latest of each member arrives.
    pub fn tick(&self, report: Report) {
        self.reporter.tick(report);
    }

    /// Tells what must not be lost, such as the begin of a step; back when it is durable.
    ///
    /// # Errors
    /// [`JobError::Stopped`] when the job is to stop.
    pub async fn report(&self, report: Report) -> Result<(), JobError> {
        self.unless_stopped(self.reporter.report(report)).await?
    }

    /// Reports progress, and from where a later run of the service can continue; returns when it is durable.
    ///
    /// # Errors
    /// [`JobError::Stopped`] when the job is to stop, [`JobError::Failed`] when `checkpoint` has more than 4 KiB of JSON:
    /// it is stored again with each report.
    pub async fn checkpoint<T: Serialize>(&self, report: Report, checkpoint: &T) -> Result<(), JobError> {
        let payload = serde_json::to_value(checkpoint).ok().as_ref().and_then(Payload::of);
        match payload.filter(|payload| payload.as_str().len() <= CHECKPOINT_BYTES_MAX) {
            Some(payload) => self.unless_stopped(self.reporter.checkpoint(report, payload)).await?,
            None => Err(bad_checkpoint().into()),
        }
    }

    /// The checkpoint from which to continue; `None` if this attempt begins now.
    ///
    /// # Errors
    /// [`JobError::Failed`] when it cannot be parsed.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, JobError> {
        let checkpoint = self.entry.memo.checkpoint.as_ref().map(Payload::parse).transpose();
        checkpoint.map_err(|error| {
            tracing::error!(%error, task = %self.task_id(), "a checkpoint cannot be parsed");
            bad_checkpoint().into()
        })
    }

    /// Says something to the user for whom the task is done, if there is one; back when it is durable.
    ///
    /// # Errors
    /// [`JobError::Stopped`] when the job is to stop.
    pub async fn say(&self, text: Bytes) -> Result<(), JobError> {
        // The name was checked when the task was made.
        let user = self.entry.task.user_id.as_deref().and_then(|user| ChannelName::user(user).ok());
        match user {
            Some(user) => self.unless_stopped(Box::pin(self.append(&user, text))).await?,
            None => Ok(()),
        }
    }

    /// Waits.
    ///
    /// # Errors
    /// [`JobError::Stopped`] when the job is to stop.
    pub async fn sleep(&self, span: Duration) -> Result<(), JobError> {
        self.unless_stopped(tokio::time::sleep(span)).await
    }

    /// Waits for something, unless the job is to stop.
    ///
    /// # Errors
    /// [`JobError::Stopped`] when the job is to stop.
    pub async fn unless_stopped<T>(&self, what: impl Future<Output = T>) -> Result<T, JobError> {
        // Pinned here, since each async function that takes a future by value makes room for it twice.
        self.stop.run_until_cancelled(std::pin::pin!(what)).await.ok_or(JobError::Stopped)
    }

    async fn append(&self, user: &ChannelName, text: Bytes) -> Result<(), JobError> {
        let mut backoff = Backoff::default();
        // What was said although its answer was lost is not said again.
        let key = EventKey::new(user, &Uuid::now_v7().to_string(), &text);
        loop {
            match self.tracker.append(vec![people::message(user, text.clone())], Some(key)).await {
                Ok(_) => return Ok(()),
                Err(TrackerError::Refused(_) | TrackerError::Stopping) => return Err(JobError::Stopped),
                Err(error) => backoff.pause(&error).await,
            }
        }
    }
}

fn bad_checkpoint() -> TaskError {
    TaskError::new(
        "job_not_resumable",
        "The job cannot be resumed",
        500,
        "Its checkpoint is too large or cannot be read.",
    )
}
