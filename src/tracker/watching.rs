//! Watching: letting watchers in, and waiting for what a task does next, for those who would rather ask than listen.
//!
//! Who waits listens like any watcher: nothing is asked for again in between.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::{ListJoin, TaskFilter, Tracker, TrackerError};
use crate::{
    channel::{Delivery, Join, StreamRefused, Subscriber, ViewWatcher, WatchError},
    event::{ChannelKind, ChannelName, Class, History, Resume, Seq},
    task::{Entry, Refusal},
};

impl Tracker {
    /// Lets a watcher in on a channel.
    ///
    /// # Errors
    /// When the store does not answer, when a bound is reached, and when the service is stopping.
    pub async fn watch(
        &self,
        channel: &ChannelName,
        resume: Resume,
    ) -> Result<(Join, Subscriber), WatchError<TrackerError>> {
        self.catch_up_to(resume).await?;
        let shared = &self.shared;
        let load = async || known(channel, shared.journal.read(channel, Seq::ZERO).await?);
        shared.registry.open(channel, resume, load).await
    }

    /// Lets a watcher in on a list; what it has not in its page, it is given.
    ///
    /// # Errors
    /// See [`Tracker::watch`].
    pub async fn watch_list(
        &self,
        filter: TaskFilter,
        resume: Resume,
    ) -> Result<(ListJoin, ViewWatcher), WatchError<TrackerError>> {
        self.catch_up_to(resume).await?;
        let permit = self.shared.registry.admit()?;
        let known = match resume {
            Resume::After(cursor) => Some(cursor.seq).filter(|_| self.shared.journal.epochs().know(cursor)),
            Resume::First | Resume::Unreadable => None,
        };
        let (resumed, watcher) = self.shared.lists.watch(filter, known, permit);
        let join = match (resumed, resume) {
            (true, _) => ListJoin::Resumed,
            (false, Resume::First) => ListJoin::First,
            (false, _) => ListJoin::Reset,
        };
        Ok((join, watcher))
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.shared.registry.streams()
    }

    /// Ends the streams of a channel.
    pub fn hang_up(&self, channel: &ChannelName) {
        drop(self.shared.registry.find(channel).map(|channel| channel.hang_up()));
    }

    /// Ends all streams after what has been published, and lets nobody in.
    pub fn drain(&self) {
        self.shared.registry.drain();
        self.shared.lists.drain();
    }

    /// A place among all streams, for one that watches no channel.
    ///
    /// # Errors
    /// When a bound is reached, and when the service is stopping.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, StreamRefused> {
        self.shared.registry.admit()
    }

    /// Catches up with the store unless this cursor is known: only then can it be said that it is from the future.
    pub(super) async fn catch_up_to(&self, resume: Resume) -> Result<(), WatchError<TrackerError>> {
        match resume {
            Resume::After(cursor) => self.knows(cursor).await.map(drop).map_err(into_load),
            Resume::First | Resume::Unreadable => Ok(()),
        }
    }

    /// The task after its next visible change, or as it is when there was none for so long.
    ///
    /// # Errors
    /// See [`Tracker::watch`]; and when the task is gone.
    pub async fn changed_after(&self, entry: &Entry, wait: Duration) -> Result<Arc<Entry>, WatchError<TrackerError>> {
        let (_, mut subscriber) = self.watch(&entry.channel(), Resume::After(self.cursor(entry.visible))).await?;
        let delivery = tokio::time::timeout(wait, subscriber.next()).await;
        let Ok(Delivery::Frame(frame)) = delivery else {
            // That there was none can be said only after all that others have written.
            return self.find_stored(entry.task.task_id).await.map_err(into_load)?.entry().map_err(into_load);
        };
        let known = self.entry(entry).await?;
        // A watcher may be shown what is durable a moment before the table has followed; then the event itself tells.
        if frame.seq() <= known.visible {
            return Ok(known);
        }
        Ok(Arc::new(Entry::clone(&known).followed_by(frame.event()).map_err(into_load)?))
    }

    /// The task once it has ended. Whoever waits may go away: the task does not notice.
    ///
    /// # Errors
    /// See [`Tracker::changed_after`].
    pub async fn ended_state(&self, mut entry: Arc<Entry>) -> Result<Arc<Entry>, WatchError<TrackerError>> {
        while !entry.task.status.is_final() {
            let resume = Resume::After(self.cursor(entry.visible));
            let (_, mut subscriber) = self.watch(&entry.channel(), resume).await?;
            loop {
                match subscriber.next().await {
                    Delivery::Frame(frame) if frame.class() == Class::Final => break,
                    Delivery::Frame(_) | Delivery::Bytes(_) => {}
                    Delivery::Draining => return Err(StreamRefused::Draining.into()),
                    // Too much at once, or deleted: the table knows.
                    Delivery::Ended { .. } | Delivery::Lapsed | Delivery::HungUp | Delivery::Interrupted => break,
                }
            }
            entry = self.entry(&entry).await?;
        }
        Ok(entry)
    }

    async fn entry(&self, entry: &Entry) -> Result<Arc<Entry>, WatchError<TrackerError>> {
        self.find(entry.task.task_id).await.map_err(into_load)?.entry().map_err(into_load)
    }
}

/// Refuses the history of a task that was deleted since it was looked up: of one that is there, the last event is kept.
/// Also one that this version cannot show whole.
pub(super) fn known(channel: &ChannelName, history: History) -> Result<History, TrackerError> {
    if !history.is_known() {
        return Err(Refusal::Unreadable.into());
    }
    let is_gone = channel.kind() == ChannelKind::Task && history.events.is_empty() && history.floor > Seq::ZERO;
    if is_gone { Err(Refusal::Gone.into()) } else { Ok(history) }
}

fn into_load(error: impl Into<TrackerError>) -> WatchError<TrackerError> {
    WatchError::Load(error.into())
}
