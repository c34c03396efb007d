//! Who is connected: runtime state above the tracker.
//!
//! A user is connected while at least one of their streams is open here. That is known only at run time; the journal
//! merely remembers, by hidden events on the user's channel, who has been seen and when they came and went, so that a
//! user seen before a restart is `disconnected` and not unknown. What is remembered follows what is true, a moment
//! behind and merged; nobody waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    event::{ChannelName, Timestamp},
    people::{self, PresenceMemo, PresenceStatus},
    shutdown::Stage,
    tracker::{Tracker, TrackerError},
};

/// Users that are remembered at most; beyond it, those who have been away longest are forgotten.
const USERS_MAX: usize = 100_000;
/// Users that are written down side by side.
const WRITTEN_AT_ONCE: usize = 256;
/// Pause before the journal is asked again, when it could not take what is to be remembered.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Whether a user is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserPresence {
    /// The id of the user.
    pub user_id: String,
    /// Whether the user is connected.
    pub status: PresenceStatus,
    /// The number of open streams.
    pub connections: usize,
    /// When the status last changed.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// Who is connected. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    shared: Arc<PresenceShared>,
}

struct PresenceShared {
    tracker: Tracker,
    users: Mutex<Users>,
    changed: Notify,
}

#[derive(Default)]
struct Users {
    by_id: BTreeMap<String, SeenUser>,
    /// Those who are away, longest first.
    away: BTreeSet<(Timestamp, String)>,
    /// Those of whom the journal does not yet remember the latest.
    changed: BTreeSet<String>,
}

#[derive(Clone, Copy)]
struct SeenUser {
    connections: usize,
    since: Timestamp,
    /// Raised when the user is disconnected on request: the streams of before do not count any more.
    generation: u64,
}

impl SeenUser {
    fn status(&self) -> PresenceStatus {
        if self.connections > 0 { PresenceStatus::Connected } else { PresenceStatus::Disconnected }
    }
}

/// One open stream of a user; dropping it tells that it has closed.
pub struct PresenceGuard {
    presence: Presence,
    user_id: String,
    generation: u64,
}

impl Presence {
    /// Recalls who has been seen, and keeps remembering as a task of `stage`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(tracker: Tracker, stage: &Stage) -> Result<Self, TrackerError> {
        let mut users = Users::default();
        let now = tracker.clock().now();
        for (channel, memo) in tracker.known_users(USERS_MAX).await? {
            // Whoever was connected when the last process ended is not connected now.
            let since = if memo.status == PresenceStatus::Connected { now } else { memo.since };
            let user_id = channel.name().into_owned();
            if memo.status == PresenceStatus::Connected {
                users.changed.insert(user_id.clone());
            }
            users.away.insert((since, user_id.clone()));
            users.by_id.insert(user_id, SeenUser { connections: 0, since, generation: 0 });
        }
        let shared = Arc::new(PresenceShared { tracker, users: Mutex::new(users), changed: Notify::new() });
        shared.changed.notify_one();
        stage.spawn(remember(Arc::clone(&shared), stage.stop()));
        Ok(Self { shared })
    }

    /// A stream of this user has opened.
    pub fn connect(&self, user: &ChannelName) -> PresenceGuard {
        let user_id = user.name().into_owned();
        let mut users = self.shared.users();
        let generation = users.change(&user_id, self.now(), |user| user.connections += 1);
        users.forget_surplus();
        drop(users);
        self.shared.changed.notify_one();
        PresenceGuard { presence: self.clone(), user_id, generation }
    }

    /// Ends the streams of this user, who is disconnected at once.
    pub fn disconnect(&self, user: &ChannelName) {
        let mut users = self.shared.users();
        if users.by_id.contains_key(&*user.name()) {
            users.change(&user.name(), self.now(), |user| {
                user.connections = 0;
                user.generation += 1;
            });
        }
        drop(users);
        self.shared.changed.notify_one();
        self.shared.tracker.hang_up(user);
    }

    /// What is known of a user; `None` for one who was never seen.
    pub fn get(&self, user_id: &str) -> Option<UserPresence> {
        self.shared.users().by_id.get(user_id).map(|user| user.seen_as(user_id))
    }

    /// Users in the order of their ids, after the given one, at most `limit`; and where the next page begins.
    pub fn list(
        &self,
        status: Option<PresenceStatus>,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<UserPresence>, Option<String>) {
        let users = self.shared.users();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found: Vec<_> = users
            .by_id
            .range::<str, _>((start, Bound::Unbounded))
            .filter(|(_, user)| status.is_none_or(|status| user.status() == status))
            .take(limit.saturating_add(1))
            .map(|(user_id, user)| user.seen_as(user_id))
            .collect();
        let is_last = found.len() <= limit;
        found.truncate(limit);
        let next = found.last().filter(|_| !is_last).map(|user| user.user_id.clone());
        (found, next)
    }

    fn now(&self) -> Timestamp {
        self.shared.tracker.clock().now()
    }
}

