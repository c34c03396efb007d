//! The janitor: removes the files of tasks that do not need them.

use std::{collections::HashSet, io, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{files::Files, upload::needs};
use crate::{
    task::Status,
    tracker::{Found, Tracker},
};

/// Interval between two rounds over all files: tasks are deleted after days.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// What nobody has added to for so long is not being received any more, whatever this node knows of other nodes.
const PART_QUIET: Duration = Duration::from_secs(60 * 60);

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
                if let Err(error) = self.round().await {
                    tracing::warn!(%error, "the files could not be listed");
                }
                // Whatever could not be looked at: no upload waits any longer.
                self.files.kept.set_counted();
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    async fn round(&self) -> io::Result<()> {
        let mut ids: HashSet<_> = self.files.saved().await?.into_iter().collect();
        // Another node may have removed the files of others.
        ids.extend(self.files.kept.ids());
        for id in ids {
            self.tidy(id).await;
        }
        for (id, attempt) in self.files.shared_parts().await? {
            self.tidy_part(id, attempt).await;
        }
        Ok(())
    }

    /// Removes what was received for an attempt that will not go on, whichever node has received it.
    async fn tidy_part(&self, id: Uuid, attempt: Uuid) {
        let tidied = async {
            let is_left = self.is_part_left(id, attempt).await?;
            if is_left { self.files.discard(id, attempt).await } else { Ok(()) }
        };
        if let Err(error) = tidied.await {
            tracing::warn!(%error, task = %id, "a received file could not be checked or removed; trying again later");
        }
    }

    async fn is_part_left(&self, id: Uuid, attempt: Uuid) -> io::Result<bool> {
        let Some(at) = self.files.part_at(id, attempt).await? else { return Ok(false) };
        let quiet = self.tracker.clock().now().since(at);
        Ok(match self.tracker.find(id).await.map_err(io::Error::other)? {
            Found::Task(entry) if !entry.task.status.is_final() => quiet > PART_QUIET && !needs(&entry, attempt),
            Found::Task(_) | Found::Gone => true,
            Found::Unknown => quiet > self.retention,
        })
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
