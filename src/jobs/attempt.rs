//! One attempt at one task, supervised: the work runs in a task of its own; beside it, its lease is renewed, its reports
//! are sent, and whatever should stop it is watched for. However the work ends, even with a panic, its end is reported.
//! Only if the service ends and the job has made a checkpoint, the lease stays on the task, and the next run of the
//! service resumes the attempt.

use std::{future::Future, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Job, JobContext, JobError,
    lease::HeldLease,
    reporter::{Voice, reporter},
};
use crate::{
    shutdown::Stage,
    task::{Entry, PAYLOAD_BYTES_MAX, Payload, Refusal, Report, ReportedError, ReportedStatus, Status, TaskError},
    tracker::TrackerError,
};

/// How long work may take to end once it was asked to.
pub(super) const STOP_BOUND: Duration = Duration::from_secs(5);
/// The same when the service ends: the stage of jobs has little more.
pub(super) const SHUTDOWN_BOUND: Duration = Duration::from_secs(2);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its task is completed.
    Completed,
    /// Its task is in error.
    Failed(TaskError),
    /// Its task is cancelled.
    Cancelled,
    /// Its task is not its own any more.
    Lost,
    /// The service ends; the task was given back.
    GivenBack,
    /// The service ends; its next run resumes the attempt.
    Left,
}

/// Why work is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Cancelled,
    Lost,
    Shutdown,
}

type JobResult = Result<Value, JobError>;

/// How the work's own task ended; `None` where it was dropped.
type EndedWork = Result<Option<JobResult>, JoinError>;

/// Runs the work of one claimed task to its end, then lets the job clean up.
pub(super) async fn attempt<W, F>(job: &dyn Job, stage: &Stage, held: HeldLease, entry: Arc<Entry>, work: W) -> Ended
where
    W: FnOnce(JobContext) -> F,
    F: Future<Output = JobResult> + Send + 'static,
{
    let ended = supervise(stage, held, Arc::clone(&entry), work).await;
    if !matches!(ended, Ended::Completed | Ended::Left) {
        job.clean_up(&entry).await;
    }
    ended
}

async fn supervise<W, F>(stage: &Stage, held: HeldLease, entry: Arc<Entry>, work: W) -> Ended
where
    W: FnOnce(JobContext) -> F,
    F: Future<Output = JobResult> + Send + 'static,
{
    let span = tracing::info_span!("job", task = %held.id, kind = entry.task.kind, attempt = entry.task.attempt);
    let (reporter, mut voice) = reporter(held.tracker.clone(), held.id, held.token);
    let stop = CancellationToken::new();
    let context = JobContext { entry, tracker: held.tracker.clone(), reporter, stop: stop.clone() };
    let supervision = async {
        tracing::debug!("the job begins");
        let mut work = stage.spawn(work(context).instrument(tracing::Span::current()));
        let reason = tokio::select! {
            biased;
            joined = &mut work => return conclude(&held, &mut voice, joined, None).await,
            reason = interruption(&held, &mut voice, stage) => reason,
        };
        tracing::info!(?reason, "the job is asked to stop");
        stop.cancel();
        let bound = if reason == Reason::Shutdown { SHUTDOWN_BOUND } else { STOP_BOUND };
        let joined = match tokio::time::timeout(bound, &mut work).await {
            Ok(joined) => joined,
            Err(_) => {
                tracing::warn!("the job did not stop when asked to; dropping it");
                work.abort();
                Ok(None)
            }
        };
        conclude(&held, &mut voice, joined, Some(reason)).await
    };
    let ended = supervision.instrument(span.clone()).await;
    span.in_scope(|| tracing::info!(?ended, "the job has ended"));
    ended
}

