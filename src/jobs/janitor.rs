//! The janitor: no file stays whose task is not there to answer for it.

use std::{io, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::files::Files;
use crate::{
    task::Status,
    tracker::{Found, Tracker, TrackerError},
};

/// How often all files are looked over: tasks are forgotten after days.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Looks over all files, at once and then at intervals.
pub(super) async fn run(tracker: Tracker, files: Files, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = async {
        loop {
            interval.tick().await;
            look_over(&tracker, &files).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

async fn look_over(tracker: &Tracker, files: &Files) {
    match files.saved().await {
        Ok(ids) => {
            for id in ids {
                tidy(tracker, files, id).await;
            }
        }
        Err(error) => tracing::warn!(%error, "the files could not be looked over"),
    }
}

/// Removes the file of a task unless the task has completed, or may still.
pub(super) async fn tidy(tracker: &Tracker, files: &Files, id: Uuid) {
    match is_left_behind(tracker, id).await {
        Ok(false) => {}
        Ok(true) => match files.remove_saved(id).await {
            Ok(()) => tracing::debug!(task = %id, "no file is left of this task"),
            Err(error) => told(&error, id),
        },
        Err(error) => tracing::warn!(%error, task = %id, "it could not be found out whether a file is still needed"),
    }
}

async fn is_left_behind(tracker: &Tracker, id: Uuid) -> Result<bool, TrackerError> {
    Ok(match tracker.find(id).await? {
        Found::Task(entry) => matches!(entry.task.status, Status::Error | Status::Cancelled),
        Found::Gone | Found::Unknown => true,
    })
}

fn told(error: &io::Error, id: Uuid) {
    tracing::warn!(%error, task = %id, "a file that is left behind could not be removed yet");
}
