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
    /// Takes a pending task, and answers it as it is then.
    pub(super) async fn claim(
        tracker: &Tracker,
        id: Uuid,
        length: Duration,
    ) -> Result<(Self, Arc<Entry>), TrackerError> {
        let token = Uuid::new_v4();
        let guard = Arc::new(tracker.hold_lease(token, length));
        let held = Self { tracker: tracker.clone(), id, token, length, guard };
        let expires_at = tracker.clock().now() + length;
        let lease = Lease { holder: HOLDER.into(), token: held.token, expires_at };
        let answer = tracker.submit(id, Intent::Claim(lease)).await?;
        let entry = answer.entry.ok_or(TrackerError::Refused(Refusal::Gone))?;
        Ok((held, entry))
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
        let abandon = Intent::Abandon { holder: HOLDER.into(), token: Some(self.token) };
        insist(&self.tracker, self.id, abandon).await
    }
}

/// The leases of this holder: tasks and tokens.
pub(super) fn held_by(tracker: &Tracker, holder: &str) -> Vec<(Uuid, Uuid)> {
    let token = |id| tracker.live(id).and_then(|entry| entry.memo.lease.as_ref().map(|lease| (id, lease.token)));
    tracker.leased_to(holder).into_iter().filter_map(token).collect()
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
