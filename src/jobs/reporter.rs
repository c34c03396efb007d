//! How a job's words reach the tracker: never more than it can take, and nothing that matters is lost.
//!
//! Ticks go into one slot, of which the voice takes the latest at most once an interval, one at a time; reports that
//! must arrive go past them and are insisted upon. The voice is run by whoever supervises the attempt, so that a job
//! that is busy or gone silences nobody.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use super::{JobError, lease::insist};
use crate::{
    task::{Intent, Payload, Refusal, Report},
    tracker::{Answer, Tracker, TrackerError},
};

/// Least time between two ticks of one job: no watcher is shown more.
pub(super) const TICK_INTERVAL: Duration = Duration::from_millis(50);

/// The job's end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reporter {
    slot: Arc<TickSlot>,
    turns: mpsc::Sender<Turn>,
}

/// The supervisor's end.
pub(super) struct Voice {
    tracker: Tracker,
    id: Uuid,
    token: Uuid,
    slot: Arc<TickSlot>,
    turns: mpsc::Receiver<Turn>,
}

/// What was told and not yet sent.
#[derive(Default)]
struct TickSlot {
    // A std mutex: it is never held across an await, and jobs tick from threads of their own too.
    latest: Mutex<Option<Report>>,
    filled: Notify,
}

/// A report that must arrive, and who waits for it.
struct Turn {
    report: Report,
    checkpoint: Option<Payload>,
    arrived: oneshot::Sender<()>,
}

/// Both ends for one attempt.
pub(super) fn reporter(tracker: Tracker, id: Uuid, token: Uuid) -> (Reporter, Voice) {
    let slot = Arc::<TickSlot>::default();
    let (turns, receiver) = mpsc::channel(1);
    (Reporter { slot: Arc::clone(&slot), turns }, Voice { tracker, id, token, slot, turns: receiver })
}

impl Reporter {
    pub(super) fn tick(&self, report: Report) {
        let mut latest = self.slot.lock();
        *latest = Some(merged(latest.take(), report));
        drop(latest);
        self.slot.filled.notify_one();
    }

    pub(super) async fn report(&self, report: Report) -> Result<(), JobError> {
        self.take_turn(report, None).await
    }

    pub(super) async fn checkpoint(&self, report: Report, checkpoint: Payload) -> Result<(), JobError> {
        self.take_turn(report, Some(checkpoint)).await
    }

    async fn take_turn(&self, report: Report, checkpoint: Option<Payload>) -> Result<(), JobError> {
        let (arrived, arrival) = oneshot::channel();
        // Where the voice has gone, the right to report has, too.
        self.turns.send(Turn { report, checkpoint, arrived }).await.map_err(|_| JobError::Stopped)?;
        arrival.await.map_err(|_| JobError::Stopped)
    }
}

impl Voice {
    /// Passes on what the job says; back with the reason when it may say nothing any more.
    pub(super) async fn run(&mut self) -> TrackerError {
        let mut next_at = Instant::now();
        loop {
            let said = tokio::select! {
                biased;
                Some(turn) = self.turns.recv() => self.insist_on(turn).await,
                () = self.slot.due(next_at) => self.try_tick().await,
            };
            if let Err(error) = said {
                return error;
            }
            next_at = Instant::now() + TICK_INTERVAL;
        }
    }

    /// The job's last word, with what it had told and was not sent.
    pub(super) async fn finish(&mut self, report: Report) -> Result<Answer, TrackerError> {
        self.insist(merged(self.slot.take(), report), None).await
    }

    async fn insist_on(&mut self, turn: Turn) -> Result<(), TrackerError> {
        let Turn { report, checkpoint, arrived } = turn;
        if let Err(error) = self.insist(merged(self.slot.take(), report), checkpoint.clone()).await {
            unless_misfit(self.id, error)?;
            // The report is ignored; the checkpoint is not.
            if checkpoint.is_some() {
                self.insist(Report::default(), checkpoint).await?;
            }
        }
        // A job that was stopped meanwhile does not wait.
        let _stopped = arrived.send(());
        Ok(())
    }

    async fn try_tick(&mut self) -> Result<(), TrackerError> {
        let Some(report) = self.slot.take() else { return Ok(()) };
        match self.tracker.submit(self.id, self.intent(report.clone(), None)).await {
            Ok(_) => Ok(()),
            Err(error @ (TrackerError::Refused(_) | TrackerError::Stopping)) => unless_misfit(self.id, error),
            Err(error) => {
                tracing::debug!(%error, task = %self.id, "a tick will be sent later");
                self.slot.put_back(report);
                Ok(())
            }
        }
    }

    async fn insist(&self, report: Report, checkpoint: Option<Payload>) -> Result<Answer, TrackerError> {
        insist(&self.tracker, self.id, self.intent(report, checkpoint)).await
    }

    fn intent(&self, report: Report, checkpoint: Option<Payload>) -> Intent {
        match checkpoint {
            Some(checkpoint) => Intent::Checkpoint { report, token: self.token, checkpoint },
            None => Intent::Report { report, token: Some(self.token) },
        }
    }
}

impl TickSlot {
    fn lock(&self) -> MutexGuard<'_, Option<Report>> {
        // Nothing under the lock leaves the slot half-changed, so a job's panic is no reason to stop.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Report> {
        self.lock().take()
    }

    /// Waits until there is something to say and it may be said.
    async fn due(&self, at: Instant) {
        while self.lock().is_none() {
            self.filled.notified().await;
        }
        tokio::time::sleep_until(at).await;
    }

    /// What could not be sent, below what has been told since.
    fn put_back(&self, older: Report) {
        let mut latest = self.lock();
        *latest = Some(match latest.take() {
            Some(newer) => merged(Some(older), newer),
            None => older,
        });
    }
}

/// A report that does not fit its task is the job's own mistake, and no reason to take the task from it.
fn unless_misfit(id: Uuid, error: TrackerError) -> Result<(), TrackerError> {
    match error {
        TrackerError::Refused(Refusal::Invalid { member, reason }) => {
            tracing::error!(task = %id, member, reason, "a job's report does not fit its task");
            Ok(())
        }
        error => Err(error),
    }
}

/// Both reports in one: each member as it was told last.
fn merged(older: Option<Report>, newer: Report) -> Report {
    let Some(older) = older else { return newer };
    // How far an earlier step was says nothing of the new one.
    let same_step = newer.step.is_none() || newer.step == older.step;
    Report {
        status: newer.status.or(older.status),
        progress: newer.progress.or(older.progress),
        message: newer.message.or(older.message),
        current: newer.current.or(older.current),
        total: newer.total.or(older.total),
        unit: newer.unit.or(older.unit),
        step: newer.step.or(older.step),
        step_progress: newer.step_progress.or(older.step_progress.filter(|_| same_step)),
        result: newer.result.or(older.result),
        error: newer.error.or(older.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_member_counts() {
        let older =
            Report { message: Some("a".into()), current: Some(1), step_progress: Some(50.0), ..Report::default() };
        let newer = Report { current: Some(2), ..Report::default() };
        let both = Report { current: Some(2), ..older.clone() };
        assert_eq!(merged(Some(older.clone()), newer), both);
        let next_step = Report { step: Some(1), ..Report::default() };
        assert_eq!(merged(Some(older), next_step).step_progress, None, "it was another step's");
    }
}
