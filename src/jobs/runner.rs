//! The runner: takes the oldest waiting task that some job does, whenever there is a place for it.
//!
//! Owns nothing but the places in use. What waits, waits in the table as `pending`.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    HOLDER, Inner, Job,
    attempt::supervise,
    lease::{Backoff, Held, insist},
};
use crate::{
    task::{Entry, Intent},
    tracker::{Tracker, TrackerError},
};

/// Gives back the leases of a dead predecessor, then does what waits, until the service ends.
pub(super) async fn run(inner: Arc<Inner>, jobs: Vec<Arc<dyn Job>>, lost: Vec<(Uuid, Uuid)>) {
    let stop = inner.stage.stop();
    let work = async {
        abandon(&inner.tracker, lost).await;
        take(&inner, &jobs).await;
    };
    stop.run_until_cancelled(work).await;
}

async fn abandon(tracker: &Tracker, lost: Vec<(Uuid, Uuid)>) {
    for (id, token) in lost {
        tracing::info!(task = %id, "the worker of this task was lost with an earlier run of the service");
        let abandon = Intent::Abandon { holder: HOLDER.into(), token: Some(token) };
        if let Err(error) = insist(tracker, id, abandon).await {
            // It has ended meanwhile, or the service does.
            tracing::debug!(%error, task = %id, "a lost task could not be given back");
        }
    }
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
                inner.stage.spawn(attempt(Arc::clone(inner), job, held, entry, place));
            }
            Err(TrackerError::Stopping) => return,
            // Somebody was quicker; the table knows by now.
            Err(TrackerError::Refused(refusal)) => tracing::debug!(%refusal, "a task was not there to be taken"),
            Err(error) => backoff.pause(&error).await,
        }
    }
}

async fn attempt(inner: Arc<Inner>, job: Arc<dyn Job>, held: Held, entry: Arc<Entry>, place: OwnedSemaphorePermit) {
    supervise(&inner.stage, held, entry, |context| async move { job.run(&context).await }).await;
    drop(place);
}

/// The oldest waiting task of all that these jobs do.
fn oldest(tracker: &Tracker, jobs: &[Arc<dyn Job>]) -> Option<(Arc<dyn Job>, Arc<Entry>)> {
    let first = |job: &Arc<dyn Job>| Some((Arc::clone(job), tracker.pending(job.kind(), 1).pop()?));
    jobs.iter().filter_map(first).min_by_key(|(_, entry)| entry.created)
}
