//! The job `upload`: receives a file, checks it, digests it, saves it.
//!
//! The bytes come as a [`Form`]; its sender may leave once it is received whole. From then on the upload survives the
//! end of the service: the file is synced, and a checkpoint is committed from which a later run resumes. Memory does not
//! grow with the file. If an upload ends without a saved file, nothing of it stays on the disk.

mod digest;
mod phases;
mod receive;
mod sniff;
mod file_name;

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use super::{
    Inner, Job, JobContext, JobError, Jobs,
    attempt::{Ended, attempt},
    files::{Files, IncomingFile, OverQuota},
    janitor::Janitor,
    lease::HeldLease,
    runner::release,
};
use crate::{
    config::UploadConfig,
    shared::FilesAway,
    task::{Entry, NewTask, Report, StepSpec, TaskError},
    telemetry::Metrics,
    tracker::TrackerError,
};
use digest::Digests;
use phases::Phases;

/// The kind of task that an upload is.
pub(super) const KIND: &str = "upload";
/// What it counts.
pub(super) const UNIT: &str = "bytes";

/// The steps with their weights: the network is usually slower than the disk, and reading back than a rename.
const STEPS: [(&str, f64); 4] = [("receive", 6.0), ("validate", 1.0), ("transform", 2.0), ("save", 1.0)];
/// How often it is looked for a directory that is away.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

const RECEIVE: usize = 0;
const VALIDATE: usize = 1;
const TRANSFORM: usize = 2;
const SAVE: usize = 3;

/// A form with one file, as it comes in: first what is known of the file, then its bytes, then the end, once the form was
/// found whole. Where it breaks, the error is its task's.
pub type Form = BoxStream<'static, Result<Piece, TaskError>>;

/// What a form brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What is known of the file before its first byte.
    File {
        /// What the client calls it.
        name: Option<String>,
        /// How large it probably is, in bytes.
        size: Option<u64>,
    },
    /// The next bytes.
    Bytes(Bytes),
}

/// Why a file cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// There is none.
    NoFile,
    /// It has more bytes than this.
    TooLarge(u64),
    /// The files of its user take all that they may.
    OverQuota(OverQuota),
    /// It is of a type that is not accepted.
    TypeNotAllowed {
        /// What its own bytes say that it is.
        found: String,
        /// What is accepted.
        accepted: Vec<String>,
    },
    /// There is no room left on the disk.
    DiskFull,
    /// The directory of files is not there.
    Away(FilesAway),
    /// The disk failed; the log says how.
    DiskFailed,
}

/// What is said of uploads, in the words of the interface that they came through.
#[derive(Clone, Copy)]
pub struct UploadWords {
    /// The error of a task whose file cannot be kept.
    pub error: fn(&ReceiveError) -> TaskError,
    /// Where the file of a task is.
    pub file_url: fn(Uuid) -> String,
}

/// Why a file was not received.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UploadError {
    /// The task cannot be taken.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// The task ended in this error.
    #[error("the upload failed: {}", .0.title)]
    Failed(TaskError),
    /// The task was cancelled.
    #[error("the upload was cancelled")]
    Cancelled,
    /// The task is not this upload's any more, or the service ends.
    #[error("the upload was given up")]
    GivenUp,
}

impl Jobs {
    /// Takes a pending task of kind [`super::UPLOAD_KIND`], or makes it first, and does it with the file of `form`; back
    /// as soon as the file is received whole and durable, while the work continues.
    ///
    /// # Errors
    /// When the task cannot be made or taken, or the file was not received; the task says the same.
    ///
    /// # Cancel safety
    /// The work continues, or ends with an error, even if nobody waits: a task that is created here is never left pending.
    pub async fn upload(&self, id: Uuid, new: Option<NewTask>, form: Form) -> Result<(), UploadError> {
        let (received, receipt) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        self.inner.stage.spawn(carry(Arc::clone(&self.inner), (id, new), form, received, ended));
        if receipt.await.is_ok() {
            return Ok(());
        }
        Err(end.await.unwrap_or(UploadError::GivenUp))
    }
}

