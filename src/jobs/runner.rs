//! The runner: one for each kind of job. It takes the oldest waiting tasks of the kind whenever there is a place.
//!
//! Owns nothing but the places in use. What waits, waits in the table as `pending`.

use std::{iter, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    Inner, Job, JobContext,
    attempt::attempt,
    lease::{Backoff, Held, Left},
};
use crate::{task::Entry, tracker::TrackerError};

/// Most tasks that are taken at once: one commit of the store serves all of them.
const CLAIMS_MAX: usize = 64;

/// A job, and the places that its kind has.
pub(super) struct Kind {
    pub(super) job: Arc<dyn Job>,
    /// One permit for each task that may be worked on; whoever waits for one waits in its order.
    pub(super) places: Arc<Semaphore>,
}

impl Kind {
    pub(super) fn new(job: Arc<dyn Job>, working: usize) -> Self {
        let places = Arc::new(Semaphore::new(job.places(working).min(Semaphore::MAX_PERMITS)));
        Self { job, places }
    }
}

/// Does what waits of one kind, until the service ends.
pub(super) async fn run(inner: Arc<Inner>, kind: Arc<Kind>) {
    let stop = inner.stage.stop();
    let mut work = inner.tracker.work();
    let mut backoff = Backoff::default();
    // Only the wait is cut short by the end: a claim that is under way is carried out, and must find its holder.
    while let Some(Some(next)) = stop.run_until_cancelled(next(&inner, &kind, &mut work)).await {
        let claims = next.into_iter().map(|(entry, place)| claim(&inner, entry, place));
        let mut failure = None;
        for claimed in join_all(claims).await {
            match claimed {
                Ok((held, entry, place)) => {
                    inner.stage.spawn(begin(Arc::clone(&inner), Arc::clone(&kind), held, entry, place));
                }
                Err(TrackerError::Stopping) => return,
                // Somebody was quicker; the table knows by now.
                Err(TrackerError::Refused(refusal)) => tracing::debug!(%refusal, "a task was not there to be taken"),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => backoff.pause(&error).await,
            None => backoff = Backoff::default(),
        }
    }
}

/// Waits for tasks and places for them; `None` when there will be no more.
async fn next(
    inner: &Inner,
    kind: &Kind,
    work: &mut watch::Receiver<()>,
) -> Option<Vec<(Arc<Entry>, OwnedSemaphorePermit)>> {
    let waiting = || inner.tracker.pending(kind.job.kind(), CLAIMS_MAX);
    loop {
        while waiting().is_empty() {
            work.changed().await.ok()?;
        }
        // Only now, so that no place is kept while nothing waits.
        let first = Arc::clone(&kind.places).acquire_owned().await.ok()?;
        let others = iter::from_fn(|| Arc::clone(&kind.places).try_acquire_owned().ok());
        let next: Vec<_> = waiting().into_iter().zip(iter::once(first).chain(others)).collect();
        if !next.is_empty() {
            return Some(next);
        }
    }
}

async fn claim(
    inner: &Inner,
    waiting: Arc<Entry>,
    place: OwnedSemaphorePermit,
) -> Result<(Held, Arc<Entry>, OwnedSemaphorePermit), TrackerError> {
    let held = Held::new(&inner.tracker, waiting.task.task_id, inner.config.lease);
    let mut backoff = Backoff::default();
    loop {
        match held.claim().await {
            Ok(entry) => return Ok((held, entry, place)),
            // It may have been taken for this holder, and must not be left to nobody.
            Err(error @ TrackerError::Unavailable(_)) => backoff.pause(&error).await,
            Err(error) => return Err(error),
        }
    }
}

async fn begin(inner: Arc<Inner>, kind: Arc<Kind>, held: Held, entry: Arc<Entry>, place: OwnedSemaphorePermit) {
    if inner.stage.stop().is_cancelled() {
        return released(&held).await;
    }
    let job = Arc::clone(&kind.job);
    let work = |context: JobContext| async move { job.run(&context).await };
    attempt(&*kind.job, &inner.stage, held, entry, work).await;
    drop(place);
}

/// Undoes a claim that the end of the service has overtaken.
pub(super) async fn released(held: &Held) {
    if let Err(error) = held.release().await {
        tracing::debug!(%error, task = %held.id, "a task that was just taken could not be given back");
    }
}

/// Settles what a dead predecessor left: goes on where its job can, and gives back any other task.
pub(super) async fn settle(inner: Arc<Inner>, kind: Option<Arc<Kind>>, left: Left) {
    let id = left.entry.task.task_id;
    let settled = match kind.filter(|_| left.can_go_on()) {
        Some(kind) => go_on(&inner, &kind, left).await,
        None => {
            tracing::info!(task = %id, "the worker of this task was lost with an earlier run of the service");
            left.give_back(&inner.tracker).await.map(drop)
        }
    };
    if let Err(error) = settled {
        // It has ended meanwhile, or the service does.
        tracing::debug!(%error, task = %id, "a task of an earlier run could not be settled");
    }
}

async fn go_on(inner: &Inner, kind: &Kind, left: Left) -> Result<(), TrackerError> {
    let id = left.entry.task.task_id;
    tracing::info!(task = %id, "going on with the work of an earlier run of the service");
    let held = Held::new(&inner.tracker, id, inner.config.lease);
    let entry = held.take_over(&left).await?;
    drop(left);
    let (job, places) = (Arc::clone(&kind.job), Arc::clone(&kind.places));
    let work = |context: JobContext| async move {
        let _place = context.unless_stopped(places.acquire()).await?;
        job.run(&context).await
    };
    attempt(&*kind.job, &inner.stage, held, entry, work).await;
    Ok(())
}
