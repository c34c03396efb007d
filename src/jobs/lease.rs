//! Leases: the right of one attempt to report, kept while it lives and given back when it ends early.
//!
//! A right that cannot be renewed is gone, and so is the work: somebody else may do it by now.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::HOLDER;
use crate::{
    task::{Entry, Intent, Lease, NewTask, Refusal, Status},
    tracker::{Answer, LeaseGuard, Tracker, TrackerError},
};

/// Renewed so often within its length: one failed renewal is made up for in time.
const RENEWALS: u32 = 3;
/// The first pause after the store did not take something.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest of the growing pauses.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The right to report on one task, or the wish for it. Until it is dropped, it does not end by time alone.
pub(super) struct Held {
    pub(super) tracker: Tracker,
    pub(super) id: Uuid,
    pub(super) token: Uuid,
    length: Duration,
    guard: LeaseGuard,
}

impl Held {
    /// A right that nobody has granted yet.
    pub(super) fn new(tracker: &Tracker, id: Uuid, length: Duration) -> Self {
        let token = Uuid::new_v4();
        Self { tracker: tracker.clone(), id, token, length, guard: tracker.hold_lease(token, length) }
    }

    /// Takes the task, which is pending, and answers it as it is then. May be asked for again where it was not told what
    /// came of it.
    pub(super) async fn claim(&self) -> Result<Arc<Entry>, TrackerError> {
        self.granted(self.tracker.submit(self.id, Intent::Claim(self.lease())).await)
    }

    /// Makes the task, held from the first moment.
    pub(super) async fn create(&self, new: NewTask) -> Result<Arc<Entry>, TrackerError> {
        self.granted(self.tracker.create_claimed(self.id, new, self.lease()).await)
    }

    /// Takes the task over from the earlier run of the service that left it.
    pub(super) async fn take_over(&self, left: &Left) -> Result<Arc<Entry>, TrackerError> {
        let take_over = Intent::TakeOver { token: left.token, lease: self.lease() };
        self.granted(insist(&self.tracker, self.id, take_over).await)
    }

    /// The task, if it is held now: where an answer was lost, the right may be there all the same.
    fn granted(&self, answer: Result<Answer, TrackerError>) -> Result<Arc<Entry>, TrackerError> {
        let (entry, error) = match answer {
            Ok(answer) => (answer.entry, TrackerError::Refused(Refusal::NotPending)),
            Err(error) => (self.tracker.live(self.id), error),
        };
        entry.filter(|entry| self.is_of(entry)).ok_or(error)
    }

    fn lease(&self) -> Lease {
        let expires_at = self.tracker.clock().now() + self.length;
        Lease { holder: HOLDER.into(), token: self.token, expires_at }
    }

    fn is_of(&self, entry: &Entry) -> bool {
        entry.memo.lease.as_ref().is_some_and(|lease| lease.token == self.token)
    }

    /// The task, as long as it is held.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        self.tracker.live(self.id).filter(|entry| self.is_of(entry))
    }

    /// Waits until the task is to be cancelled or is not held any more: see [`Held::entry`].
    pub(super) async fn changed(&self) {
        self.guard.taken().await;
    }

    /// Leaves the task to the next run of the service; false where that could not go on with it.
    pub(super) fn leave(&self) -> bool {
        let can_go_on = self.entry().is_some_and(|entry| entry.memo.checkpoint.is_some());
        if can_go_on {
            self.guard.leave();
        }
        can_go_on
    }

    /// Undoes a claim of which nothing has come.
    pub(super) async fn release(&self) -> Result<Answer, TrackerError> {
        insist(&self.tracker, self.id, Intent::Release { token: self.token }).await
    }

    /// Keeps the right; back with the reason when it is lost.
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

    /// Gives the task back before it is done: it is tried again, or has failed.
    pub(super) async fn give_back(&self) -> Result<Answer, TrackerError> {
        abandon(&self.tracker, self.id, self.token).await
    }
}

/// A task that an earlier run of the service held when it ended. Until it is dropped, its lease does not end by time
/// alone.
pub(super) struct Left {
    pub(super) entry: Arc<Entry>,
    token: Uuid,
    _guard: LeaseGuard,
}

impl Left {
    /// All of them, as long as this run holds nothing.
    pub(super) fn all(tracker: &Tracker, length: Duration) -> Vec<Self> {
        let left = tracker.leased_to(HOLDER).into_iter().filter_map(|id| {
            let entry = tracker.live(id)?;
            let token = entry.memo.lease.as_ref()?.token;
            Some(Self { entry, token, _guard: tracker.hold_lease(token, length) })
        });
        left.collect()
    }

    /// Whether there is something to go on from, and nobody has asked that it stop.
    pub(super) fn can_go_on(&self) -> bool {
        self.entry.memo.checkpoint.is_some() && self.entry.task.status == Status::Processing
    }

    /// Ends the attempt: the task is tried again, or has failed.
    pub(super) async fn give_back(&self, tracker: &Tracker) -> Result<Answer, TrackerError> {
        abandon(tracker, self.entry.task.task_id, self.token).await
    }
}

/// Ends the attempt that holds this lease: the task is tried again, or has failed.
async fn abandon(tracker: &Tracker, id: Uuid, token: Uuid) -> Result<Answer, TrackerError> {
    insist(tracker, id, Intent::Abandon { holder: HOLDER.into(), token: Some(token) }).await
}

/// Asks again and again while the store is away, overloaded or full: only a refusal, or the end, is an error.
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