/// Does an upload from its beginning to what is left behind.
async fn carry(
    inner: Arc<Inner>,
    (id, new): (Uuid, Option<NewTask>),
    form: Form,
    received: oneshot::Sender<()>,
    ended: oneshot::Sender<UploadError>,
) {
    let error = match begin(&inner, id, new).await {
        Ok((held, entry)) => {
            let (upload, places) = (Arc::clone(&inner.upload), Arc::clone(&inner.upload_kind.places));
            let file = held.token;
            let work = |context| async move { upload.work(&context, file, form, received, &places).await };
            match attempt(&*inner.upload, &inner.stage, held, entry, work).await {
                Ended::Failed(error) => UploadError::Failed(error),
                Ended::Cancelled => UploadError::Cancelled,
                Ended::Completed | Ended::Lost | Ended::GivenBack | Ended::Left => UploadError::GivenUp,
            }
        }
        Err(error) => {
            drop(received);
            error.into()
        }
    };
    // Whoever has been told that the file was received does not listen any more.
    let _answered = ended.send(error);
}

async fn begin(inner: &Inner, id: Uuid, new: Option<NewTask>) -> Result<(HeldLease, Arc<Entry>), TrackerError> {
    let held = HeldLease::new(&inner.tracker, id, inner.config.lease);
    let entry = match new {
        Some(new) => held.create(new).await?,
        None => {
            let entry = held.claim().await?;
            if inner.stage.stop().is_cancelled() {
                release(&held).await;
                return Err(TrackerError::Stopping);
            }
            entry
        }
    };
    Ok((held, entry))
}

/// Does tasks of kind [`KIND`]. They have no runner: [`Jobs::upload`] begins them.
pub(super) struct Upload {
    pub(super) files: Files,
    pub(super) janitor: Janitor,
    pub(super) config: UploadConfig,
    pub(super) words: UploadWords,
    pub(super) metrics: Metrics,
}

/// The checkpoint of an upload whose file is received.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    /// The token of the attempt that received it: part of the file's name on the disk.
    attempt: Uuid,
    /// The name that the client gave the file, made safe.
    name: String,
    /// Its size in bytes.
    size: u64,
}

/// What the last checkpoint of an upload says.
fn received(entry: &Entry) -> Option<Received> {
    entry.memo.checkpoint.as_ref().and_then(|checkpoint| checkpoint.parse().ok())
}

/// Whether what an attempt has received is needed by the task as it is now.
pub(super) fn needs(entry: &Entry, attempt: Uuid) -> bool {
    let is_leased = entry.memo.lease.as_ref().is_some_and(|lease| lease.token == attempt);
    is_leased || received(entry).is_some_and(|received| received.attempt == attempt)
}

#[async_trait]
impl Job for Upload {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn can_adopt(&self) -> bool {
        self.files.are_shared()
    }

    fn steps(&self) -> (Vec<StepSpec>, Option<&'static str>) {
        let step = |(name, weight): (&str, f64)| StepSpec { name: name.into(), weight };
        (STEPS.map(step).into(), Some(UNIT))
    }

    /// Resumes with a file that an earlier run of the service received.
    async fn run(&self, context: &JobContext) -> Result<Value, JobError> {
        let received: Received = context.last_checkpoint()?.ok_or_else(|| (self.words.error)(&ReceiveError::NoFile))?;
        let phases = self.phases(context);
        self.wait_for_files(context).await?;
        let found = context.unless_stopped(self.files.find(context.task_id(), received.attempt)).await?;
        let file = found.map_err(|error| phases.disk_error(&error))?;
        if file.size() != received.size {
            let error = format!("{} bytes were received, {} are there", received.size, file.size());
            return Err(phases.disk_error(&io::Error::other(error)).into());
        }
        self.finish(&phases, received.name, file).await
    }

    async fn clean_up(&self, entry: &Entry) {
        let lease = entry.memo.lease.as_ref();
        let attempt = received(entry).map(|received| received.attempt).or(lease.map(|lease| lease.token));
        // Another node may go on with what was received here.
        let is_needed =
            |attempt| self.janitor.tracker.live(entry.task.task_id).is_some_and(|entry| needs(&entry, attempt));
        if let Some(attempt) = attempt.filter(|attempt| !is_needed(*attempt)) {
            self.discard(entry.task.task_id, attempt).await;
        }
        self.janitor.tidy(entry.task.task_id).await;
    }
}

