//! Leases: the right of one attempt to report, renewed while the attempt lives and given back when it ends early.
//!
//! An attempt whose lease is refused stops its work: another worker may have the task by now.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::HOLDER;
use crate::{
    task::{Entry, Intent, Lease, NewTask, Refusal, Status},
    tracker::{Answer, LeaseGuard, Tracker, TrackerError},
};

/// Number of renewals within the length of a lease, so that one may fail.
const RENEWALS: u32 = 3;
/// The first pause after the store did not take something.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest of the growing pauses.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The lease of one attempt, from before it is requested. It does not expire until this is dropped.
pub(super) struct HeldLease {
    pub(super) tracker: Tracker,
    pub(super) id: Uuid,
    pub(super) token: Uuid,
    length: Duration,
    guard: LeaseGuard,
}

impl HeldLease {
    /// A lease that is not requested yet.
    pub(super) fn new(tracker: &Tracker, id: Uuid, length: Duration) -> Self {
        let token = Uuid::new_v4();
        Self { tracker: tracker.clone(), id, token, length, guard: tracker.hold_lease(token, length) }
    }

    /// Claims the pending task. Where the answer was lost, it may have been granted: it is asked again until that is known.
    pub(super) async fn claim(&self) -> Result<Arc<Entry>, TrackerError> {
        self.granted(insist(&self.tracker, self.id, Intent::Claim(self.lease())).await)
    }

    /// Creates the task with this lease on it.
    pub(super) async fn create(&self, new: NewTask) -> Result<Arc<Entry>, TrackerError> {
        self.granted(self.tracker.create_claimed(self.id, new, self.lease()).await)
    }

    /// Takes the place of a lease of an earlier run of the service.
    pub(super) async fn take_over(&self, left: &LeftLease) -> Result<Arc<Entry>, TrackerError> {
        let take_over = Intent::TakeOver { token: left.token, lease: self.lease() };
        self.granted(insist(&self.tracker, self.id, take_over).await)
    }

    /// The task, if the lease is granted; it may be even if the answer is an error, when an answer was lost.
    fn granted(&self, answer: Result<Answer, TrackerError>) -> Result<Arc<Entry>, TrackerError> {
        let (entry, error) = match answer {
            Ok(answer) => (answer.entry, TrackerError::Refused(Refusal::NotPending)),
            Err(error) => (self.tracker.live(self.id), error),
        };
        entry.filter(|entry| self.is_of(entry)).ok_or(error)
    }

    fn lease(&self) -> Lease {
        let expires_at = self.tracker.clock().now() + self.length;
        Lease { holder: holder(&self.tracker), token: self.token, expires_at }
    }

    fn is_of(&self, entry: &Entry) -> bool {
        entry.memo.lease.as_ref().is_some_and(|lease| lease.token == self.token)
    }

    /// The task, as long as the lease is on it.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        self.tracker.live(self.id).filter(|entry| self.is_of(entry))
    }

    /// Waits until the task is to be cancelled or the lease is not on it any more: see [`HeldLease::entry`].
    pub(super) async fn changed(&self) {
        self.guard.taken().await;
    }

    /// Leaves the lease on the task for the next run of the service; false if that could not resume the attempt.
    pub(super) fn leave(&self) -> bool {
        let can_resume = self.entry().is_some_and(|entry| entry.memo.checkpoint.is_some());
        if can_resume {
            self.guard.leave();
        }
        can_resume
    }

    /// Undoes a claim before work has begun: the attempt does not count.
    pub(super) async fn release(&self) -> Result<Answer, TrackerError> {
        insist(&self.tracker, self.id, Intent::Release { token: self.token }).await
    }

    /// Renews the lease until that is refused, and returns the refusal.
    pub(super) async fn keep(&self) -> TrackerError {
        let mut span = self.length / RENEWALS;
        loop {
            tokio::time::sleep(span).await;
            let renewal = Intent::Renew { token: self.token, lease: self.length };
            span = match self.tracker.submit(self.id, renewal).await {
                Ok(_) => self.length / RENEWALS,
                Err(error @ (TrackerError::Refused(_) | TrackerError::Stopping)) => return error,
                Err(error) => {
                    tracing::warn!(%error, task = %self.id, "a lease could not be renewed; trying again");
                    PAUSE_MAX.min(self.length / RENEWALS / 4)
                }
            };
        }
    }

    /// Ends the attempt before its work is done: the task is tried again, or fails.
    pub(super) async fn give_back(&self) -> Result<Answer, TrackerError> {
        abandon(&self.tracker, self.id, self.lease().holder, self.token).await
    }
}

