//! Who is connected: runtime state above the tracker.
//!
//! A user is connected while at least one of their streams is open, and for a grace after that, so that a page that
//! is loaded again does not look like somebody who left. That is known only at run time; what is kept of users follows
//! it, a moment behind and merged. Only a user who is not known yet waits until they are.
//!
//! Where several nodes share the store, each says whether a user is connected to it, and says so again if others took it
//! for dead meanwhile.
//!
//! It also keeps up to where users have seen their notifications.

mod doubts;
mod live;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    event::{ChannelName, Seq, Timestamp},
    people::{PresenceStatus, Profile, UserIntent, UserState},
    shutdown::Stage,
    tracker::{Tracker, TrackerError},
};
use doubts::doubt;
use live::{Changed, LiveUser, LiveUsers};

/// Users that are written down side by side.
const WRITTEN_AT_ONCE: usize = 256;
/// Pause before the journal is asked again, when it could not take what is to be kept.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// What was seen is written down so long after, with what was seen meanwhile.
const SEEN_DELAY: Duration = Duration::from_secs(1);

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
    /// Who the user is, if the user was made by a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Who is connected. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    shared: Arc<PresenceShared>,
}

struct PresenceShared {
    tracker: Tracker,
    grace: Duration,
    live: Mutex<LiveUsers>,
    changed: Notify,
}

/// One open stream of a user; dropping it tells that it has closed.
pub struct PresenceGuard {
    presence: Presence,
    user_id: String,
    generation: u64,
}

impl Presence {
    /// Keeps presence as a task of `stage`. Whoever was connected here when the last process ended is not connected now.
    pub fn start(tracker: Tracker, grace: Duration, stage: &Stage) -> Self {
        let shared = Arc::new(PresenceShared { tracker, grace, live: Mutex::default(), changed: Notify::new() });
        let mut page = shared.compare_page(None);
        while let Some(after) = page {
            page = shared.compare_page(Some(&after));
        }
        stage.spawn(keep(Arc::clone(&shared), stage.stop()));
        Self { shared }
    }

    /// A stream of this user has opened.
    ///
    /// # Errors
    /// When the user is not known yet, and there is no room for one more or the store cannot take them.
    pub async fn connect(&self, user: &ChannelName) -> Result<PresenceGuard, TrackerError> {
        let (user_id, now) = (user.name().into_owned(), self.shared.now());
        if self.shared.tracker.user(&user_id).is_none() {
            let came = UserIntent::Presence(PresenceStatus::Connected, now, self.shared.node());
            self.shared.tracker.ask_user(user, came).await?;
        }
        // What was seen a moment ago is not to be delivered again.
        let seen = self.shared.live().by_id.get_mut(&user_id).and_then(|user| user.seen.take());
        if let Some((seq, _)) = seen {
            self.shared.tracker.ask_user(user, UserIntent::Seen(seq)).await?;
        }
        let mut live = self.shared.live();
        // Read under the lock: what was written down before is in it, and what is not is in `live`.
        let state = self.shared.tracker.user(&user_id).unwrap_or_else(|| UserState::new(now).into());
        let user = live.user(&user_id, &state, self.shared.tracker.node());
        user.connections += 1;
        user.leaves_at = None;
        let generation = user.generation;
        if user.status == PresenceStatus::Disconnected {
            (user.status, user.since) = (PresenceStatus::Connected, now);
            live.changed.insert(user_id.clone());
            self.shared.changed.notify_one();
        }
        drop(live);
        Ok(PresenceGuard { presence: self.clone(), user_id, generation })
    }

    /// What `guard` stands for, now that the stream can be ended. A user who was disconnected meanwhile comes after that.
    ///
    /// # Errors
    /// See [`Presence::connect`].
    pub async fn confirm(&self, user: &ChannelName, guard: PresenceGuard) -> Result<PresenceGuard, TrackerError> {
        let is_current =
            self.shared.live().by_id.get(&guard.user_id).map(|user| user.generation) == Some(guard.generation);
        if is_current { Ok(guard) } else { self.connect(user).await }
    }

    /// Ends the streams of this user, who is disconnected at once; where there are other nodes, theirs a moment later.
    pub fn disconnect(&self, user: &ChannelName) {
        let (user_id, shared) = (user.name(), &self.shared);
        let mut live = shared.live();
        let is_elsewhere =
            |kept: &Arc<UserState>| shared.tracker.node().is_some() && kept.status == PresenceStatus::Connected;
        let elsewhere = shared.tracker.user(&user_id).filter(is_elsewhere);
        if let Some(kept) = elsewhere {
            live.user(&user_id, &kept, shared.tracker.node()).hangs_up = true;
        }
        live.hang_up(&user_id, shared.now());
        drop(live);
        shared.hang_up(user);
        shared.changed.notify_one();
    }

    /// Notifications at or before this seq have been delivered to a user who is connected.
    pub fn saw(&self, user_id: &str, seq: Seq) {
        let mut live = self.shared.live();
        let Some(user) = live.by_id.get_mut(user_id) else { return };
        match &mut user.seen {
            Some((seen, _)) => *seen = seq.max(*seen),
            None => {
                let at = Instant::now() + SEEN_DELAY;
                user.seen = Some((seq, at));
                live.due.insert((at, user_id.to_owned()));
                self.shared.changed.notify_one();
            }
        }
    }

    /// What is known of a user; `None` for one who was never seen.
    pub fn get(&self, user_id: &str) -> Option<UserPresence> {
        let state = self.shared.tracker.user(user_id)?;
        Some(self.shared.live().presence(user_id, &state, self.shared.tracker.node()))
    }