/// Keeps the attempt's lease and voice going until it should stop.
async fn interruption(held: &HeldLease, voice: &mut Voice, stage: &Stage) -> Reason {
    let stop = stage.stop();
    tokio::select! {
        reason = disowned(held) => reason,
        error = held.keep() => silenced(&error),
        error = voice.run() => silenced(&error),
        () = stop.cancelled() => Reason::Shutdown,
    }
}

/// Until the task was cancelled, or is not this attempt's any more.
async fn disowned(held: &HeldLease) -> Reason {
    loop {
        match held.entry() {
            None => return Reason::Lost,
            Some(entry) if entry.task.status == Status::Cancelling => return Reason::Cancelled,
            Some(_) => {}
        }
        held.changed().await;
    }
}

fn silenced(error: &TrackerError) -> Reason {
    if matches!(error, TrackerError::Stopping) {
        return Reason::Shutdown;
    }
    tracing::warn!(%error, "the lease on the task is lost");
    Reason::Lost
}

/// Tells the task how the work ended.
async fn conclude(held: &HeldLease, voice: &mut Voice, joined: EndedWork, reason: Option<Reason>) -> Ended {
    let (report, ended) = match (joined, reason) {
        (_, Some(Reason::Lost)) => return Ended::Lost,
        (Ok(Some(Ok(result))), _) => completion(result),
        (Err(error), _) if error.is_panic() => failure(panicked(error)),
        (_, Some(Reason::Cancelled)) => (with_status(ReportedStatus::Cancelled), Ended::Cancelled),
        (Ok(Some(Err(JobError::Failed(error)))), _) => failure(error),
        // Nobody asked it to stop, so what it had said could not be taken; or the whole stage is being dropped.
        (_, Some(Reason::Shutdown)) if held.leave() => return Ended::Left,
        (_, Some(Reason::Shutdown) | None) => {
            return match held.give_back().await {
                Ok(_) => Ended::GivenBack,
                Err(error) => untold(held, &error),
            };
        }
    };
    let told = tokio::select! {
        biased;
        told = voice.finish(report) => told,
        error = held.keep() => Err(error),
    };
    told.map_or_else(|error| untold(held, &error), |_| ended)
}

fn completion(result: Value) -> (Report, Ended) {
    let result = Payload::of(&result);
    let size = result.as_ref().map_or(0, |result| result.as_str().len());
    if size > PAYLOAD_BYTES_MAX {
        let detail = format!("The result has {size} bytes of JSON, more than {PAYLOAD_BYTES_MAX}.");
        return failure(TaskError::new("result_too_large", "The result is too large", 500, detail));
    }
    (Report { result, ..with_status(ReportedStatus::Completed) }, Ended::Completed)
}

fn failure(error: TaskError) -> (Report, Ended) {
    let reported = ReportedError {
        kind: None,
        code: Some(error.code.clone()),
        title: Some(error.title.clone()),
        detail: error.detail.clone(),
        status: Some(error.status),
    };
    (Report { error: Some(reported), ..with_status(ReportedStatus::Error) }, Ended::Failed(error))
}

fn with_status(status: ReportedStatus) -> Report {
    Report { status: Some(status), ..Report::default() }
}

/// What a panic says goes into the log only: it is of the inside.
fn panicked(error: JoinError) -> TaskError {
    let panic = error.try_into_panic().ok();
    let said = panic.as_ref().and_then(|panic| {
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
    });
    tracing::error!(panic = said.unwrap_or("without a word"), "a job panicked");
    TaskError::new("job_panicked", "The job failed", 500, "The job ended because of a fault in the service.")
}

/// The last word was not taken: it had been before, or the task is somebody else's by now.
fn untold(held: &HeldLease, error: &TrackerError) -> Ended {
    match error {
        // The answer to the first try was lost, not the report.
        TrackerError::Refused(Refusal::Final(Status::Completed)) => Ended::Completed,
        TrackerError::Stopping if held.leave() => Ended::Left,
        error => {
            tracing::warn!(%error, "the end of the job could not be told");
            Ended::Lost
        }
    }
}
