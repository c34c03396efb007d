//! The bytes: how an event looks on a stream. The only place that writes `data:`.
//!
//! An event is encoded at most once a dialect, on first use, and all watchers share the bytes. This module knows
//! envelopes and framing; it must not know what the data says, nor who watches.
//!
//! The framing is that of Server-Sent Events, WHATWG HTML section 9.2. Lines end in LF only. A text of several lines
//! becomes several `data:` lines, whatever ended them.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::event::{ChannelKind, ChannelName, Class, Cursor, Draft, Epoch, Event, Seq};

/// A comment, which keeps a quiet stream alive and is no event.
pub const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The framing that a route promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `event`, the whole state with its cursor as data, `id`.
    Progress,
    /// Unnamed, without id; text or JSON as given.
    Plain,
    /// `event`, text or JSON as given, `id`.
    Named,
    /// Unnamed; the channel's name and the text or JSON in one object, `id`.
    Multiplexed,
    /// Unnamed, without id; of a notification, `{"Title","Message","OccurredAt"}`.
    Pascal,
}

impl Dialect {
    /// All of them, in their order.
    const ALL: [Self; 5] = [Self::Progress, Self::Plain, Self::Named, Self::Multiplexed, Self::Pascal];

    /// Whether its frames carry the cursor.
    pub fn has_ids(self) -> bool {
        !matches!(self, Self::Plain | Self::Pascal)
    }
}

/// A visible event with its bytes.
#[derive(Debug)]
pub struct Frame {
    cursor: Cursor,
    event: Event,
    decided: Option<Instant>,
    encoded: [OnceLock<Bytes>; Dialect::ALL.len()],
}

impl Frame {
    /// A frame of this event; nothing is encoded yet. `decided` is when it was decided, where that was a moment ago.
    pub fn new(epoch: Epoch, event: Event, decided: Option<Instant>) -> Self {
        Self { cursor: Cursor { epoch, seq: event.seq }, event, decided, encoded: Default::default() }
    }

    /// The event's place in the journal.
    pub fn seq(&self) -> Seq {
        self.cursor.seq
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// How it may be treated.
    pub fn class(&self) -> Class {
        self.event.class()
    }

    /// How long ago it was decided; `None` for one that was loaded from the journal.
    pub fn age(&self) -> Option<Duration> {
        self.decided.map(|decided| decided.elapsed())
    }

    /// Its bytes in a dialect, ready for the socket.
    pub fn bytes(&self, dialect: Dialect) -> Bytes {
        let id = dialect.has_ids().then_some(self.cursor);
        self.encoded[dialect as usize].get_or_init(|| self.encode(dialect, id)).clone()
    }

    /// Its bytes as a state that is shown first, where the stream stands at `id` afterwards.
    pub fn snapshot(&self, dialect: Dialect, id: Option<Cursor>) -> Bytes {
        self.encode(dialect, id)
    }

    /// Its text or JSON in one object with its channel's name.
    pub fn addressed(&self) -> Bytes {
        let data = &self.event.draft.data;
        let is_json = serde_json::from_slice::<IgnoredAny>(data).is_ok();
        // A string always has a JSON text.
        let text = || serde_json::to_vec(&String::from_utf8_lossy(data)).unwrap_or_default();
        let data = if is_json { data.clone() } else { text().into() };
        with_members(b"{}", [("channel", format!("\"{}\"", self.event.channel().shown()).as_bytes()), ("data", &data)])
    }

    fn encode(&self, dialect: Dialect, id: Option<Cursor>) -> Bytes {
        let Draft { name, data, channel, .. } = &self.event.draft;
        match dialect {
            Dialect::Progress if channel.kind() == ChannelKind::Task => {
                let data = with_members(data, [("cursor", format!("\"{}\"", self.cursor).as_bytes())]);
                event(name.as_deref(), &data, id)
            }
            Dialect::Progress | Dialect::Named => event(name.as_deref(), data, id),
            Dialect::Plain => event(None, data, id),
            Dialect::Multiplexed => event(None, &self.addressed(), id),
            Dialect::Pascal => event(None, &titled(data).unwrap_or_else(|| data.clone()), id),
        }
    }
}

/// One event. The id comes last: some clients take it over before the event is complete, and would miss the event when
/// the connection is cut in between.
pub fn event(name: Option<&str>, data: &[u8], id: Option<Cursor>) -> Bytes {
    let mut frame = Vec::with_capacity(data.len() + 64);
    if let Some(name) = name {
        frame.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    data_lines(&mut frame, data);
    if let Some(id) = id {
        frame.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    frame.push(b'\n');
    frame.into()
}

/// An unnamed event without id: the text as given.
pub fn text(text: &[u8]) -> Bytes {
    event(None, text, None)
}

/// Tells the client where it stands; it is no event.
pub fn position(cursor: Cursor) -> Bytes {
    format!("id: {cursor}\n\n").into()
}

/// Tells the client how long to wait before it connects again.
pub fn retry(wait: Duration) -> Bytes {
    format!("retry: {}\n\n", wait.as_millis()).into()
}

/// Tells the client that what it knew of a channel is void; the channel's current state follows.
pub fn reset(channel: &ChannelName) -> Bytes {
    format!("event: reset\ndata: {{\"channel\":\"{}\"}}\n\n", channel.shown()).into()
}

/// Tells the client why there is nothing to see now, and when to come again.
///
/// `code` is a word of this program's own; `detail` a sentence.
pub fn refused(code: &str, detail: &str, wait: Duration) -> Bytes {
    let retry_ms = wait.as_millis();
    let data = serde_json::json!({ "code": code, "detail": detail, "retryAfterMs": retry_ms as u64 });
    format!("event: refused\ndata: {data}\nretry: {retry_ms}\n\n").into()
}

fn data_lines(frame: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        frame.extend_from_slice(b"data: ");
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            frame.extend_from_slice(text);
            frame.push(b'\n');
            return;
        };
        frame.extend_from_slice(&text[..end]);
        frame.push(b'\n');
        let ending = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        text = &text[end + ending..];
    }
}

/// The object `json` with more members at its end, each a name and a JSON text.
///
/// What an event holds is sent as it was stored; only what is known later (its cursor) or kept elsewhere (a task's
/// input) is added.
pub fn with_members<'a, M>(json: &[u8], members: M) -> Bytes
where
    M: IntoIterator<Item = (&'a str, &'a [u8]), IntoIter: Clone>,
{
    let members = members.into_iter();
    let open = json.strip_suffix(b"}").unwrap_or(json);
    let added: usize = members.clone().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut object = Vec::with_capacity(json.len() + added);
    object.extend_from_slice(open);
    for (name, value) in members {
        if object != b"{" {
            object.push(b',');
        }
        object.push(b'"');
        object.extend_from_slice(name.as_bytes());
        object.extend_from_slice(b"\":");
        object.extend_from_slice(value);
    }
    object.push(b'}');
    object.into()
}

/// Title, message and time of an object, under the names that the clients of an earlier system read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all(serialize = "PascalCase", deserialize = "camelCase"))]
struct TitledObject<'a> {
    #[serde(borrow)]
    title: &'a RawValue,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow)]
    occurred_at: &'a RawValue,
}

/// `{"Title":…,"Message":…,"OccurredAt":…}` of an object that has these members.
fn titled(json: &[u8]) -> Option<Bytes> {
    let object: TitledObject<'_> = serde_json::from_slice(json).ok()?;
    serde_json::to_vec(&object).ok().map(Into::into)
}

#[cfg(test)]
mod tests;
