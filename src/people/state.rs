//! What is kept of a user: the memo of the user's channel.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::{ChannelName, Class, Draft, Seq, Timestamp};

/// Whether a user is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PresenceStatus {
    /// The user has an open stream.
    Connected,
    /// The user has no open stream.
    Disconnected,
}

impl PresenceStatus {
    /// That of somebody who has an open stream, or none.
    pub fn of(is_connected: bool) -> Self {
        if is_connected { Self::Connected } else { Self::Disconnected }
    }
}

/// Who a user is, where that was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// The name of the user.
    #[schema(example = "Alice")]
    pub name: String,
    /// The email address of the user.
    #[schema(example = "alice@example.org")]
    pub email: String,
}

/// What is kept of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserState {
    /// Whether they are connected …
    pub status: PresenceStatus,
    /// … since when.
    pub since: Timestamp,
    /// At which nodes, where several share the store.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<Arc<str>>,
    /// How often they were disconnected on request, where several nodes share the store: each ends its streams of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hang_ups: u64,
    /// Notifications at or before it were delivered: a stream without a cursor begins after it.
    #[serde(default)]
    pub seen: Seq,
    /// Notifications at or before it were read.
    #[serde(default)]
    pub read: Seq,
    /// The groups, each with the head of the journal when the user joined: what was sent before is not theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Seq>,
    /// Who they are. Boxed: most users have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Box<Profile>>,
}

/// Whether there is nothing to store.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl UserState {
    /// A user who has not been connected yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            status: PresenceStatus::Disconnected,
            since: now,
            nodes: BTreeSet::new(),
            hang_ups: 0,
            seen: Seq::ZERO,
            read: Seq::ZERO,
            groups: BTreeMap::new(),
            profile: None,
        }
    }

    /// Reads the memo of a user's channel.
    ///
    /// # Errors
    /// When this version cannot have written it.
    pub fn from_memo(memo: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(memo)
    }

    /// The hidden event that keeps it.
    pub(super) fn draft(&self, user: &ChannelName) -> Draft {
        // A struct of words, numbers and a map by strings always has a JSON text.
        let memo = serde_json::to_vec(self).unwrap_or_default();
        let memo = Some(memo.into());
        Draft { channel: user.clone(), name: None, class: Class::Hidden, data: Bytes::new(), memo, origin: None }
    }

    /// Whether they are connected at this node; at the only one, where the store has no nodes.
    pub fn status_at(&self, node: Option<&str>) -> PresenceStatus {
        // Those who are connected at no node were so before the store was shared: any node may say that they are not.
        let is_of_no_node = self.nodes.is_empty() && self.status == PresenceStatus::Connected;
        node.map_or(self.status, |node| PresenceStatus::of(is_of_no_node || self.nodes.contains(node)))
    }

    /// They came to a node, or left it; the only one, where the store has no nodes.
    pub(super) fn meet(&mut self, status: PresenceStatus, node: Option<&Arc<str>>) {
        match node {
            None => self.nodes.clear(),
            Some(node) if status == PresenceStatus::Connected => drop(self.nodes.insert(Arc::clone(node))),
            Some(node) => drop(self.nodes.remove(node)),
        }
        self.status = node.map_or(status, |_| PresenceStatus::of(!self.nodes.is_empty()));
    }

    /// After which seq of each group's channel, and of the inbox, a stream without a cursor begins.
    pub fn begins(&self, group: Option<&str>) -> Seq {
        let joined = group.and_then(|group| self.groups.get(group)).copied().unwrap_or_default();
        self.seen.max(joined)
    }
}
