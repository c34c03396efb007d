//! Where several nodes share the store: what it says of those who are connected here, compared with what is known here. What
//! differs is written down, or ends streams.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use tokio::sync::watch;

use super::PresenceShared;
use crate::{
    event::ChannelName,
    people::{PresenceStatus, UserState},
    tracker::PresenceDoubts,
};

/// Users who are compared at once: nobody waits for more.
const COMPARED_AT_ONCE: usize = 1_024;

impl PresenceShared {
    /// Looks at those of whom the store may say otherwise than is known here.
    pub(super) async fn compare(&self) {
        let doubts = self.tracker.take_doubts();
        self.compare_users(&doubts.users);
        let mut page = doubts.are_of_all.then(|| self.compare_page(None)).flatten();
        while let Some(after) = page {
            tokio::task::yield_now().await;
            page = self.compare_page(Some(&after));
        }
    }

    /// The same of a page of all users, after this id; answers where the next page begins.
    pub(super) fn compare_page(&self, after: Option<&str>) -> Option<Arc<str>> {
        let node = self.tracker.node();
        let said = |(user_id, state): (&Arc<str>, &Arc<UserState>)| {
            Some((Arc::clone(user_id), state.status_at(node) == PresenceStatus::Connected))
        };
        let page = self.tracker.users(after, COMPARED_AT_ONCE, said);
        let last = page.last().filter(|_| page.len() == COMPARED_AT_ONCE).map(|(user_id, _)| Arc::clone(user_id));
        let mut users: BTreeSet<_> =
            page.into_iter().filter_map(|(user_id, is_said)| is_said.then_some(user_id)).collect();
        let (from, to) = (after.map_or(Bound::Unbounded, Bound::Excluded), last.as_deref());
        let range = (from, to.map_or(Bound::Unbounded, Bound::Included));
        users.extend(self.live().by_id.range::<str, _>(range).map(|(user_id, _)| user_id.as_str().into()));
        self.compare_users(&users);
        last
    }

    /// Finds those of whom the store says otherwise than is known here: who was connected when this node ended or was cut
    /// off, who is connected although others took this node for dead, and who was disconnected at another node.
    pub(super) fn compare_users(&self, users: &BTreeSet<Arc<str>>) {
        let (node, now) = (self.tracker.node(), self.now());
        let mut hung_up = Vec::new();
        let mut live = self.live();
        for user_id in users {
            let state = self.tracker.user(user_id);
            let said = state.as_ref().filter(|state| state.status_at(node) == PresenceStatus::Connected);
            match (live.by_id.get_mut(&**user_id), said) {
                (Some(user), _)
                    if !user.hangs_up && state.as_ref().is_some_and(|kept| kept.hang_ups > user.hang_ups) =>
                {
                    user.hang_ups = state.as_ref().map_or(0, |kept| kept.hang_ups);
                    live.hang_up(user_id, now);
                    hung_up.extend(ChannelName::user(user_id));
                }
                (Some(user), None) if user.status == PresenceStatus::Connected => {
                    live.changed.insert(user_id.to_string());
                }
                (None, Some(state)) => {
                    live.user(user_id, state, node).leave(now);
                    live.changed.insert(user_id.to_string());
                }
                _ => {}
            }
        }
        drop(live);
        hung_up.iter().for_each(|user| self.hang_up(user));
        self.changed.notify_one();
    }
}

/// Waits until others may have said something else of those who are connected here.
pub(super) async fn doubt(doubted: &mut Option<watch::Receiver<PresenceDoubts>>) {
    let is_doubted = match doubted {
        Some(doubted) => doubted.changed().await.is_ok(),
        None => false,
    };
    if !is_doubted {
        std::future::pending::<()>().await;
    }
}