impl SeenUser {
    fn seen_as(&self, user_id: &str) -> UserPresence {
        UserPresence {
            user_id: user_id.to_owned(),
            status: self.status(),
            connections: self.connections,
            since: self.since,
        }
    }
}

impl Users {
    /// Changes a user; answers their generation.
    fn change(&mut self, user_id: &str, now: Timestamp, change: impl FnOnce(&mut SeenUser)) -> u64 {
        let known = self.by_id.get(user_id).copied();
        let mut user = known.unwrap_or(SeenUser { connections: 0, since: now, generation: 0 });
        change(&mut user);
        let is_news = known.is_none_or(|known| known.status() != user.status());
        if is_news {
            user.since = now;
            self.changed.insert(user_id.to_owned());
        }
        if let Some(known) = known {
            self.away.remove(&(known.since, user_id.to_owned()));
        }
        if user.status() == PresenceStatus::Disconnected {
            self.away.insert((user.since, user_id.to_owned()));
        }
        self.by_id.insert(user_id.to_owned(), user);
        user.generation
    }

    fn forget_surplus(&mut self) {
        while self.by_id.len() > USERS_MAX {
            let Some((_, user_id)) = self.away.pop_first() else { return };
            self.by_id.remove(&user_id);
        }
    }

    fn take_changed(&mut self) -> Vec<(String, PresenceMemo)> {
        let changed = std::mem::take(&mut self.changed);
        let memo = |user: &SeenUser| PresenceMemo { status: user.status(), since: user.since };
        changed
            .into_iter()
            .filter_map(|user_id| self.by_id.get(&user_id).map(memo).map(|memo| (user_id, memo)))
            .collect()
    }
}

