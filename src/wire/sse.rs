//! Server-Sent Events framing, WHATWG HTML section 9.2.
//!
//! Lines end in LF only. A text of several lines becomes several `data:` lines, whatever ended them.

use std::time::Duration;

use bytes::Bytes;

use crate::event::{ChannelName, Cursor};

/// A comment, which keeps a quiet stream alive and is no event.
pub const COMMENT: Bytes = Bytes::from_static(b":\n\n");

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
