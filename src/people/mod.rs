//! People: who has been seen, their groups, what they have seen and read, and what is sent to them. Pure: no tokio, no I/O,
//! no clock.
//!
//! `decide(user, state, intent, …)` answers which events an intent leads to, with the state of the user after them, or why
//! it is refused. The state is the memo of the user's channel, so events that were decided elsewhere lead to the same
//! [`PeopleTable`]. All users are in memory. It must not know who has an open stream, nor how events are stored.
//!
//! A user has two channels: `user:{id}` with transient texts and the hidden events that carry the state, and
//! `inbox:{id}` with notifications, which wait. A message to a group is one event on `group:{name}`.

mod decide;
mod notification;
mod state;
mod table;

pub use decide::{Census, GROUPS_PER_USER_MAX, MEMBERS_PER_GROUP_MAX, PeopleRefusal, UserChange, UserIntent, decide};
pub use notification::{NewNotification, Notification};
pub use state::{PresenceStatus, Profile, UserState};
pub use table::{MembershipChange, PeopleTable};

use bytes::Bytes;

use crate::event::{ChannelName, Class, Draft};

/// A text or JSON for whoever listens on a user's channel; nobody finds it later without a cursor.
pub fn message(user: &ChannelName, text: Bytes) -> Draft {
    Draft { channel: user.clone(), name: None, class: Class::Notice, data: text, memo: None, origin: None }
}

#[cfg(test)]
mod tests;
