//! The runner: takes the oldest waiting task that some job does, whenever there is a place for it.
//!
//! Owns nothing but the places in use. What waits, waits in the table as `pending`.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Inner, Job, JobContext,
    attempt::attempt,
    lease::{Backoff, Held, abandon},
};
use crate::{
    task::{Entry, Status},
    tracker::{Tracker, TrackerError},
};

/// Does what waits, until the service ends.
pub(super) async fn run(inner: Arc<Inner>, jobs: Vec<Arc<dyn Job>>) {
    let stop = inner.stage.stop();
    stop.run_until_cancelled(take(&inner, &jobs)).await;
}

/// Settles what a dead predecessor left: goes on with a task that its job had made a checkpoint of, and gives any other
/// back.
pub(super) async fn settle(inner: Arc<Inner>, job: Option<Arc<dyn Job>>, left: Arc<Entry>) {
    let (id, Some(lease)) = (left.task.task_id, &left.memo.lease) else { return };
    let settled = match job.filter(|_| can_go_on(&left)) {
        Some(job) => {
            tracing::info!(task = %id, "going on with the work of an earlier run of the service");
            match Held::take_over(&inner.tracker, id, lease.token, inner.config.lease).await {
                Ok((held, entry)) => return resume(&inner, &job, held, entry).await,
                Err(error) => Err(error),
            }
        }
        None => {
            tracing::info!(task = %id, "the worker of this task was lost with an earlier run of the service");
            abandon(&inner.tracker, id, lease.token).await
        }
    };
    if let Err(error) = settled {
        // It has ended meanwhile, or the service does.
        tracing::debug!(%error, task = %id, "a task of an earlier run could not be settled");
    }
}

/// Whether there is something to go on from, and nobody has asked that it stop.
pub(super) fn can_go_on(left: &Entry) -> bool {
    left.memo.checkpoint.is_some() && left.task.status == Status::Processing
}

async fn resume(inner: &Arc<Inner>, job: &Arc<dyn Job>, held: Held, entry: Arc<Entry>) {
    let (places, work) = (Arc::clone(&inner.places), Arc::clone(job));
    let work = |context: JobContext| async move {
        let _place = context.unless_stopped(places.acquire()).await?;
        work.run(&context).await
    };
    attempt(&**job, &inner.stage, held, entry, work).await;
}

async fn take(inner: &Arc<Inner>, jobs: &[Arc<dyn Job>]) {
    let mut work = inner.tracker.work();
    let mut backoff = Backoff::default();
    loop {
        while oldest(&inner.tracker, jobs).is_none() {
            if work.changed().await.is_err() {
                return;
            }
        }
        // Only now, so that no place is kept from an upload while nothing waits.
        let Ok(place) = Arc::clone(&inner.places).acquire_owned().await else { return };
        let Some((job, waiting)) = oldest(&inner.tracker, jobs) else { continue };
        match Held::claim(&inner.tracker, waiting.task.task_id, inner.config.lease).await {
            Ok((held, entry)) => {
                backoff = Backoff::default();
                inner.stage.spawn(begin(Arc::clone(inner), job, held, entry, place));
            }
            Err(TrackerError::Stopping) => return,
            // Somebody was quicker; the table knows by now.
            Err(TrackerError::Refused(refusal)) => tracing::debug!(%refusal, "a task was not there to be taken"),
            Err(error) => backoff.pause(&error).await,
        }
    }
}

async fn begin(inner: Arc<Inner>, job: Arc<dyn Job>, held: Held, entry: Arc<Entry>, place: OwnedSemaphorePermit) {
    let work = Arc::clone(&job);
    attempt(&*job, &inner.stage, held, entry, |context| async move { work.run(&context).await }).await;
    drop(place);
}

/// The oldest waiting task of all that these jobs do.
fn oldest(tracker: &Tracker, jobs: &[Arc<dyn Job>]) -> Option<(Arc<dyn Job>, Arc<Entry>)> {
    let first = |job: &Arc<dyn Job>| Some((Arc::clone(job), tracker.pending(job.kind(), 1).pop()?));
    jobs.iter().filter_map(first).min_by_key(|(_, entry)| entry.created)
}
