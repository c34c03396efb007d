//! The encoder, read back by the WHATWG rules.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    event::{ChannelName, Draft, Timestamp},
    testing::{SseEvent, SseParser},
};

fn frame(name: Option<&'static str>, data: &[u8]) -> Frame {
    let draft = Draft {
        channel: ChannelName::task(Uuid::nil()),
        name: name.map(Into::into),
        class: Class::Change,
        data: Bytes::copy_from_slice(data),
        memo: None,
        origin: None,
    };
    let event = Event { seq: Seq(7), at: Timestamp::from_millis(0), group: Uuid::nil(), draft };
    Frame::new("k3f90000".parse().expect("an epoch"), event, None)
}

#[test]
fn a_progress_frame_is_as_the_contract_shows_it() {
    let bytes = frame(Some("progress"), br#"{"progress":42.5}"#).bytes(Dialect::Progress);
    assert_eq!(bytes, "event: progress\ndata: {\"progress\":42.5,\"cursor\":\"k3f90000-7\"}\nid: k3f90000-7\n\n");
}

#[test]
fn bytes_are_encoded_once_and_shared() {
    let frame = frame(Some("progress"), b"{}");
    for dialect in Dialect::ALL {
        assert_eq!(frame.bytes(dialect).as_ptr(), frame.bytes(dialect).as_ptr(), "{dialect:?}");
    }
}

#[test]
fn plain_text_is_a_bare_data_line() {
    assert_eq!(text(b"<3: Keep alive"), "data: <3: Keep alive\n\n");
    assert_eq!(text(b""), "data: \n\n");
    assert_eq!(text(b"a\r\nb\rc\nd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
}

#[test]
fn control_frames_read_back() {
    let mut parser = SseParser::default();
    let mut events = parser.feed(&retry(Duration::from_secs(2)));
    events.extend(parser.feed(&COMMENT));
    events.extend(parser.feed(&reset(&ChannelName::task(Uuid::nil()))));
    events.extend(parser.feed(&refused("too_many_streams", "Come \"again\".\n", Duration::from_millis(1234))));
    assert_eq!(events.iter().map(|event| event.event.as_str()).collect::<Vec<_>>(), ["reset", "refused"]);
    assert_eq!(events[0].data, format!("{{\"channel\":\"task:{}\"}}", Uuid::nil()));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&events[1].data).expect("JSON")["retryAfterMs"], 1234);
    assert_eq!((parser.retry_ms, parser.comments), (Some(1234), 1));
}

/// The parser itself, on the cases that the standard names.
#[test]
fn the_parser_follows_the_standard() {
    let read = |stream: &str| SseParser::default().feed(stream.as_bytes());
    let event = |id: &str, event: &str, data: &str| SseEvent { id: id.into(), event: event.into(), data: data.into() };
    assert_eq!(read("\u{FEFF}data: a\n\n"), [event("", "message", "a")]);
    assert_eq!(read("data\n\ndata\ndata\n\ndata:"), [event("", "message", ""), event("", "message", "\n")]);
    assert_eq!(read("data:test\r\rdata: test\r\n\r\n"), [event("", "message", "test"), event("", "message", "test")]);
    assert_eq!(
        read(": c\n\nid: 1\ndata: x\n\nid\ndata:  y\n\n"),
        [event("1", "message", "x"), event("", "message", " y")]
    );
    assert_eq!(
        read("id: a\0b\nevent: e\ndata: x\n\nevent: f\n\ndata: y\n\n"),
        [event("", "e", "x"), event("", "message", "y")]
    );
}

proptest! {
    #[test]
    fn any_text_survives_and_makes_exactly_one_event(text in any::<String>(), portion in 1usize..9) {
        let mut parser = SseParser::default();
        let bytes = super::text(text.as_bytes());
        let events: Vec<_> = bytes.chunks(portion).flat_map(|part| parser.feed(part)).collect();
        let expected = text.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(events, vec![SseEvent { id: String::new(), event: "message".into(), data: expected }]);
        prop_assert!(!bytes.contains(&b'\r'));
    }

    #[test]
    fn any_state_survives(message in any::<String>()) {
        let json = serde_json::to_vec(&serde_json::json!({ "message": message })).expect("JSON");
        let events = SseParser::default().feed(&frame(Some("progress"), &json).bytes(Dialect::Progress));
        prop_assert_eq!(events.len(), 1);
        let state: serde_json::Value = serde_json::from_str(&events[0].data).expect("JSON");
        prop_assert_eq!(state["message"].as_str(), Some(message.as_str()));
        prop_assert_eq!(state["cursor"].as_str(), Some(events[0].id.as_str()));
    }
}

#[test]
fn adds_members_at_the_end() {
    assert_eq!(with_members(br#"{"a":1}"#, [("b", &b"2"[..]), ("c", br#""x""#)]), r#"{"a":1,"b":2,"c":"x"}"#);
    assert_eq!(with_members(b"{}", [("b", &b"2"[..])]), r#"{"b":2}"#);
    assert_eq!(with_members(br#"{"a":1}"#, []), r#"{"a":1}"#);
}

#[test]
fn cuts_down_to_what_older_clients_read() {
    let json = br#"{"id":"1","type":"x","title":"t\"","message":"m","data":{"title":1},"occurredAt":"z"}"#;
    assert_eq!(titled(json).as_deref(), Some(&br#"{"Title":"t\"","Message":"m","OccurredAt":"z"}"#[..]));
    assert_eq!(titled(b"hello"), None);
}