/// A lease of an earlier run of the service, or of a node that is gone, and its task. It does not expire until this is dropped.
pub(super) struct LeftLease {
    pub(super) entry: Arc<Entry>,
    holder: String,
    token: Uuid,
    guard: LeaseGuard,
}

impl LeftLease {
    /// All of them, as long as this run has no leases of its own.
    pub(super) fn all(tracker: &Tracker, length: Duration) -> Vec<Self> {
        // A store that was embedded before nodes shared it has leases of nobody else.
        let mut held = tracker.leased_to(&holder(tracker));
        held.extend(tracker.node().map(|_| tracker.leased_to(HOLDER)).unwrap_or_default());
        Self::of(tracker, held, length)
    }

    /// Those of nodes that are gone, if their attempts can be resumed.
    pub(super) fn of_others(tracker: &Tracker, length: Duration) -> Vec<Self> {
        Self::of(tracker, tracker.left_tasks(), length)
    }

    fn of(tracker: &Tracker, tasks: Vec<Uuid>, length: Duration) -> Vec<Self> {
        let left = tasks.into_iter().filter_map(|id| {
            let entry = tracker.live(id)?;
            let Lease { holder, token, .. } = entry.memo.lease.clone()?;
            Some(Self { entry, holder, token, guard: tracker.hold_lease(token, length) })
        });
        left.collect()
    }

    /// Completes when it is not there to be resumed any more, because another node was quicker or the task is cancelled.
    pub(super) async fn gone(&self, tracker: &Tracker) {
        while self.is_left(tracker) {
            self.guard.taken().await;
        }
    }

    /// Whether it is still that of a node that is gone.
    pub(super) fn is_left(&self, tracker: &Tracker) -> bool {
        tracker.is_left(self.entry.task.task_id, self.token)
    }

    /// Whether the attempt can be resumed: it has a checkpoint, and was not asked to stop.
    pub(super) fn can_resume(&self) -> bool {
        self.entry.memo.checkpoint.is_some() && self.entry.task.status == Status::Processing
    }

    /// Ends the attempt: the task is tried again, or fails.
    pub(super) async fn give_back(&self, tracker: &Tracker) -> Result<Answer, TrackerError> {
        abandon(tracker, self.entry.task.task_id, self.holder.clone(), self.token).await
    }
}

fn holder(tracker: &Tracker) -> String {
    tracker.node().map_or_else(|| HOLDER.to_owned(), Lease::holder_on)
}

async fn abandon(tracker: &Tracker, id: Uuid, holder: String, token: Uuid) -> Result<Answer, TrackerError> {
    insist(tracker, id, Intent::Abandon { holder, token: Some(token) }).await
}

/// Retries while the store is unavailable, overloaded or full; fails only if refused or at shutdown.
pub(super) async fn insist(tracker: &Tracker, id: Uuid, intent: Intent) -> Result<Answer, TrackerError> {
    let mut backoff = Backoff::default();
    loop {
        match tracker.submit(id, intent.clone()).await {
            Err(error @ (TrackerError::Refused(_) | TrackerError::Stopping)) => return Err(error),
            Err(error) => backoff.pause(&error).await,
            Ok(answer) => return Ok(answer),
        }
    }
}

/// Growing pauses between tries.
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: PAUSE_MIN }
    }
}

impl Backoff {
    /// Waits before the next try, longer each time, and tells of the first failure.
    pub(super) async fn pause(&mut self, error: &TrackerError) {
        if self.next == PAUSE_MIN {
            tracing::warn!(%error, "the store did not take what a job says; trying again");
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(PAUSE_MAX);
    }
}
