//! What one batch makes of users and groups: decided one upon the other, like all else in it.

use std::collections::HashMap;

use super::batch::Batch;
use crate::{
    event::{ChannelKind, ChannelName, Draft, Seq},
    people::{Census, Notification, PeopleRefusal, UserIntent, UserState, decide},
};

/// Users after the requests of a batch, and by how much the numbers of users and members differ from the table's.
#[derive(Debug, Default)]
pub(super) struct UserOverlay {
    states: HashMap<ChannelName, Option<UserState>>,
    users_more: isize,
    members_more: HashMap<String, isize>,
}

impl UserOverlay {
    /// What the batch makes of a user; `None` in it for one who is forgotten.
    pub(super) fn get(&self, user: &ChannelName) -> Option<&Option<UserState>> {
        self.states.get(user)
    }

    fn put(&mut self, user: &ChannelName, known: Option<&UserState>, state: Option<UserState>) {
        self.users_more += isize::from(state.is_some()) - isize::from(known.is_some());
        for (state, more) in [(known, -1), (state.as_ref(), 1)] {
            for group in state.into_iter().flat_map(|state| state.groups.keys()) {
                *self.members_more.entry(group.clone()).or_default() += more;
            }
        }
        self.states.insert(user.clone(), state);
    }
}

impl Batch<'_> {
    /// The events to which an intent on a user leads.
    pub(super) fn decide_user(&mut self, user: &ChannelName, intent: &UserIntent) -> Result<Vec<Draft>, PeopleRefusal> {
        let user_id = user.name();
        if self.people.is_unreadable(&user_id) {
            return Err(PeopleRefusal::Unreadable);
        }
        let known = match self.users.get(user) {
            Some(known) => known.clone(),
            None => self.people.get(&user_id).map(|known| UserState::clone(known)),
        };
        let change = decide(user, known.as_ref(), intent, self.now, self.head, self)?;
        if change.drafts.iter().any(|draft| draft.channel == *user) {
            self.users.put(user, known.as_ref(), change.state);
        }
        Ok(change.drafts)
    }

    /// The event of a notification to a group. Nobody could ever find what is sent to a group without members.
    pub(super) fn group_events(&self, group: &ChannelName, notification: &Notification) -> Vec<Draft> {
        let is_heard = self.members(&group.name()) > 0;
        is_heard.then(|| notification.draft(group.clone())).into_iter().collect()
    }

    /// Whether a group may not be forgotten that ends at `last`. An event that the tables have not followed may be for
    /// somebody who joined just before it. Nobody who joins later is sent what is at or before `last`, and anything after
    /// it is a conflict.
    pub(super) fn is_group_in_use(&self, channel: &ChannelName, last: Seq) -> bool {
        channel.kind() == ChannelKind::Group && (self.members(&channel.name()) > 0 || last > self.head)
    }
}

impl Census for Batch<'_> {
    fn users(&self) -> usize {
        self.people.users().saturating_add_signed(self.users.users_more)
    }

    fn users_max(&self) -> usize {
        self.people.users_max()
    }

    fn members(&self, group: &str) -> usize {
        let more = self.users.members_more.get(group).copied().unwrap_or_default();
        self.people.members(group).saturating_add_signed(more)
    }
}