impl Upload {
    /// Counts a file that an earlier run of the service received.
    pub(super) fn count_received(&self, entry: &Entry) {
        if let Some(received) = received(entry) {
            self.files.kept.set(entry.task.task_id, entry.task.user_id.as_deref(), received.size);
        }
    }

    /// Receives a file and processes it; sends `told` when it is received.
    async fn work(
        &self,
        context: &JobContext,
        attempt: Uuid,
        form: Form,
        told: oneshot::Sender<()>,
        places: &Semaphore,
    ) -> Result<Value, JobError> {
        let (id, phases) = (context.task_id(), self.phases(context));
        let (name, file) = match self.receive(&phases, attempt, form).await {
            Ok(received) => received,
            Err(error) => {
                // Before the error is reported: on a full disk, the store needs the room to write it.
                self.discard(id, attempt).await;
                return Err(error);
            }
        };
        // The announced size was a guess.
        let size = file.size();
        let report = Report { current: Some(size), total: Some(size), ..Report::default() };
        let received = Received { attempt, name, size };
        context.checkpoint(phases.at(RECEIVE, Some(1.0), report), &received).await?;
        // A client that has hung up changes nothing.
        let _hung_up = told.send(());
        // Receiving needs no place; the steps from here on use the disk and the processor.
        let _place = context.unless_stopped(places.acquire()).await?;
        self.finish(&phases, received.name, file).await
    }

    /// The steps after the file is received. If the service ends during them, its next run repeats them all.
    async fn finish(&self, phases: &Phases, name: String, file: IncomingFile) -> Result<Value, JobError> {
        let context = &phases.context;
        let size = file.size();
        phases.begin(VALIDATE, format!("Checking {name}")).await?;
        let content_type = self.validate(phases, &file).await?;
        phases.begin(TRANSFORM, format!("Digesting {name}")).await?;
        let Digests { blake3, sha256 } = phases.digest(&file).await?;
        phases.begin(SAVE, format!("Saving {name}")).await?;
        self.wait_for_files(context).await?;
        let saved = context.unless_stopped(self.files.save(context.task_id(), file)).await?;
        saved.map_err(|error| phases.disk_error(&error))?;
        context.tick(Report { message: Some(format!("Saved {name}")), ..Report::default() });
        Ok(json!({
            "fileName": name,
            "size": size,
            "contentType": content_type,
            "blake3": blake3,
            "sha256": sha256,
            "file": (self.words.file_url)(context.task_id()),
        }))
    }

    /// A file that was received is kept until there is the directory again: the client was told that it would be.
    async fn wait_for_files(&self, context: &JobContext) -> Result<(), JobError> {
        let mut was_told = false;
        while let Err(away) = self.files.check().await {
            if !was_told {
                tracing::error!(task = %context.task_id(), "an upload waits: {away}");
            }
            was_told = true;
            context.sleep(AWAY_PAUSE).await?;
        }
        Ok(())
    }

    async fn validate(&self, phases: &Phases, file: &IncomingFile) -> Result<String, JobError> {
        let reader = file.reader().map_err(|error| phases.disk_error(&error))?;
        let found = phases.context.unless_stopped(sniff::content_type(reader)).await?;
        let content_type = found.map_err(|error| phases.disk_error(&error))?;
        let types = &self.config.types;
        if types.is_empty() || types.iter().any(|allowed| sniff::matches(allowed, &content_type)) {
            return Ok(content_type);
        }
        Err(phases.error(&ReceiveError::TypeNotAllowed { found: content_type, accepted: types.clone() }).into())
    }

    fn phases(&self, context: &JobContext) -> Phases {
        let names = context.task().steps.iter().map(|step| step.name.as_str());
        let has_steps = names.eq(STEPS.map(|(name, _)| name));
        Phases { context: context.clone(), words: self.words, has_steps }
    }

    async fn discard(&self, id: Uuid, attempt: Uuid) {
        if let Err(error) = self.files.discard(id, attempt).await {
            tracing::warn!(%error, task = %id, "a received file could not be removed; the next start removes it");
        }
    }
}
