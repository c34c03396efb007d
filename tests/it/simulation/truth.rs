//! What the journal holds in the end, to which everything that was told is compared.

use std::collections::BTreeMap;

use progressd::{
    event::{Class, Seq},
    journal::{Journal, Tail},
    testing::{MemoryJournal, SseEvent},
};
use serde_json::Value;

/// What is compared; the rest tells the time of day.
const TOLD: [&str; 4] = ["message", "title", "status", "step"];

/// All visible events, by channel and seq.
pub(super) type Truth = BTreeMap<String, BTreeMap<u64, (Class, Value)>>;

pub(super) async fn events(journal: &MemoryJournal) -> Truth {
    let Ok(Tail::Events(events)) = journal.reopened().tail(Seq::ZERO, usize::MAX).await else {
        panic!("the log holds all");
    };
    let mut truth = Truth::new();
    for event in events.into_iter().filter(|event| event.class().is_visible()) {
        let state: Value = serde_json::from_slice(&event.draft.data).unwrap_or_default();
        let state = TOLD.iter().filter_map(|member| Some(((*member).to_owned(), state.get(member)?.clone()))).collect();
        truth.entry(event.channel().to_string()).or_default().insert(event.seq.0, (event.class(), state));
    }
    truth
}

/// It was told that a user came or went only if they had gone or come before.
pub(super) async fn comes_and_goes_in_turns(journal: &MemoryJournal) {
    let Ok(Tail::Events(events)) = journal.reopened().tail(Seq::ZERO, usize::MAX).await else {
        panic!("the log holds all");
    };
    let mut known = BTreeMap::<String, String>::new();
    for event in events.iter().filter(|event| event.channel().to_string() == "topic:presence") {
        let told: Value = serde_json::from_slice(&event.draft.data).expect("JSON");
        let [user, status] = ["userId", "status"].map(|member| told[member].as_str().expect("text").to_owned());
        let before = known.insert(user, status.clone()).unwrap_or_else(|| "disconnected".into());
        assert_ne!(before, status, "{told}");
    }
}

/// What was acknowledged is there, and once.
pub(super) fn has_all(truth: &Truth, acknowledged: &[(String, String)]) {
    for (channel, text) in acknowledged {
        let events = truth.get(channel).unwrap_or_else(|| panic!("nothing of {channel}"));
        let has = |(class, state): &&(Class, Value)| {
            *class != Class::Tick && (state["message"] == **text || state["title"] == **text)
        };
        let found = events.values().filter(has).count();
        // A task keeps its message when it changes otherwise.
        let is_right = if channel.starts_with("task:") { found > 0 } else { found == 1 };
        assert!(is_right, "{channel} has {text:?} {found} times: {events:#?}");
        let ends = events.values().filter(|(class, _)| *class == Class::Final).count();
        assert!(ends <= 1 && events.values().rev().skip(1).all(|(class, _)| *class != Class::Final), "{events:#?}");
    }
}

/// Each stream of one reader had all events from its first to its last, but for ticks, once and in order, and nothing else.
pub(super) fn is_what_was_seen(truth: &Truth, channel: &str, streams: &[Vec<SseEvent>], may_reset: bool) {
    let events = truth.get(channel).unwrap_or_else(|| panic!("nothing of {channel}"));
    assert!(streams.len() == 1 || may_reset, "{channel} was reset");
    let mut progress = 0.0;
    let mut last = 0;
    for stream in streams {
        let mut before: Option<u64> = None;
        for event in stream {
            let seq: u64 = event.id.split_once('-').expect("a cursor").1.parse().expect("a seq");
            let (_, state) = events.get(&seq).unwrap_or_else(|| panic!("{channel} has no {seq}: {event:?}"));
            let seen: Value = serde_json::from_str(&event.data).expect("JSON");
            for member in TOLD {
                assert_eq!(seen.get(member), state.get(member), "{channel} at {seq}");
            }
            if let Some(before) = before {
                assert!(seq > before, "{channel}: {seq} after {before}");
                let mut missed = events.range(before + 1..seq).filter(|(_, (class, _))| *class != Class::Tick);
                assert!(missed.next().is_none(), "{channel}: missed between {before} and {seq}");
            }
            before = Some(seq);
            assert!(seq >= last, "{channel}: went back to {seq} after {last}");
            last = seq;
            let now = seen["progress"].as_f64().unwrap_or(progress);
            assert!(now >= progress, "{channel}: progress fell at {seq}");
            progress = now;
        }
    }
    let end = events.last_key_value().map(|(seq, _)| *seq);
    assert!(!channel.starts_with("task:") || end == Some(last), "{channel} ended at {end:?}, seen until {last}");
}