impl PresenceShared {
    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down all that has changed, side by side so that few commits serve many users; what the journal does not
    /// take is kept for the next time.
    async fn write_down(&self) -> Result<(), TrackerError> {
        let changed = self.users().take_changed();
        let mut failed = None;
        for part in changed.chunks(WRITTEN_AT_ONCE) {
            let written = join_all(part.iter().map(|(user_id, memo)| self.write_one(user_id, *memo))).await;
            for ((user_id, _), outcome) in part.iter().zip(written) {
                if let Err(error) = outcome {
                    self.users().changed.insert(user_id.clone());
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write_one(&self, user_id: &str, memo: PresenceMemo) -> Result<(), TrackerError> {
        // A user who is known has a valid name.
        let Ok(channel) = ChannelName::user(user_id) else { return Ok(()) };
        self.tracker.append(vec![people::presence(&channel, memo)], None).await.map(|_| ())
    }
}

/// Lets the journal follow, until all streams have ended.
async fn remember(shared: Arc<PresenceShared>, stop: CancellationToken) {
    while stop.run_until_cancelled(shared.changed.notified()).await.is_some() {
        if let Err(error) = shared.write_down().await {
            tracing::warn!(%error, "cannot save presence; retrying");
            shared.changed.notify_one();
            let _stopping = stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
        }
    }
    if let Err(error) = shared.write_down().await {
        tracing::warn!(%error, "cannot save presence at shutdown");
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        let presence = &self.presence;
        let mut users = presence.shared.users();
        let current = users.by_id.get(&self.user_id).map(|user| user.generation);
        if current == Some(self.generation) {
            users.change(&self.user_id, presence.now(), |user| user.connections = user.connections.saturating_sub(1));
            drop(users);
            presence.shared.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::{Registry, StreamLimits},
        journal::Journal,
        task::Policy,
        telemetry::Metrics,
        testing::MemoryJournal,
        tracker::{Clock, TrackerOptions},
    };

    async fn start(journal: &MemoryJournal, tracker_stage: &Stage, stage: &Stage) -> Presence {
        let limits =
            StreamLimits { history: 10.into(), tick_interval: Duration::ZERO, streams: 10, streams_per_channel: 10 };
        let options = TrackerOptions {
            policy: Policy { stalled_after: Duration::from_secs(30) },
            topics: crate::config::TopicConfig::default(),
            queue_length: 16,
            retention: Duration::from_secs(60),
            clock: Clock::runtime(),
        };
        let registry = Registry::new(journal.epoch(), limits);
        let journal = Arc::new(journal.clone());
        let tracker =
            Tracker::start(journal, registry, options, Metrics::new(), tracker_stage).await.expect("an empty journal");
        Presence::start(tracker, stage).await.expect("an empty journal")
    }

    fn user(user_id: &str) -> ChannelName {
        ChannelName::user(user_id).expect("a valid name")
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_connected_while_a_stream_is_open() {
        let shutdown = crate::shutdown::Shutdown::default();
        let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
        assert_eq!(presence.get("ann"), None);
        let first = presence.connect(&user("ann"));
        let second = presence.connect(&user("ann"));
        assert_eq!(presence.get("ann").map(|ann| (ann.status, ann.connections)), Some((PresenceStatus::Connected, 2)));
        drop(first);
        assert_eq!(presence.get("ann").map(|ann| ann.connections), Some(1));
        drop(second);
        assert_eq!(presence.get("ann").map(|ann| ann.status), Some(PresenceStatus::Disconnected));
    }

    #[tokio::test(start_paused = true)]
    async fn disconnecting_does_not_wait_for_the_streams_and_does_not_count_them_twice() {
        let shutdown = crate::shutdown::Shutdown::default();
        let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
        let old = presence.connect(&user("ann"));
        presence.disconnect(&user("ann"));
        assert_eq!(presence.get("ann").map(|ann| ann.status), Some(PresenceStatus::Disconnected));
        let _new = presence.connect(&user("ann"));
        drop(old);
        assert_eq!(presence.get("ann").map(|ann| (ann.status, ann.connections)), Some((PresenceStatus::Connected, 1)));
        presence.disconnect(&user("nobody"));
        assert_eq!(presence.get("nobody"), None, "asking does not make a user known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_seen_before_a_restart_is_disconnected_and_not_unknown() {
        let journal = MemoryJournal::new();
        let shutdown = crate::shutdown::Shutdown::default();
        let presence = start(&journal, &shutdown.tracker, &shutdown.jobs).await;
        drop(presence.connect(&user("ann")));
        std::mem::forget(presence.connect(&user("bob")));
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert!(shutdown.jobs.end(minute).await && shutdown.tracker.end(minute).await);
        tokio::time::advance(second).await;

        let shutdown = crate::shutdown::Shutdown::default();
        let presence = start(&journal.reopened(), &shutdown.tracker, &shutdown.jobs).await;
        let (users, next) = presence.list(None, None, 10);
        let seen: Vec<_> = users.iter().map(|user| (user.user_id.as_str(), user.status)).collect();
        assert_eq!(seen, [("ann", PresenceStatus::Disconnected), ("bob", PresenceStatus::Disconnected)]);
        assert_eq!(next, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_goes_on_page_by_page() {
        let shutdown = crate::shutdown::Shutdown::default();
        let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
        let _guards: Vec<_> = ["c", "a", "b"].map(|user_id| presence.connect(&user(user_id))).into();
        let (page, next) = presence.list(Some(PresenceStatus::Connected), None, 2);
        assert_eq!(page.iter().map(|user| user.user_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let (page, next) = presence.list(None, next.as_deref(), 2);
        assert_eq!((page.len(), next), (1, None));
        assert!(presence.list(Some(PresenceStatus::Disconnected), None, 2).0.is_empty());
    }
}
