//! People: what is sent to a user, and what is kept of whether they are connected. Pure, like the task table.
//!
//! A user's channel carries transient texts, replayed only from a cursor, and hidden events that remember when the
//! user came and went, so that a user who was seen once is known after a restart.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::{ChannelName, Class, Draft, Timestamp};

/// Whether a user is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PresenceStatus {
    /// The user has an open stream.
    Connected,
    /// The user has no open stream.
    Disconnected,
}

/// What the journal remembers of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceMemo {
    /// Whether they were there …
    pub status: PresenceStatus,
    /// … since when.
    pub since: Timestamp,
}

/// A text or JSON for whoever listens on a user's channel.
pub fn message(user: &ChannelName, text: Bytes) -> Draft {
    Draft { channel: user.clone(), name: None, class: Class::Notice, data: text, memo: None, origin: None }
}

/// Remembers that a user came or went.
pub fn presence(user: &ChannelName, memo: PresenceMemo) -> Draft {
    // Two words and a time always have a JSON text.
    let memo = serde_json::to_vec(&memo).unwrap_or_default();
    Draft { class: Class::Hidden, memo: Some(memo.into()), ..message(user, Bytes::new()) }
}

/// Reads back what [`presence`] wrote.
///
/// # Errors
/// When it is something else.
pub fn read_presence(memo: &[u8]) -> Result<PresenceMemo, serde_json::Error> {
    serde_json::from_slice(memo)
}
