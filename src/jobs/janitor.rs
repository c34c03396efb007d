//! The janitor: removes the files of tasks that do not need them.

use std::{io, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::files::Files;
use crate::{
    task::Status,
    tracker::{Found, Tracker},
};

/// Interval between two rounds over all files: tasks are deleted after days.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Janitor {
    pub(super) tracker: Tracker,
    pub(super) files: Files,
    /// How long finished tasks are kept.
    pub(super) retention: Duration,
}

impl Janitor {
    /// Checks all files, at once and then at intervals.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                interval.tick().await;
                match self.files.saved().await {
                    Ok(ids) => {
                        for id in ids {
                            self.tidy(id).await;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the files could not be listed"),
                }
                // Whatever could not be looked at: no upload waits any longer.
                self.files.kept.set_counted();
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    /// Removes the file of a task unless the task has completed, or may still.
    pub(super) async fn tidy(&self, id: Uuid) {
        match self.remove_if_left(id).await {
            Ok(false) => {}
            Ok(true) => tracing::debug!(task = %id, "removed the file of a task that does not need it"),
            Err(error) => {
                tracing::warn!(%error, task = %id, "a file could not be checked or removed; trying again later");
            }
        }
    }

    async fn remove_if_left(&self, id: Uuid) -> io::Result<bool> {
        let mut owner = None;
        let is_left = match self.tracker.find(id).await.map_err(io::Error::other)? {
            Found::Task(entry) => {
                owner = entry.task.user_id.clone();
                matches!(entry.task.status, Status::Error | Status::Cancelled)
            }
            Found::Gone => true,
            // Not proof that the task was deleted: the journal may be an older copy that was restored.
            Found::Unknown => {
                let age = self.files.saved_at(id).await?.map(|at| self.tracker.clock().now().since(at));
                age.is_some_and(|age| age > self.retention)
            }
        };
        if is_left {
            self.files.remove_saved(id).await?;
        } else {
            self.files.count_saved(id, owner.as_deref()).await?;
        }
        Ok(is_left)
    }
}
