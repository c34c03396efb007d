//! Leases: the right of one attempt to report, kept while it lives and given back when it ends early.
//!
//! A right that cannot be renewed is gone, and so is the work: somebody else may do it by now.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::HOLDER;
use crate::{
    task::{Entry, Intent, Lease, Refusal},
    tracker::{Answer, LeaseGuard, Tracker, TrackerError},
};

/// Renewed so often within its length: one failed renewal is made up for in time.
const RENEWALS: u32 = 3;
/// The first pause after the store did not take something.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest of the growing pauses.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The right to report on one task.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) tracker: Tracker,
    pub(super) id: Uuid,
    pub(super) token: Uuid,
    pub(super) length: Duration,
    /// Whoever else may end the lease asks here first.
    pub(super) guard: Arc<LeaseGuard>,
}

impl Held {
    fn new(tracker: &Tracker, id: Uuid, length: Duration) -> Self {
        let token = Uuid::new_v4();
        let guard = Arc::new(tracker.hold_lease(token, length));
        Self { tracker: tracker.clone(), id, token, length, guard }
    }

    /// Takes a pending task, and answers it as it is then.
    pub(super) async fn claim(
        tracker: &Tracker,
        id: Uuid,
        length: Duration,
    ) -> Result<(Self, Arc<Entry>), TrackerError> {
        let held = Self::new(tracker, id, length);
        let answer = tracker.submit(id, Intent::Claim(held.lease())).await?;
        let entry = answer.entry.ok_or(TrackerError::Refused(Refusal::Gone))?;
        Ok((held, entry))
    }

    /// Goes on with a task that an earlier run of the service held by the lease `token`; answers it as it is then.
    pub(super) async fn take_over(
        tracker: &Tracker,
        id: Uuid,
        token: Uuid,
        length: Duration,
    ) -> Result<(Self, Arc<Entry>), TrackerError> {
        let held = Self::new(tracker, id, length);
        let told = insist(tracker, id, Intent::TakeOver { token, lease: held.lease() }).await;
        match told.map(|answer| answer.entry) {
            Ok(entry) => Ok((held, entry.ok_or(TrackerError::Refused(Refusal::Gone))?)),
            // The answer to an earlier try was lost, not the lease.
            Err(error) => held.entry().map(|entry| (held, entry)).ok_or(error),
        }
    }

    /// The task, as long as it is held.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        let entry = self.tracker.live(self.id)?;
        entry.memo.lease.as_ref().is_some_and(|lease| lease.token == self.token).then_some(entry)
    }

    /// Whether a later run of the service can go on with the task where this one ends.
    pub(super) fn is_resumable(&self) -> bool {
        self.entry().is_some_and(|entry| entry.memo.checkpoint.is_some())
    }

    fn lease(&self) -> Lease {
        let expires_at = self.tracker.clock().now() + self.length;
        Lease { holder: HOLDER.into(), token: self.token, expires_at }
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

/// The tasks whose lease this holder has.
pub(super) fn held_by(tracker: &Tracker, holder: &str) -> Vec<Arc<Entry>> {
    tracker.leased_to(holder).into_iter().filter_map(|id| tracker.live(id)).collect()
}

/// Ends the attempt that holds this lease: the task is tried again, or has failed.
pub(super) async fn abandon(tracker: &Tracker, id: Uuid, token: Uuid) -> Result<Answer, TrackerError> {
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
