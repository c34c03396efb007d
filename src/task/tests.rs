//! The laws of the task table, for any intents in any order.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::event::{ChannelName, Class, Event, Seq, Timestamp};

const POLICY: Policy = Policy { stalled_after: Duration::from_secs(30), ..Policy::WIDE };
const LEASE: Duration = Duration::from_secs(30);

/// A table with the journal that made it.
struct World {
    table: Table,
    journal: Vec<Event>,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self { table: Table::new(POLICY), journal: Vec::new(), now: Timestamp::from_millis(1_000_000) }
    }

    fn entry(&self, id: Uuid) -> Option<&Entry> {
        self.table.get(id).map(AsRef::as_ref)
    }

    fn decide(&mut self, id: Uuid, intent: &Intent) -> Result<usize, Refusal> {
        let decision = decide(id, self.entry(id), intent, self.now, &POLICY)?;
        let count = decision.len();
        for Decided { draft, row } in decision {
            let seq = Seq(self.journal.len() as u64 + 1);
            let mut row = row.expect("the table holds all that is decided here");
            row.placed(seq, draft.class);
            self.table.put(draft.channel.clone(), row, seq);
            self.journal.push(Event { seq, at: self.now, group: Uuid::nil(), draft });
        }
        Ok(count)
    }

    /// Ticks are left unread where they may.
    fn replayed(&self) -> Table {
        let mut table = Table::new(POLICY);
        for event in &self.journal {
            if table.apply_tick(event).is_none() {
                table.apply(event).expect("replays");
            }
        }
        table
    }
}

fn token(nth: u8) -> Uuid {
    Uuid::from_u128(u128::from(nth))
}

fn any_report() -> impl Strategy<Value = Report> {
    let status = prop_oneof![
        6 => Just(None),
        1 => Just(Some(ReportedStatus::Processing)),
        1 => Just(Some(ReportedStatus::Completed)),
        1 => Just(Some(ReportedStatus::Error)),
        1 => Just(Some(ReportedStatus::Cancelled)),
    ];
    let numbers = (prop::option::of(0.0..=100.0), prop::option::of(0u64..2000), prop::option::of(0u64..1500));
    let steps = (prop::option::of(0usize..4), prop::option::of(0.0..=100.0));
    (status, numbers, steps).prop_map(|(status, (progress, current, total), (step, step_progress))| Report {
        status,
        progress,
        current,
        total,
        step,
        step_progress,
        ..Report::default()
    })
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let lease = (0u8..3).prop_map(|nth| Lease {
        holder: format!("holder-{nth}"),
        token: token(nth),
        expires_at: Timestamp::from_millis(1_000_000) + LEASE * u32::from(nth + 1),
    });
    let create = (0usize..4, any::<bool>(), 1u32..4).prop_map(|(steps, start, max_attempts)| Intent::Create {
        new: NewTask {
            steps: (0..steps).map(|nth| StepSpec { name: format!("s{nth}"), weight: nth as f64 + 1.0 }).collect(),
            start: Some(start),
            max_attempts: Some(max_attempts),
            ..NewTask::default()
        },
        key: None,
        lease: None,
    });
    prop_oneof![
        2 => create,
        2 => lease.prop_map(Intent::Claim),
        1 => (0u8..3).prop_map(|nth| Intent::Renew { token: token(nth), lease: LEASE }),
        12 => (any_report(), prop::option::of((0u8..3).prop_map(token)))
            .prop_map(|(report, token)| Intent::Report { report, token }),
        1 => (0u8..3).prop_map(|nth| Intent::Release { token: token(nth) }),
        1 => (0u8..3, 0u8..3).prop_map(|(old, new)| {
            let lease = Lease { holder: "heir".into(), token: token(new), expires_at: Timestamp::from_millis(9_000_000) };
            Intent::TakeOver { token: token(old), lease }
        }),
        1 => (any_report(), 0u8..3).prop_map(|(report, nth)| Intent::Checkpoint {
            report,
            token: token(nth),
            checkpoint: Payload::of(&nth.into()).expect("a number"),
        }),
        1 => Just(Intent::Cancel),
        2 => (0u8..3).prop_map(|nth| Intent::Abandon { holder: format!("holder-{nth}"), token: None }),
        3 => Just(Intent::Due),
        1 => Just(Intent::Delete),
    ]
}

