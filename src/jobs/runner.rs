//! The runners, one for each kind of job: each claims the oldest pending tasks of its kind as soon as there is a place.
//!
//! Owns only the places in use; tasks wait in the table as `pending`.

use std::{future::pending, iter, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

use super::{
    Inner, Job, JobContext,
    attempt::attempt,
    lease::{HeldLease, LeftLease},
};
use crate::{event::Timestamp, task::Entry, tracker::TrackerError};

/// Maximum number of tasks that are claimed at once, in one commit.
const CLAIMS_MAX: usize = 64;

/// A job and its places.
pub(super) struct JobKind {
    pub(super) job: Arc<dyn Job>,
    /// One permit for each task that may run; they are given out in the order in which they were requested.
    pub(super) places: Arc<Semaphore>,
}

impl JobKind {
    pub(super) fn new(job: Arc<dyn Job>, working: usize) -> Self {
        let places = Arc::new(Semaphore::new(job.places(working).min(Semaphore::MAX_PERMITS)));
        Self { job, places }
    }
}

/// Runs the pending tasks of one kind until shutdown.
pub(super) async fn run(inner: Arc<Inner>, kind: Arc<JobKind>) {
    let stop = inner.stage.stop();
    let mut work = inner.tracker.work();
    // Shutdown cancels only the wait. A claim that has been requested will be granted, so it must not lose its holder.
    while let Some(Some(next)) = stop.run_until_cancelled(next(&inner, &kind, &mut work)).await {
        let claims = next.into_iter().map(|(entry, place)| claim(&inner, entry, place));
        for claimed in join_all(claims).await {
            match claimed {
                Ok((held, entry, place)) => {
                    inner.stage.spawn(begin(Arc::clone(&inner), Arc::clone(&kind), held, entry, place));
                }
                Err(TrackerError::Stopping) => return,
                // Another request was faster; the table shows it by now.
                Err(error) => tracing::debug!(%error, "a task could not be claimed"),
            }
        }
    }
}

/// Waits for pending tasks and a place for each; `None` when there will be no more.
async fn next(
    inner: &Inner,
    kind: &JobKind,
    work: &mut watch::Receiver<()>,
) -> Option<Vec<(Arc<Entry>, OwnedSemaphorePermit)>> {
    loop {
        let (waiting, next_turn) = ready(inner, kind);
        if waiting.is_empty() {
            let turn = async {
                match next_turn {
                    Some(wait) => sleep(wait).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = work.changed() => changed.ok()?,
                () = turn => {}
            }
            continue;
        }
        // Only now, so that no place is reserved while nothing is pending.
        let first = Arc::clone(&kind.places).acquire_owned().await.ok()?;
        let others = iter::from_fn(|| Arc::clone(&kind.places).try_acquire_owned().ok());
        let next: Vec<_> = ready(inner, kind).0.into_iter().zip(iter::once(first).chain(others)).collect();
        if !next.is_empty() {
            return Some(next);
        }
    }
}

/// Of the tasks of a kind that have waited the longest, those that are this node's to claim now, oldest first; and how long it
/// is until there are more. Each waits for one node first, and a moment later for another one too: so the nodes seldom race
/// for one, and what is another's is put behind what came no more than that moment later.
fn ready(inner: &Inner, kind: &JobKind) -> (Vec<Arc<Entry>>, Option<Duration>) {
    let waiting = inner.tracker.pending(kind.job.kind(), CLAIMS_MAX);
    let (turn, now) = (inner.tracker.turns(), inner.tracker.clock().now());
    let is_ready = |entry: &Arc<Entry>| wait(turn(entry.task.task_id), now, entry).is_zero();
    let (mut ready, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_ready);
    if inner.tracker.node().is_some() {
        ready.sort_by_key(|entry| entry.task.created_at + turn(entry.task.task_id));
    }
    (ready, others.iter().map(|entry| wait(turn(entry.task.task_id), now, entry)).min())
}

/// What is left of a turn since the task began to wait.
fn wait(turn: Duration, now: Timestamp, entry: &Entry) -> Duration {
    turn.saturating_sub(now.since(entry.task.updated_at))
}

async fn claim(
    inner: &Inner,
    waiting: Arc<Entry>,
    place: OwnedSemaphorePermit,
) -> Result<(HeldLease, Arc<Entry>, OwnedSemaphorePermit), TrackerError> {
    let held = HeldLease::new(&inner.tracker, waiting.task.task_id, inner.config.lease);
    let entry = held.claim().await?;
    Ok((held, entry, place))
}

async fn begin(inner: Arc<Inner>, kind: Arc<JobKind>, held: HeldLease, entry: Arc<Entry>, place: OwnedSemaphorePermit) {
    if inner.stage.stop().is_cancelled() {
        return release(&held).await;
    }
    let job = Arc::clone(&kind.job);
    let work = |context: JobContext| async move { job.run(&context).await };
    attempt(&*kind.job, &inner.stage, held, entry, work).await;
    drop(place);
}

/// Undoes a claim that was granted after shutdown began.
pub(super) async fn release(held: &HeldLease) {
    if let Err(error) = held.release().await {
        tracing::debug!(%error, task = %held.id, "a claim could not be released");
    }
}

/// Handles a lease that was left behind: resumes the attempt if its job can, or gives the task back.
pub(super) async fn settle(inner: Arc<Inner>, kind: Option<Arc<JobKind>>, left: LeftLease) {
    let id = left.entry.task.task_id;
    let settled = match kind.filter(|_| left.can_resume()) {
        Some(kind) => resume(&inner, &kind, left, None).await,
        None => {
            tracing::info!(task = %id, "the last run of the service ended during an attempt at this task");
            left.give_back(&inner.tracker).await.map(drop)
        }
    };
    if let Err(error) = settled {
        // The task has ended in the meantime, or the service is stopping.
        tracing::debug!(%error, task = %id, "a lease of an earlier run could not be handled");
    }
}

/// Goes on with what other nodes have left behind, until shutdown: the attempts that can be resumed.
pub(super) async fn adopt(inner: Arc<Inner>) {
    let Some(mut left_behind) = inner.tracker.left_behind() else { return };
    let stop = inner.stage.stop();
    while let Some(Ok(())) = stop.run_until_cancelled(left_behind.changed()).await {
        for left in LeftLease::of_others(&inner.tracker, inner.config.lease) {
            let kind = inner.kinds.iter().find(|kind| kind.job.kind() == left.entry.task.kind && kind.job.can_adopt());
            if let Some(kind) = kind.cloned() {
                inner.stage.spawn(adopt_one(Arc::clone(&inner), kind, left));
            }
        }
    }
}

/// Resumes the attempt once there is a place, unless another node has one first. Its lease does not expire meanwhile.
async fn adopt_one(inner: Arc<Inner>, kind: Arc<JobKind>, left: LeftLease) {
    let (id, stop) = (left.entry.task.task_id, inner.stage.stop());
    let place = async {
        sleep(inner.tracker.turns()(id)).await;
        Arc::clone(&kind.places).acquire_owned().await.ok()
    };
    let place = tokio::select! {
        () = stop.cancelled() => return,
        () = left.gone(&inner.tracker) => return,
        place = place => place.filter(|_| left.is_left(&inner.tracker)),
    };
    let Some(place) = place else { return };
    if let Err(error) = resume(&inner, &kind, left, Some(place)).await {
        // Another node was quicker, or the service is stopping.
        tracing::debug!(%error, task = %id, "an attempt that another node has left could not be resumed");
    }
}

/// Resumes an attempt in this place, or in the next that is free.
async fn resume(
    inner: &Inner,
    kind: &JobKind,
    left: LeftLease,
    place: Option<OwnedSemaphorePermit>,
) -> Result<(), TrackerError> {
    let id = left.entry.task.task_id;
    tracing::info!(task = %id, "resuming the attempt of an earlier run of the service, or of another node");
    let held = HeldLease::new(&inner.tracker, id, inner.config.lease);
    let entry = held.take_over(&left).await?;
    drop(left);
    if place.is_some() {
        inner.upload.count_received(&entry);
    }
    let (job, places) = (Arc::clone(&kind.job), Arc::clone(&kind.places));
    let work = |context: JobContext| async move {
        let _place = match place {
            None => context.unless_stopped(places.acquire_owned()).await?.ok(),
            place => place,
        };
        job.run(&context).await
    };
    attempt(&*kind.job, &inner.stage, held, entry, work).await;
    Ok(())
}