    /// Users in the order of their ids, after the given one, at most `limit`; and where the next page begins.
    pub fn list(
        &self,
        status: Option<PresenceStatus>,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<UserPresence>, Option<String>) {
        let live = self.shared.live();
        let choose = |(user_id, state): (&Arc<str>, &Arc<UserState>)| {
            let user = live.presence(user_id, state, self.shared.tracker.node());
            status.is_none_or(|status| user.status == status).then_some(user)
        };
        paged(self.shared.tracker.users(after, limit.saturating_add(1), choose), limit)
    }

    /// The same of the members of a group.
    pub fn members(&self, group: &str, after: Option<&str>, limit: usize) -> (Vec<UserPresence>, Option<String>) {
        let members = self.shared.tracker.members(group, after, limit.saturating_add(1));
        let live = self.shared.live();
        let node = self.shared.tracker.node();
        paged(members.iter().map(|(user_id, state)| live.presence(user_id, state, node)).collect(), limit)
    }

    /// How many members a group has, and how many of them are connected.
    pub fn count_members(&self, group: &str) -> (usize, usize) {
        let members = self.shared.tracker.members(group, None, usize::MAX);
        let live = self.shared.live();
        let is_connected = |(user_id, state): &&(Arc<str>, Arc<UserState>)| {
            live.status(user_id, state, self.shared.tracker.node()) == PresenceStatus::Connected
        };
        (members.len(), members.iter().filter(is_connected).count())
    }
}

/// The first `limit` of what was asked for one more of, and the id after which the next page begins.
fn paged(mut found: Vec<UserPresence>, limit: usize) -> (Vec<UserPresence>, Option<String>) {
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|user| user.user_id.clone());
    (found, next)
}

impl PresenceShared {
    fn live(&self) -> MutexGuard<'_, LiveUsers> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.tracker.clock().now()
    }

    fn node(&self) -> Option<Arc<str>> {
        self.tracker.node().map(Into::into)
    }

    /// Ends the streams of a user here.
    fn hang_up(&self, user: &ChannelName) {
        self.tracker.hang_up(user);
        if let Ok(inbox) = ChannelName::inbox(&user.name()) {
            self.tracker.hang_up(&inbox);
        }
    }

    /// Writes down all that has changed, side by side so that few commits serve many users; what the journal does not
    /// take is kept for the next time.
    async fn write_down(&self, through: Instant) -> Result<(), TrackerError> {
        let changed = self.live().take_changed(through, self.now());
        let mut changed = changed.into_iter().peekable();
        let mut failed = None;
        while changed.peek().is_some() {
            let part: Vec<_> = changed.by_ref().take(WRITTEN_AT_ONCE).collect();
            let written = join_all(part.iter().map(|changed| self.write_one(changed))).await;
            for (changed, outcome) in part.into_iter().zip(written) {
                self.live().settle(changed, outcome.is_ok());
                failed = outcome.err().or(failed);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write_one(&self, changed: &Changed) -> Result<(), TrackerError> {
        // A user who is known has a valid name.
        let Ok(user) = ChannelName::user(&changed.user_id) else { return Ok(()) };
        if changed.hangs_up {
            self.tracker.ask_user(&user, UserIntent::HangUp).await?;
            let kept = self.tracker.user(&changed.user_id);
            if let (Some(live), Some(kept)) = (self.live().by_id.get_mut(&changed.user_id), kept) {
                (live.hangs_up, live.hang_ups) = (false, kept.hang_ups);
            }
        }
        // One who was forgotten a moment ago is known again.
        let state = self.tracker.user(&changed.user_id);
        if state.as_ref().is_none_or(|state| state.status_at(self.tracker.node()) != changed.status) {
            self.tracker.ask_user(&user, UserIntent::Presence(changed.status, changed.since, self.node())).await?;
        }
        // Another node may have ended their streams before this one had said that they are here.
        let hang_ups = self.tracker.user(&changed.user_id).map_or(0, |kept| kept.hang_ups);
        let is_hung_up = |live: &LiveUser| hang_ups > live.hang_ups && !live.hangs_up;
        if self.live().by_id.get(&changed.user_id).is_some_and(is_hung_up) {
            self.compare_users(&BTreeSet::from([changed.user_id.as_str().into()]));
        }
        match changed.seen {
            Some(seen) if state.is_none_or(|state| seen > state.seen) => {
                self.tracker.ask_user(&user, UserIntent::Seen(seen)).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// Lets the journal follow, until all streams have ended.
async fn keep(shared: Arc<PresenceShared>, stop: CancellationToken) {
    let mut doubted = shared.tracker.presence();
    loop {
        let due_at = shared.live().due.first().map(|(at, _)| *at);
        let due = async {
            match due_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.changed.notified() => {}
            () = due => {}
            () = doubt(&mut doubted) => shared.compare().await,
        }
        if !shared.tracker.is_present() {
            // What it said now would not count, and that it counts again is told.
            let _stopping = stop.run_until_cancelled(doubt(&mut doubted)).await;
            shared.compare().await;
            continue;
        }
        if let Err(error) = shared.write_down(Instant::now()).await {
            tracing::warn!(%error, "cannot save who is connected; retrying");
            shared.changed.notify_one();
            let _stopping = stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
        }
    }
    // No stream will come back: nobody is given a grace.
    let at_the_end = Instant::now() + shared.grace + SEEN_DELAY;
    if let Err(error) = shared.write_down(at_the_end).await {
        tracing::warn!(%error, "cannot save who is connected at shutdown");
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        let shared = &self.presence.shared;
        let mut live = shared.live();
        let Some(user) = live.by_id.get_mut(&self.user_id).filter(|user| user.generation == self.generation) else {
            return;
        };
        user.connections -= 1;
        if user.connections == 0 {
            let at = Instant::now() + shared.grace;
            user.leaves_at = Some(at);
            live.due.insert((at, self.user_id.clone()));
            shared.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