proptest! {
    #[test]
    fn laws_hold(steps in prop::collection::vec((0u64..40_000, any_intent()), 1..60)) {
        let id = Uuid::from_u128(7);
        let mut world = World::new();
        for (pass_ms, intent) in steps {
            world.now = world.now + Duration::from_millis(pass_ms);
            let before = world.entry(id).cloned();
            let outcome = world.decide(id, &intent);
            let after = world.entry(id).cloned();
            let (Some(before), Some(after)) = (before, after) else { continue };

            if outcome.is_err() || outcome == Ok(0) {
                prop_assert_eq!(&before, &after, "a refusal changes nothing");
            }
            if before.task.status.is_final() {
                prop_assert_eq!(&before.task, &after.task, "a final status is final");
            }
            if before.task.attempt == after.task.attempt {
                prop_assert!(before.task.progress.unwrap_or(0.0) <= after.task.progress.unwrap_or(0.0), "progress fell");
            } else {
                prop_assert!(after.task.attempt == before.task.attempt + 1 && after.task.attempt <= after.task.max_attempts);
            }
            let complete = after.task.progress == Some(100.0);
            prop_assert_eq!(complete, after.task.status == Status::Completed, "100 means completed");
            prop_assert_eq!(after.task.finished_at.is_some(), after.task.status.is_final());
            prop_assert!(!(after.task.stalled && after.task.status != Status::Processing));
            prop_assert!(after.task.updated_at >= before.task.updated_at);
            prop_assert_eq!(after.memo.lease.is_some() && after.task.status.is_final(), false, "the end frees the lease");
        }
    }

    #[test]
    fn what_was_decided_is_what_a_replay_reads(steps in prop::collection::vec((0u64..40_000, 0u128..3, any_intent()), 1..60)) {
        let mut world = World::new();
        for (pass_ms, id, intent) in steps {
            world.now = world.now + Duration::from_millis(pass_ms);
            let _refused = world.decide(Uuid::from_u128(id + 1), &intent);
        }
        let replayed = world.replayed();
        prop_assert_eq!(format!("{:?}", sorted(&replayed)), format!("{:?}", sorted(&world.table)));
        prop_assert_eq!(replayed.counts(), world.table.counts());
        prop_assert_eq!(replayed.next_due(), world.table.next_due());
    }

    #[test]
    fn the_visible_state_is_the_last_visible_event(steps in prop::collection::vec((0u64..40_000, any_intent()), 1..60)) {
        let id = Uuid::from_u128(7);
        let mut world = World::new();
        for (pass_ms, intent) in steps {
            world.now = world.now + Duration::from_millis(pass_ms);
            let _refused = world.decide(id, &intent);
            let Some(entry) = world.entry(id) else { continue };
            let last = world.journal.iter().rev().find(|event| event.class().is_visible()).expect("it was created");
            prop_assert_eq!(entry.visible, last.seq);
            prop_assert_eq!(&serde_json::from_slice::<Task>(&last.draft.data).expect("a task"), &entry.task);
        }
    }

    #[test]
    fn a_tick_changes_nothing_by_which_a_task_is_found_or_held(steps in prop::collection::vec(any_intent(), 1..40)) {
        let id = Uuid::from_u128(7);
        let mut world = World::new();
        let found_by = |Entry { task, memo, origin, .. }: &Entry| {
            let Task { status, step, kind, queue, user_id, .. } = task.clone();
            (status, step, kind, queue, user_id, memo.lease.clone(), Arc::clone(origin))
        };
        for intent in steps {
            let before = world.entry(id).map(found_by);
            let drafted = world.decide(id, &intent).unwrap_or(0);
            let Some(last) = world.journal.last().filter(|_| drafted > 0) else { continue };
            let Some(entry) = world.entry(id) else { continue };
            if last.class() == Class::Tick {
                prop_assert_eq!(before, Some(found_by(entry)));
            }
            prop_assert_eq!(last.class() == Class::Final, entry.task.status.is_final() && last.class().is_visible());
        }
    }
}

/// What each task looks like, in the order of creation.
fn sorted(table: &Table) -> Vec<Entry> {
    let channels = (1..=3).map(|id| ChannelName::task(Uuid::from_u128(id)));
    let mut tasks: Vec<_> =
        channels.filter_map(|channel| table.row(&channel)?.task().map(|entry| Entry::clone(entry))).collect();
    tasks.sort_by_key(|entry| entry.created);
    tasks
}

