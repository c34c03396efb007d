//! Idempotency keys: what the first request with a key has made, so that the same request again makes nothing more.
//!
//! A key is a channel with one event, committed in one group with what it stands for. The key of a task goes with its
//! task; that of other events ends with its only event, so that it is removed after the retention like a finished task.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{row::Row, state::InvalidEvent, transition::Decided};
use crate::event::{ChannelName, Class, Draft, Seq};

/// What an idempotency key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// The task that the first request with it made.
    Task(Uuid),
    /// The events that the first request with it appended.
    Events {
        /// The digest of what was asked for.
        content: Uuid,
        /// The last of these events; zero until it has its place.
        last: Seq,
    },
}

/// The id that a client gave to what it sends, so that the same again is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKey {
    key: Uuid,
    content: Uuid,
}

impl EventKey {
    /// The id that a client gave to what it sends to one channel. `content` tells one request from another.
    pub fn new(target: &ChannelName, id: &str, content: &[u8]) -> Self {
        // The key of a task is visible ASCII, so none is the same text.
        Self { key: key_digest(&format!("{target}\0{id}")), content: digest(content) }
    }

    /// Its channel.
    pub fn channel(self) -> ChannelName {
        ChannelName::key(self.key)
    }

    /// Whether it was given to a request with this content.
    pub fn matches(self, content: Uuid) -> bool {
        self.content == content
    }

    /// The event that says that it is taken, appended right after the events that it stands for.
    pub fn taken(self) -> Decided {
        let memo = KeyMemo { task_id: None, content: Some(self.content) };
        let keyed = Keyed::Events { content: self.content, last: Seq::ZERO };
        taken(self.key, Class::Final, &memo, keyed)
    }
}

/// The event that says that a key is taken by a task.
pub(super) fn taken_by_task(key: Uuid, task_id: Uuid) -> Decided {
    taken(key, Class::Hidden, &KeyMemo { task_id: Some(task_id), content: None }, Keyed::Task(task_id))
}

fn taken(key: Uuid, class: Class, memo: &KeyMemo, keyed: Keyed) -> Decided {
    // Two ids always have a JSON text.
    let memo = Some(serde_json::to_vec(memo).unwrap_or_default().into());
    let channel = ChannelName::key(key);
    let draft = Draft { channel, name: None, class, data: Bytes::new(), memo, origin: None };
    Decided { draft, row: Some(Row::Key(keyed)) }
}

/// The memo of an idempotency key's channel: one of both.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyMemo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Uuid>,
}

impl Keyed {
    /// Reads it from the memo of the key's event at `seq`.
    pub(super) fn read(seq: Seq, memo: &[u8]) -> Result<Self, InvalidEvent> {
        match serde_json::from_slice(memo) {
            Ok(KeyMemo { task_id: Some(task_id), content: None }) => Ok(Self::Task(task_id)),
            Ok(KeyMemo { task_id: None, content: Some(content) }) => Ok(Self::Events { content, last: before(seq) }),
            _ => Err(InvalidEvent(seq)),
        }
    }

    /// The key now that its event has got its place.
    pub(super) fn placed(&mut self, seq: Seq) {
        if let Self::Events { last, .. } = self {
            *last = before(seq);
        }
    }
}

fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}

/// Names the channel of an idempotency key: the first 128 bits of BLAKE3 over its text.
pub fn key_digest(key: &str) -> Uuid {
    digest(key.as_bytes())
}

pub(super) fn digest(bytes: &[u8]) -> Uuid {
    let hash = blake3::hash(bytes);
    let (half, _) = hash.as_bytes().split_at(16);
    uuid::Builder::from_custom_bytes(half.try_into().unwrap_or_default()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_is_what_is_read_back() {
        let topic = ChannelName::topic("news").unwrap();
        let event = EventKey::new(&topic, "1", b"{}").taken();
        for decided in [taken_by_task(key_digest("1"), Uuid::now_v7()), event] {
            let Some(Row::Key(mut keyed)) = decided.row else { panic!("no key") };
            keyed.placed(Seq(8));
            assert_eq!(Keyed::read(Seq(8), &decided.draft.memo.unwrap()), Ok(keyed));
        }
        for memo in ["", "{}", r#"{"taskId":"0199c0de-0000-7000-8000-000000000001","content":"x"}"#] {
            assert_eq!(Keyed::read(Seq(8), memo.as_bytes()), Err(InvalidEvent(Seq(8))), "{memo}");
        }
    }

    #[test]
    fn the_same_id_on_another_channel_is_another_key() {
        let key = |name: &str, id| EventKey::new(&ChannelName::topic(name).unwrap(), id, b"{}").channel();
        assert_eq!(key("news", "1"), key("news", "1"));
        assert_ne!(key("news", "1"), key("news", "2"));
        assert_ne!(key("news", "1"), key("other", "1"));
        assert_ne!(key("news", "1"), ChannelName::key(key_digest("1")));
    }
}
