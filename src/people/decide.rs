//! The one place where it is decided what an intent does to a user.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde::Serialize;

use super::{
    notification::Notification,
    state::{PresenceStatus, Profile, UserState},
};
use crate::event::{ChannelName, Class, Draft, Seq, Timestamp};

/// Most groups of one user: a stream watches the channels of all of them.
pub const GROUPS_PER_USER_MAX: usize = 64;
/// Most members of one group.
pub const MEMBERS_PER_GROUP_MAX: usize = 50_000;
/// The topic on which it is told who comes and goes.
const PRESENCE: &str = "presence";

/// What is asked of a user.
#[derive(Clone, Debug, PartialEq)]
pub enum UserIntent {
    /// They came to a node or left it, at this time; to the only one, where the store has no nodes.
    Presence(PresenceStatus, Timestamp, Option<Arc<str>>),
    /// Their streams end, at all nodes.
    HangUp,
    /// Only where they are at these nodes they are connected: all others are gone.
    Bereave(Arc<BTreeSet<Arc<str>>>),
    /// Notifications at or before it were delivered to them.
    Seen(Seq),
    /// They have read the notifications at or before it; all that there are, if absent.
    Read(Option<Seq>),
    /// They are a member of these groups, and no others.
    Join(BTreeSet<String>),
    /// They are this person, which is told by this event.
    Introduce(Profile, Draft),
    /// They are sent a notification.
    Notify(Notification),
    /// They are forgotten, if they went before this time.
    Forget(Timestamp),
}

/// What a decision depends on beside the user.
pub trait Census {
    /// How many users there are.
    fn users(&self) -> usize;
    /// How many there may be.
    fn users_max(&self) -> usize;
    /// How many members a group has.
    fn members(&self, group: &str) -> usize;
}

/// The events of a decision, and the user after them. No events: nothing is to be changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserChange {
    /// The events.
    pub drafts: Vec<Draft>,
    /// The state after them; `None` for a user who is forgotten.
    pub state: Option<UserState>,
}

/// Why an intent is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeopleRefusal {
    /// Nobody has this id.
    #[error("no such user")]
    NoUser,
    /// There are as many users as allowed.
    #[error("there are as many users as max-users allows: {0}")]
    TooManyUsers(usize),
    /// The user would be in too many groups.
    #[error("a user may be in {GROUPS_PER_USER_MAX} groups at most")]
    TooManyGroups,
    /// The group has as many members as allowed.
    #[error("the group {0} has {MEMBERS_PER_GROUP_MAX} members, the most that are allowed")]
    GroupFull(String),
    /// A newer version may have written it.
    #[error("this version cannot read the user")]
    Unreadable,
}

/// Decides what `intent` does to a user, whose state is `known`. `head` is the last seq before it.
///
/// # Errors
/// When a bound is reached, or the user is not known where they must be.
pub fn decide(
    user: &ChannelName,
    known: Option<&UserState>,
    intent: &UserIntent,
    now: Timestamp,
    head: Seq,
    census: &impl Census,
) -> Result<UserChange, PeopleRefusal> {
    let is_full = known.is_none() && census.users() >= census.users_max();
    let mut next = known.cloned().unwrap_or_else(|| UserState::new(now));
    let mut others = Vec::new();
    match intent {
        UserIntent::Seen(_)
        | UserIntent::Read(_)
        | UserIntent::Forget(_)
        | UserIntent::Bereave(_)
        | UserIntent::HangUp
            if known.is_none() =>
        {
            return Err(PeopleRefusal::NoUser);
        }
        UserIntent::Presence(status, since, node) => {
            next.meet(*status, node.as_ref());
            others.extend(turned(user, known, &mut next, *since));
        }
        UserIntent::HangUp => {
            next.nodes.clear();
            next.status = PresenceStatus::Disconnected;
            next.hang_ups += 1;
            others.extend(turned(user, known, &mut next, now));
        }
        UserIntent::Bereave(living) => {
            next.nodes.retain(|node| living.contains(node));
            next.status = PresenceStatus::of(!next.nodes.is_empty());
            others.extend(turned(user, known, &mut next, now));
        }
        UserIntent::Seen(seq) => next.seen = next.seen.max(*seq),
        UserIntent::Read(seq) => {
            next.read = next.read.max(seq.unwrap_or(head));
            next.seen = next.seen.max(next.read);
        }
        UserIntent::Join(groups) => {
            next.groups = joined(&next, groups, head, census)?;
        }
        UserIntent::Introduce(profile, told) => {
            next.profile = Some(Box::new(profile.clone()));
            others.push(told.clone());
        }
        // A user who does not exist yet is made, so that the inbox is theirs.
        UserIntent::Notify(notification) => others.extend(inbox(user).map(|inbox| notification.draft(inbox))),
        UserIntent::Forget(before) => {
            let is_away = next.status == PresenceStatus::Disconnected && next.since < *before;
            return Ok(if is_away { forget(user) } else { UserChange::default() });
        }
    }
    if is_full {
        return Err(PeopleRefusal::TooManyUsers(census.users_max()));
    }
    let rewritten = (known != Some(&next)).then(|| next.draft(user));
    Ok(UserChange { drafts: rewritten.into_iter().chain(others).collect(), state: Some(next) })
}

/// The groups after it: of those that stay, the user remains a member since when they joined.
fn joined(
    known: &UserState,
    groups: &BTreeSet<String>,
    head: Seq,
    census: &impl Census,
) -> Result<BTreeMap<String, Seq>, PeopleRefusal> {
    if groups.len() > GROUPS_PER_USER_MAX {
        return Err(PeopleRefusal::TooManyGroups);
    }
    let join = |group: &String| match known.groups.get(group) {
        Some(since) => Ok((group.clone(), *since)),
        None if census.members(group) >= MEMBERS_PER_GROUP_MAX => Err(PeopleRefusal::GroupFull(group.clone())),
        None => Ok((group.clone(), head)),
    };
    groups.iter().map(join).collect()
}

fn forget(user: &ChannelName) -> UserChange {
    let own = [Some(user.clone()), inbox(user)].into_iter().flatten();
    UserChange { drafts: own.map(tombstone).collect(), state: None }
}

/// That a user came or went.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldPresence<'a> {
    user_id: &'a str,
    status: PresenceStatus,
    since: Timestamp,
}

/// Tells whether a user came or went with what has become of them, and notes since when that is so.
fn turned(user: &ChannelName, known: Option<&UserState>, next: &mut UserState, since: Timestamp) -> Option<Draft> {
    let is_told = known.is_none_or(|known| known.status != next.status);
    is_told.then(|| next.since = since)?;
    presence(user, next)
}

/// Tells those who watch presence.
fn presence(user: &ChannelName, state: &UserState) -> Option<Draft> {
    let UserState { status, since, .. } = *state;
    let told = ToldPresence { user_id: &user.name(), status, since };
    // Three words always have a JSON text.
    let data = serde_json::to_vec(&told).unwrap_or_default().into();
    let channel = ChannelName::topic(PRESENCE).ok()?;
    Some(Draft { channel, name: Some(PRESENCE.into()), class: Class::Notice, data, memo: None, origin: None })
}

fn inbox(user: &ChannelName) -> Option<ChannelName> {
    // The user's id is a valid name already.
    ChannelName::inbox(&user.name()).ok()
}

fn tombstone(channel: ChannelName) -> Draft {
    Draft { channel, name: None, class: Class::Tombstone, data: Bytes::new(), memo: None, origin: None }
}
