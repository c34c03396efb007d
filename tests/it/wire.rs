//! The golden bytes that the tests of the web client read too: what the encoder writes today is what it wrote before.

use std::time::Duration;

use bytes::Bytes;
use progressd::{
    event::{ChannelName, Event, Seq, Timestamp},
    task::{Entry, Intent, Payload, Policy, Report, Row, Task, decide},
    testing::SseParser,
    wire::{self, COMMENT, Dialect, Frame},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::golden;

const ID: Uuid = Uuid::from_u128(0x0199_c0de_0000_7000_8000_0000_0000_0001);
const POLICY: Policy = Policy { stalled_after: Duration::from_secs(30), ..Policy::WIDE };

/// A task's life, decided by the product at fixed times.
struct Life {
    entry: Option<Entry>,
    seq: u64,
}

impl Life {
    /// Does something to the task so many milliseconds after its beginning; gives the frame that a watcher gets.
    fn then(&mut self, after_ms: i64, intent: &Intent) -> Frame {
        let now = Timestamp::from_millis(1_769_847_300_000 + after_ms);
        let decision = decide(ID, self.entry.as_ref(), intent, now, &POLICY).expect("allowed");
        let draft = decision.into_iter().next().expect("one event").draft;
        self.seq += 1;
        let event = Event { seq: Seq(self.seq), at: now, group: Uuid::nil(), draft };
        let before = self.entry.take().map(|entry| Row::Task(entry.into()));
        let Some(Row::Task(after)) = Row::after(before.as_ref(), &event).expect("a state") else { panic!("a task") };
        self.entry = Some(Entry::clone(&after));
        Frame::new("k3f90000".parse().expect("an epoch"), event, None)
    }

    fn report(&mut self, after_ms: i64, report: Value) -> Frame {
        let report: Report = serde_json::from_value(report).expect("a report");
        self.then(after_ms, &Intent::Report { report, token: None })
    }
}

fn begin() -> (Life, Frame) {
    let mut life = Life { entry: None, seq: 1836 };
    let new = json!({
        "kind": "upload", "title": "holiday.mp4", "userId": "alice", "total": 1_051_721_728_u64, "unit": "bytes",
        "steps": [{ "name": "receive", "weight": 3 }, { "name": "digest" }],
        "input": { "folder": "films" }, "metadata": { "camera": "x100" },
    });
    let new = serde_json::from_value(new).expect("a task");
    let first = life.then(0, &Intent::Create { new, key: None, lease: None });
    (life, first)
}

#[test]
fn a_task_is_written_as_ever() {
    let (mut life, _) = begin();
    life.report(0, json!({ "step": 0 }));
    life.report(5_000, json!({ "stepProgress": 10, "current": 105_172_172 }));
    life.report(20_000, json!({ "step": 0, "stepProgress": 50, "current": 525_860_864 }));
    life.report(30_000, json!({ "step": 1, "stepProgress": 12, "current": 1_051_721_728, "message": "hashing" }));
    let entry = life.entry.expect("a task");
    let origin = |text: &Option<Payload>| text.clone().expect("given");
    let (input, metadata) = (origin(&entry.origin.input), origin(&entry.origin.metadata));
    let (input, metadata) = (input.as_str(), metadata.as_str());
    let members = [("input", input.as_bytes()), ("metadata", metadata.as_bytes()), ("cursor", b"\"k3f90000-1841\"")];
    let written = wire::with_members(&entry.data, members);
    let golden = golden("tests/fixtures/wire/task.json", &[&written[..], b"\n"].concat());
    // What was written before can be read, and says the same.
    let read: Task = serde_json::from_str(&golden).expect("a task");
    assert_eq!(read, entry.task);
}

#[test]
fn a_stream_is_written_as_ever() {
    let (mut life, first) = begin();
    let channel = ChannelName::task(ID);
    let bytes = |frame: &Frame| frame.bytes(Dialect::Progress);
    let parts: Vec<Bytes> = vec![
        wire::retry(Duration::from_secs(2)),
        bytes(&first),
        bytes(&life.report(500, json!({ "step": 0 }))),
        bytes(&life.report(1_000, json!({ "stepProgress": 10, "current": 105_172_172 }))),
        COMMENT,
        wire::reset(&channel),
        bytes(&life.report(20_000, json!({ "step": 1, "current": 1_051_721_728, "message": "hashing\nblake3" }))),
        wire::refused("too_many_streams", "There are too many streams on this server.", Duration::from_millis(1234)),
        bytes(&life.report(30_000, json!({ "status": "completed", "result": { "size": 1_051_721_728 } }))),
    ];
    let written = parts.concat();
    let golden = golden("tests/fixtures/wire/stream.txt", &written);

    let mut parser = SseParser::default();
    let events = parser.feed(golden.as_bytes());
    let names: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["progress", "progress", "progress", "reset", "progress", "refused", "progress"]);
    assert_eq!((parser.retry_ms, parser.comments), (Some(1234), 1));
    let statuses = events.iter().filter(|event| event.event == "progress").map(|event| {
        let state: Task = serde_json::from_str(&event.data).expect("a task");
        state.status.as_str()
    });
    assert_eq!(statuses.collect::<Vec<_>>(), ["pending", "processing", "processing", "processing", "completed"]);
}