fn report(json: &str) -> Intent {
    Intent::Report { report: serde_json::from_str(json).expect("a report"), token: None }
}

fn started(new: &str) -> (World, Uuid) {
    let (mut world, id) = (World::new(), Uuid::now_v7());
    let new = serde_json::from_str(new).expect("a new task");
    world.decide(id, &Intent::Create { new, key: None, lease: None }).expect("created");
    (world, id)
}

/// What a task made from `new` looks like after these reports, as (progress, step).
#[track_caller]
fn check(new: &str, reports: &[&str], expected: (Option<f64>, Option<usize>)) {
    let (mut world, id) = started(new);
    for json in reports {
        world.decide(id, &report(json)).expect("accepted");
    }
    let task = &world.entry(id).expect("it is there").task;
    assert_eq!((task.progress, task.step), expected, "{reports:?}");
}

#[test]
fn progress_comes_from_what_is_told() {
    check("{}", &["{}"], (None, None));
    check("{}", &[r#"{"progress":40}"#, r#"{"progress":30}"#], (Some(40.0), None));
    check("{}", &[r#"{"progress":100}"#], (Some(99.9), None));
    check("{}", &[r#"{"current":1,"total":3}"#], (Some(33.33), None));
    check("{}", &[r#"{"current":2,"total":3}"#], (Some(66.66), None));
    check("{}", &[r#"{"current":5,"total":3}"#], (Some(99.9), None));
    check(r#"{"total":0}"#, &[r#"{"current":5}"#], (Some(0.0), None));
    let steps = r#"{"steps":[{"name":"a","weight":3},{"name":"b"}]}"#;
    check(steps, &[r#"{"stepProgress":50}"#], (Some(37.5), Some(0)));
    check(steps, &[r#"{"step":1}"#], (Some(75.0), Some(1)));
    check(steps, &[r#"{"step":1,"stepProgress":40}"#, r#"{"step":0,"stepProgress":90}"#], (Some(85.0), Some(1)));
    check(steps, &[r#"{"status":"completed"}"#], (Some(100.0), Some(0)));
}

#[test]
fn progress_keeps_what_was_told() {
    for hundredths in 0..=9990 {
        let told = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let expected = told.parse().expect("a number");
        check("{}", &[&format!(r#"{{"progress":{told}}}"#)], (Some(expected), None));
    }
    for percent in 0..100 {
        check("{}", &[&format!(r#"{{"current":{percent},"total":100}}"#)], (Some(f64::from(percent)), None));
        let current = percent * 1000;
        check("{}", &[&format!(r#"{{"current":{current},"total":100000}}"#)], (Some(f64::from(percent)), None));
    }
}

#[test]
fn what_does_not_fit_the_task_is_refused_by_name() {
    let (mut world, id) = started("{}");
    for (json, member) in [
        (r#"{"step":0}"#, "step"),
        (r#"{"stepProgress":1}"#, "stepProgress"),
        (r#"{"result":1}"#, "result"),
        (r#"{"error":"x"}"#, "error"),
    ] {
        let refusal = world.decide(id, &report(json)).expect_err("refused");
        assert!(matches!(refusal, Refusal::Invalid { member: named, .. } if named == member), "{refusal:?}");
    }
    assert_eq!(world.journal.len(), 1, "nothing was written");
}

#[test]
fn a_clock_that_is_set_back_takes_no_time_back() {
    let (mut world, id) = started("{}");
    let mut updated_at = world.now;
    for json in ["{}", r#"{"progress":10}"#, r#"{"progress":20}"#, r#"{"status":"completed"}"#] {
        world.now = world.now.before(Duration::from_secs(60));
        world.decide(id, &report(json)).expect("accepted");
        let task = &world.entry(id).expect("it is there").task;
        assert!(task.updated_at >= updated_at, "{json}: {} after {updated_at}", task.updated_at);
        updated_at = task.updated_at;
    }
    let Task { created_at, started_at, finished_at, .. } = &world.entry(id).expect("it is there").task;
    assert!(started_at.is_some_and(|at| at >= *created_at) && *finished_at >= *started_at);
}

#[test]
fn silence_stalls_and_a_word_ends_it() {
    let (mut world, id) = started(r#"{"start":true}"#);
    assert_eq!(world.table.next_due(), Some(world.now + POLICY.stalled_after));
    world.now = world.now + POLICY.stalled_after;
    assert_eq!(world.decide(id, &Intent::Due), Ok(1));
    assert!(world.entry(id).is_some_and(|entry| entry.task.stalled));
    assert_eq!(world.table.next_due(), None, "it stalls once");
    world.decide(id, &report("{}")).expect("accepted");
    assert!(world.entry(id).is_some_and(|entry| !entry.task.stalled));
}

#[test]
fn a_lost_worker_leads_to_another_attempt_then_to_an_error() {
    let (mut world, id) = started(r#"{"maxAttempts":2}"#);
    for (attempt, status) in [(1, Status::Pending), (2, Status::Error)] {
        let lease = Lease { holder: "n".into(), token: token(attempt), expires_at: world.now + LEASE };
        world.decide(id, &Intent::Claim(lease)).expect("claimed");
        let told = Intent::Report {
            report: serde_json::from_str(r#"{"progress":50}"#).expect("a report"),
            token: Some(token(attempt)),
        };
        world.decide(id, &told).expect("accepted");
        assert_eq!(world.decide(id, &report("{}")), Err(Refusal::Leased));
        world.now = world.now + LEASE;
        world.decide(id, &Intent::Due).expect("due");
        assert_eq!(world.entry(id).map(|entry| entry.task.status), Some(status));
        assert!(world.decide(id, &told).is_err(), "the token of an ended lease is worth nothing");
    }
    let error = world.entry(id).and_then(|entry| entry.task.error.clone()).expect("an error");
    assert_eq!(error.code, "worker_lost");
}

#[test]
fn a_claim_can_be_undone_and_a_begun_attempt_be_taken_over() {
    let (mut world, id) = started("{}");
    let lease =
        |nth: u8| Lease { holder: "n".into(), token: token(nth), expires_at: Timestamp::from_millis(2_000_000) };
    world.decide(id, &Intent::Claim(lease(1))).expect("claimed");
    assert_eq!(world.decide(id, &Intent::Release { token: token(9) }), Err(Refusal::LeaseLost));
    world.decide(id, &Intent::Release { token: token(1) }).expect("released");
    let task = world.entry(id).expect("it is there").task.clone();
    assert_eq!((task.status, task.attempt), (Status::Pending, 1), "the attempt does not count");

    world.decide(id, &Intent::Claim(lease(2))).expect("claimed");
    let checkpoint = Payload::of(&"received".into()).expect("a text");
    let told = Intent::Checkpoint { report: Report::default(), token: token(2), checkpoint: checkpoint.clone() };
    world.decide(id, &told).expect("accepted");
    let seen = world.entry(id).map(|entry| entry.visible);
    world.decide(id, &Intent::TakeOver { token: token(2), lease: lease(3) }).expect("taken over");
    let entry = world.entry(id).expect("it is there").clone();
    assert_eq!((Some(entry.visible), entry.task.attempt), (seen, 1), "nobody is shown a thing");
    assert_eq!((entry.memo.lease, entry.memo.checkpoint), (Some(lease(3)), Some(checkpoint)));
    assert_eq!(world.decide(id, &told), Err(Refusal::Leased), "the earlier run has no say any more");
}

/// A task that somebody works on, with a lease of this length.
fn claimed(new: &str, length: Duration) -> (World, Uuid) {
    let (mut world, id) = started(new);
    let lease = Lease { holder: "n".into(), token: token(1), expires_at: world.now + length };
    world.decide(id, &Intent::Claim(lease)).expect("claimed");
    (world, id)
}

#[test]
fn another_attempt_begins_as_though_nothing_had_been_done() {
    let total = r#"{"maxAttempts":2,"total":100}"#;
    let steps = r#"{"maxAttempts":2,"steps":[{"name":"a"},{"name":"b"}]}"#;
    let none = r#"{"maxAttempts":2}"#;
    for (new, report, known) in [
        (total, r#"{"current":50,"message":"m"}"#, Some(0.0)),
        (steps, r#"{"step":1,"stepProgress":50}"#, Some(0.0)),
        (none, r#"{"progress":50}"#, None),
    ] {
        let (mut world, id) = claimed(new, LEASE);
        let before = world.entry(id).expect("it is there").task.steps.clone();
        let report = serde_json::from_str(report).expect("a report");
        world.now = world.now + Duration::from_secs(2);
        world.decide(id, &Intent::Report { report, token: Some(token(1)) }).expect("accepted");
        assert!(new != total || world.entry(id).expect("it is there").task.rate.is_some());
        world.now = world.now + LEASE;
        world.decide(id, &Intent::Due).expect("due");
        let task = &world.entry(id).expect("it is there").task;
        assert_eq!((task.status, task.attempt, task.progress), (Status::Pending, 2, known), "{new}");
        assert_eq!((task.current, task.step, task.rate, &task.message), (None, None, None, &None), "{new}");
        assert_eq!(task.steps, before);
    }
}

#[test]
fn a_claim_of_which_nothing_has_come_can_be_undone_also_where_progress_is_known() {
    let (mut world, id) = claimed(r#"{"total":100}"#, LEASE);
    assert_eq!(world.entry(id).and_then(|entry| entry.task.progress), Some(0.0));
    world.decide(id, &Intent::Release { token: token(1) }).expect("released");
    let task = &world.entry(id).expect("it is there").task;
    assert_eq!((task.status, task.attempt), (Status::Pending, 1));
}

#[test]
fn only_its_holder_abandons_a_lease() {
    let (mut world, id) = claimed("{}", LEASE);
    let abandon = |holder: &str, token| Intent::Abandon { holder: holder.into(), token };
    for theirs in [abandon("other", None), abandon("other", Some(token(1))), abandon("n", Some(token(2)))] {
        assert_eq!(world.decide(id, &theirs), Ok(0), "{theirs:?}");
    }
    assert_eq!(world.decide(id, &abandon("n", Some(token(1)))), Ok(1));
}

#[test]
fn a_holder_that_is_to_cancel_has_the_time_of_its_lease() {
    let (mut world, id) = claimed("{}", POLICY.stalled_after * 3);
    world.decide(id, &Intent::Cancel).expect("cancelling");
    world.now = world.now + POLICY.stalled_after * 2;
    assert_eq!(world.decide(id, &Intent::Due), Ok(0));
    world.now = world.now + POLICY.stalled_after;
    assert_eq!(world.decide(id, &Intent::Due), Ok(1));
    assert_eq!(world.entry(id).map(|entry| entry.task.status), Some(Status::Cancelled));
}

#[test]
fn payloads_are_equal_where_their_texts_are() {
    let of = |text: &str| Payload::of(&text.into()).expect("a text");
    assert!(of("a") == of("a") && of("a") != of("b"));
}

#[test]
fn a_renewal_is_hidden_and_rare() {
    let (mut world, id) = started("{}");
    let lease = Lease { holder: "n".into(), token: token(1), expires_at: world.now + LEASE };
    world.decide(id, &Intent::Claim(lease)).expect("claimed");
    let renew = Intent::Renew { token: token(1), lease: LEASE };
    assert_eq!(world.decide(id, &renew), Ok(0));
    let seen = world.entry(id).map(|entry| entry.visible);
    world.now = world.now + LEASE / 2;
    assert_eq!(world.decide(id, &renew), Ok(1));
    assert_eq!(world.entry(id).map(|entry| entry.visible), seen);
    let expires_at = world.entry(id).and_then(|entry| entry.memo.lease.as_ref().map(|lease| lease.expires_at));
    assert_eq!(expires_at, Some(world.now + LEASE), "the renewal counts");
}

#[test]
fn cancelling_asks_the_worker_and_does_not_wait_for_ever() {
    let (mut world, id) = started(r#"{"start":true}"#);
    assert_eq!(world.decide(id, &Intent::Cancel), Ok(1));
    assert_eq!(world.decide(id, &Intent::Cancel), Ok(0), "idempotent");
    world.now = world.now + POLICY.stalled_after;
    world.decide(id, &Intent::Due).expect("due");
    assert_eq!(world.entry(id).map(|entry| entry.task.status), Some(Status::Cancelled));
    assert_eq!(world.decide(id, &Intent::Cancel), Ok(0), "idempotent at the end too");
}

#[test]
fn a_repeated_request_is_the_same_task_and_another_is_refused() {
    let (mut world, id) = started(r#"{"kind":"a"}"#);
    let create = |kind: &str| Intent::Create {
        new: NewTask { kind: Some(kind.into()), ..NewTask::default() },
        key: None,
        lease: None,
    };
    assert_eq!(world.decide(id, &create("a")), Ok(0));
    assert_eq!(world.decide(id, &create("b")), Err(Refusal::Mismatch));
}

#[test]
fn the_pace_of_an_attempt_begins_with_it() {
    let (mut world, id) = started(r#"{"start":true,"total":100}"#);
    world.now = world.now + Duration::from_secs(10);
    world.decide(id, &report(r#"{"current":50}"#)).expect("accepted");
    assert_eq!(world.entry(id).and_then(|entry| entry.task.rate), Some(5.0));
}

#[test]
fn a_row_that_was_loaded_replaces_only_an_older_one() {
    let (mut world, id) = started("{}");
    let channel = ChannelName::task(id);
    let first = world.table.row(&channel).expect("it is there").clone();
    world.decide(id, &report(r#"{"progress":40}"#)).expect("accepted");
    let second = world.table.row(&channel).expect("it is there").clone();
    let mut table = Table::new(POLICY);
    for (row, last, found) in [(&first, 1, &first), (&second, 2, &second), (&first, 1, &second), (&first, 2, &second)] {
        table.restore(channel.clone(), row.clone(), Seq(last));
        assert_eq!(table.row(&channel), Some(found), "{last}");
    }
}

/// A table of another node, on which this task has been started, and the event of a tick on it.
fn followed(data: &str) -> (Table, Uuid, Event) {
    let (mut world, id) = started(r#"{"start":true}"#);
    world.now = world.now + Duration::from_secs(1);
    world.decide(id, &report(r#"{"progress":40}"#)).expect("accepted");
    let mut tick = world.journal.pop().expect("a tick");
    tick.draft.data = data.to_owned().into();
    (world.replayed(), id, tick)
}

#[test]
fn a_tick_of_another_node_is_not_read_until_somebody_asks() {
    let (mut table, id, tick) = followed("no state");
    let due = table.next_due().expect("silence is noticed");
    let before = table.apply_tick(&tick).expect("the task as it was");
    assert_eq!((before.task.task_id, before.visible), (id, Seq(1)));
    assert_eq!((table.last(tick.channel()), table.counts()[Status::Processing as usize]), (Some(Seq(2)), 1));
    assert_eq!((table.row(tick.channel()), table.unreadable()), (Some(&Row::Unreadable), 0));
    assert!(table.due(due, 9, |_, at| at).is_empty());
    assert_eq!((table.unreadable(), table.next_due()), (1, None), "counted, and nothing becomes of it");
}

#[test]
fn a_task_that_had_stalled_is_looked_at_again_after_a_tick_that_is_not_read() {
    let (mut world, id) = started(r#"{"start":true}"#);
    world.now = world.now + POLICY.stalled_after;
    world.decide(id, &Intent::Due).expect("stalled");
    world.decide(id, &report(r#"{"progress":40}"#)).expect("accepted");
    let due = world.now + POLICY.stalled_after;
    assert_eq!((world.table.next_due(), world.replayed().next_due()), (Some(due), Some(due)));
}

#[test]
fn what_cannot_be_read_is_counted_as_long_as_it_is_there() {
    let mut table = Table::new(POLICY);
    let channels = [1, 2].map(|nth| ChannelName::task(Uuid::from_u128(nth)));
    for (seq, row, count) in
        [(1, Row::Unreadable, 1), (2, Row::Unreadable, 1), (3, Row::Gone, 0), (4, Row::Unreadable, 1)]
    {
        table.put(channels[0].clone(), row, Seq(seq));
        assert_eq!(table.unreadable(), count, "{seq}");
    }
    table.put(channels[1].clone(), Row::Unreadable, Seq(5));
    assert_eq!(table.unreadable(), 2);
}

#[test]
fn what_has_ended_leaves_memory_once_it_is_folded() {
    let (mut world, id) = started("{}");
    world.decide(id, &report(r#"{"status":"completed"}"#)).expect("accepted");
    world.table.forget_folded(Seq(1));
    assert!(world.table.get(id).is_some(), "its end is not folded");
    world.table.forget_folded(Seq(2));
    assert!(world.table.get(id).is_none());
    assert_eq!(world.table.counts(), [0; 6]);
}
