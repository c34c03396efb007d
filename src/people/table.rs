//! All users that are known, and the members of each group.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use super::{decide::Census, state::UserState};
use crate::event::{ChannelKind, ChannelName, Class, Event, Seq};

/// The users.
#[derive(Debug)]
pub struct PeopleTable {
    users_max: usize,
    users: BTreeMap<Arc<str>, UserSlot>,
    members: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Channels of users who are not known but about whom something is being decided, with their last seq.
    strangers: HashMap<ChannelName, Seq>,
}

#[derive(Debug)]
struct UserSlot {
    /// `None` when this version cannot read it.
    state: Option<Arc<UserState>>,
    /// The last event of the user's channel.
    last: Seq,
}

/// That the groups of a user have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// Whose.
    pub user_id: Arc<str>,
}

impl PeopleTable {
    /// Nobody is known yet.
    pub fn new(users_max: usize) -> Self {
        Self { users_max, users: BTreeMap::new(), members: HashMap::new(), strangers: HashMap::new() }
    }

    /// What is known of a user.
    pub fn get(&self, user_id: &str) -> Option<&Arc<UserState>> {
        self.users.get(user_id)?.state.as_ref()
    }

    /// Whether there is something that this version cannot read.
    pub fn is_unreadable(&self, user_id: &str) -> bool {
        self.users.get(user_id).is_some_and(|slot| slot.state.is_none())
    }

    /// Whether the last event of a user's channel is known, if there is one.
    pub fn last(&self, user: &ChannelName) -> Option<Seq> {
        let known = self.users.get(&*user.name()).map(|slot| slot.last);
        known.or_else(|| self.strangers.get(user).copied())
    }

    /// The users in the order of their ids, after the given one.
    pub fn after(&self, user_id: Option<&str>) -> impl Iterator<Item = (&Arc<str>, &Arc<UserState>)> {
        let start = user_id.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.users.range::<str, _>((start, Bound::Unbounded));
        slots.filter_map(|(id, slot)| Some((id, slot.state.as_ref()?)))
    }

    /// The members of a group in the order of their ids, after the given one.
    pub fn members_after(&self, group: &str, user_id: Option<&str>) -> impl Iterator<Item = &Arc<str>> {
        let start = user_id.map_or(Bound::Unbounded, Bound::Excluded);
        self.members.get(group).into_iter().flat_map(move |ids| ids.range::<str, _>((start, Bound::Unbounded)))
    }

    /// Makes the table follow an event on a user's channel that was decided elsewhere.
    ///
    /// # Errors
    /// When this version cannot have written it; then the user is unreadable.
    pub fn apply(&mut self, event: &Event) -> Result<Option<MembershipChange>, serde_json::Error> {
        let user = event.channel();
        match (event.class(), &event.draft.memo) {
            (Class::Tombstone, _) => Ok(self.put(user, None, event.seq)),
            (_, Some(memo)) => self.restore(user, memo, event.seq),
            _ => {
                self.saw(user, event.seq);
                Ok(None)
            }
        }
    }

    /// Puts in what the store keeps of a user, unless what is here is as new.
    ///
    /// # Errors
    /// When this version cannot have written it; then the user is unreadable.
    pub fn restore(
        &mut self,
        user: &ChannelName,
        memo: &[u8],
        last: Seq,
    ) -> Result<Option<MembershipChange>, serde_json::Error> {
        if self.users.get(&*user.name()).is_some_and(|slot| slot.last >= last) {
            return Ok(None);
        }
        let read = UserState::from_memo(memo);
        if let Err(error) = read {
            self.put(user, None, last);
            self.users.insert(user.name().into(), UserSlot { state: None, last });
            return Err(error);
        }
        Ok(self.put(user, read.ok(), last))
    }

    /// Notes the last event of a channel whose user is not known.
    pub fn note_stranger(&mut self, user: ChannelName, last: Seq) {
        self.strangers.insert(user, last);
    }

    /// Forgets what was noted for decisions that are made by now.
    pub fn forget_strangers(&mut self) {
        self.strangers.clear();
    }

    /// An event that changes nothing but the last seq of its channel.
    pub fn saw(&mut self, user: &ChannelName, seq: Seq) {
        if let Some(slot) = self.users.get_mut(&*user.name()) {
            slot.last = slot.last.max(seq);
        } else if let Some(last) = self.strangers.get_mut(user) {
            *last = seq.max(*last);
        }
    }

    /// Puts in the state of a user after the event `last` on their channel; `None` forgets them.
    pub fn put(&mut self, user: &ChannelName, state: Option<UserState>, last: Seq) -> Option<MembershipChange> {
        debug_assert_eq!(user.kind(), ChannelKind::User);
        self.strangers.remove(user);
        let before = self.users.remove(&*user.name());
        let user_id: Arc<str> = user.name().into();
        let before = before.and_then(|slot| slot.state).map(|state| state.groups.clone()).unwrap_or_default();
        let after = state.as_ref().map(|state| state.groups.clone()).unwrap_or_default();
        for group in before.keys().filter(|group| !after.contains_key(*group)) {
            if let Some(members) = self.members.get_mut(group.as_str()) {
                members.remove(&user_id);
                if members.is_empty() {
                    self.members.remove(group.as_str());
                }
            }
        }
        for group in after.keys().filter(|group| !before.contains_key(*group)) {
            self.members.entry(group.as_str().into()).or_default().insert(Arc::clone(&user_id));
        }
        if let Some(state) = state {
            self.users.insert(Arc::clone(&user_id), UserSlot { state: Some(Arc::new(state)), last });
        }
        (before != after).then_some(MembershipChange { user_id })
    }
}

impl Census for PeopleTable {
    fn users(&self) -> usize {
        self.users.len()
    }

    fn users_max(&self) -> usize {
        self.users_max
    }

    fn members(&self, group: &str) -> usize {
        self.members.get(group).map_or(0, BTreeSet::len)
    }
}
