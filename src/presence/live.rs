//! Whose streams are open here, and what of it is still to be written down.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::UserPresence;
use crate::{
    event::{Seq, Timestamp},
    people::{PresenceStatus, UserState},
};

/// Those who are connected, or of whom something is still to be written down.
#[derive(Default)]
pub(super) struct LiveUsers {
    pub(super) by_id: BTreeMap<String, LiveUser>,
    /// When users are to be looked at again.
    pub(super) due: BTreeSet<(Instant, String)>,
    pub(super) changed: BTreeSet<String>,
    pub(super) generations: u64,
}

pub(super) struct LiveUser {
    pub(super) connections: usize,
    pub(super) status: PresenceStatus,
    pub(super) since: Timestamp,
    /// Changed when the user is disconnected on request: the streams of before do not count any more.
    pub(super) generation: u64,
    /// Whether the streams at all nodes are to end.
    pub(super) hangs_up: bool,
    /// How often the store has said that they are, as far as that was done here.
    pub(super) hang_ups: u64,
    /// When a user without streams is disconnected.
    pub(super) leaves_at: Option<Instant>,
    /// Up to where notifications were seen, where that is to be written down, and when.
    pub(super) seen: Option<(Seq, Instant)>,
}

impl LiveUsers {
    /// The entry of a user; a new one begins with what is kept of them.
    pub(super) fn user(&mut self, user_id: &str, kept: &UserState, node: Option<&str>) -> &mut LiveUser {
        let generations = &mut self.generations;
        self.by_id.entry(user_id.to_owned()).or_insert_with(|| {
            *generations += 1;
            LiveUser {
                connections: 0,
                status: kept.status_at(node),
                since: kept.since,
                generation: *generations,
                hangs_up: false,
                hang_ups: kept.hang_ups,
                leaves_at: None,
                seen: None,
            }
        })
    }

    /// The streams of a user have ended here.
    pub(super) fn hang_up(&mut self, user_id: &str, now: Timestamp) {
        self.generations += 1;
        if let Some(user) = self.by_id.get_mut(user_id) {
            (user.connections, user.generation, user.leaves_at) = (0, self.generations, None);
            user.leave(now);
            self.changed.insert(user_id.to_owned());
        }
    }

    /// What is known of a user, whose state the store says, at this node.
    pub(super) fn presence(&self, user_id: &str, state: &UserState, node: Option<&str>) -> UserPresence {
        let user = self.by_id.get(user_id);
        let status = self.status(user_id, state, node);
        let is_written = status == state.status;
        UserPresence {
            user_id: user_id.to_owned(),
            status,
            connections: user.map_or(0, |user| user.connections),
            since: user.filter(|_| !is_written).map_or(state.since, |user| user.since),
            profile: state.profile.as_deref().cloned(),
        }
    }

    /// Whether a user is connected here, as far as it is known ahead of the store, or at another node.
    pub(super) fn status(&self, user_id: &str, state: &UserState, node: Option<&str>) -> PresenceStatus {
        let is_elsewhere = node.is_some_and(|here| state.nodes.iter().any(|node| **node != *here));
        let user = self.by_id.get(user_id);
        let here = user.map_or(state.status, |user| user.status);
        if is_elsewhere && !user.is_some_and(|user| user.hangs_up) { PresenceStatus::Connected } else { here }
    }

    /// Takes those of whom something is to be written down. Those whose grace is over by `through` have left.
    pub(super) fn take_changed(&mut self, through: Instant, now: Timestamp) -> Vec<Changed> {
        while let Some((_, user_id)) = self.due.first().filter(|(at, _)| *at <= through).cloned() {
            self.due.pop_first();
            self.changed.insert(user_id);
        }
        let mut taken = Vec::new();
        for user_id in std::mem::take(&mut self.changed) {
            let Some(user) = self.by_id.get_mut(&user_id) else { continue };
            if user.leaves_at.take_if(|at| *at <= through).is_some() {
                user.leave(now);
            }
            let seen = user.seen.take_if(|(_, at)| *at <= through).map(|(seq, _)| seq);
            let LiveUser { status, since, hangs_up, .. } = *user;
            taken.push(Changed { user_id, status, since, hangs_up, seen });
        }
        taken
    }

    /// It is written down; or else it is to be tried again.
    pub(super) fn settle(&mut self, changed: Changed, is_written: bool) {
        let Some(user) = self.by_id.get_mut(&changed.user_id) else { return };
        if !is_written {
            let now = Instant::now();
            user.seen = changed.seen.map(|seq| (seq.max(user.seen.map_or(seq, |(seq, _)| seq)), now)).or(user.seen);
            self.changed.insert(changed.user_id);
        } else if user.is_settled(changed.status) && !self.changed.contains(&changed.user_id) {
            self.by_id.remove(&changed.user_id);
        }
    }
}

/// What is to be written down of a user.
pub(super) struct Changed {
    pub(super) user_id: String,
    pub(super) status: PresenceStatus,
    pub(super) since: Timestamp,
    pub(super) hangs_up: bool,
    pub(super) seen: Option<Seq>,
}

impl LiveUser {
    pub(super) fn leave(&mut self, now: Timestamp) {
        if self.connections == 0 && self.status == PresenceStatus::Connected {
            (self.status, self.since) = (PresenceStatus::Disconnected, now);
        }
    }

    /// Whether nothing is known here that is not written down.
    fn is_settled(&self, written: PresenceStatus) -> bool {
        self.connections == 0 && self.status == written && self.leaves_at.is_none() && self.seen.is_none()
    }
}
