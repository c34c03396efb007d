//! Nobody waits for another's work: look-ups, sweeps, crowds of watchers, clocks that jump, failures of others.

use std::sync::Mutex;

use super::*;
use crate::task::Lease;

const AN_HOUR_MS: i64 = 3_600_000;
const A_MOMENT: Duration = Duration::from_millis(10);

/// A task that is claimed for 30 seconds.
async fn claimed(rig: &Rig) -> (Uuid, Lease) {
    let id = rig.made("{}").await;
    let expires_at = rig.tracker.clock().now() + STALLED_AFTER;
    let lease = Lease { holder: "n".into(), token: Uuid::now_v7(), expires_at };
    rig.tracker.submit(id, Intent::Claim(lease.clone())).await.unwrap();
    (id, lease)
}

async fn a_batch_looks_up_what_has_left_memory_at_once(store: Store) {
    let rig = Rig::haunted(store, |_, _| Ok(())).await;
    let keys: Vec<String> = (0..40).map(|nth| format!("key-{nth}")).collect();
    for key in &keys {
        let answer = rig.tracker.create(Uuid::now_v7(), new_task("{}"), Some(key)).await.unwrap();
        rig.report(answer.entry.unwrap().task.task_id, r#"{"status":"completed"}"#).await.unwrap();
    }
    let before = rig.journal.look_ups();
    let mut callers = JoinSet::new();
    for key in keys {
        let tracker = rig.tracker.clone();
        callers.spawn(async move { tracker.create(Uuid::now_v7(), new_task("{}"), Some(&key)).await.unwrap().changed });
    }
    assert_eq!(callers.join_all().await, vec![false; 40]);
    let after = rig.journal.look_ups();
    assert_eq!(after.single, before.single, "none of them by itself");
    let batches = after.many - before.many;
    assert!(batches <= 4, "the keys of a batch, then their tasks: {batches} reads");
}

async fn a_sweep_that_takes_long_holds_up_nobody(store: Store) {
    let rig = Rig::haunted(store, |_, _| Ok(())).await;
    rig.journal.hold_sweeps();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let id = rig.started().await;
    let report = tokio::time::timeout(A_MOMENT, rig.report(id, r#"{"progress":1}"#));
    assert!(report.await.expect("nobody waits for a sweep").is_ok());
}

async fn a_key_lives_as_long_as_its_task(store: Store) {
    let rig = Rig::start(store).await;
    let create = async || rig.tracker.create(Uuid::now_v7(), new_task(r#"{"start":true}"#), Some("key")).await;
    let id = create().await.unwrap().entry.unwrap().task.task_id;
    tokio::time::sleep(RETENTION * 3).await;
    let again = create().await.unwrap();
    assert_eq!(
        (again.changed, again.entry.unwrap().task.task_id),
        (false, id),
        "the task runs longer than the retention"
    );
    rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
    tokio::time::sleep(RETENTION - A_MOMENT).await;
    assert!(!create().await.unwrap().changed);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(refused(create().await), Refusal::Gone, "it goes with its task");
    tokio::time::sleep(RETENTION + Duration::from_secs(120)).await;
    assert!(create().await.unwrap().changed, "as though it had never been");
}

async fn callers_are_answered_before_watchers_are_woken(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    let watched = Arc::clone(&order);
    tasks.spawn(async move {
        watcher.next().await;
        watched.lock().unwrap().push("watcher");
    });
    let (tracker, answered) = (rig.tracker.clone(), Arc::clone(&order));
    tasks.spawn(async move {
        tracker.submit(id, reported(r#"{"progress":1}"#)).await.unwrap();
        answered.lock().unwrap().push("caller");
    });
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), ["caller", "watcher"]);
}

async fn a_lease_does_not_end_while_its_holder_lives_here(store: Store) {
    let rig = Rig::start(store).await;
    let (id, lease) = claimed(&rig).await;
    let guard = rig.tracker.hold_lease(lease.token, STALLED_AFTER);
    // The holder could not renew: the process was stopped, or the store was away.
    tokio::time::sleep(STALLED_AFTER * 3).await;
    assert_eq!(rig.status(id).await, Status::Processing);
    let renewed = rig.task(id).await.memo.lease.unwrap();
    assert!(renewed.token == lease.token && renewed.expires_at > lease.expires_at);
    rig.tracker.clock().step(AN_HOUR_MS);
    tokio::time::sleep(STALLED_AFTER * 3).await;
    assert_eq!(rig.status(id).await, Status::Processing);
    drop(guard);
    tokio::time::sleep(STALLED_AFTER * 2).await;
    assert_eq!(rig.status(id).await, Status::Error, "once it is dead, time tells");
}

async fn a_holder_is_told_when_its_lease_is_taken_and_of_no_other(store: Store) {
    let rig = Rig::start(store).await;
    let ((one, mine), (two, theirs)) = (claimed(&rig).await, claimed(&rig).await);
    let mine = rig.tracker.hold_lease(mine.token, STALLED_AFTER);
    let theirs = rig.tracker.hold_lease(theirs.token, STALLED_AFTER);
    rig.tracker.submit(two, Intent::Cancel).await.unwrap();
    theirs.taken().await;
    tokio::time::timeout(A_MOMENT, mine.taken()).await.expect_err("it concerns the other");
    rig.tracker.submit(one, Intent::Cancel).await.unwrap();
    mine.taken().await;
}

async fn after_a_jump_of_the_clock_whoever_lives_can_say_so_first(store: Store) {
    let rig = Rig::start(store).await;
    let (id, lease) = claimed(&rig).await;
    let silent = rig.started().await;
    // It wakes the writer, so that it looks at the clock.
    let look = async || rig.made("{}").await;
    rig.tracker.clock().step(AN_HOUR_MS);
    look().await;
    look().await;
    assert_eq!((rig.status(id).await, rig.task(silent).await.task.stalled), (Status::Processing, false));
    let renew = Intent::Renew { token: lease.token, lease: STALLED_AFTER * 2 };
    rig.tracker.submit(id, renew).await.unwrap();
    tokio::time::sleep(STALLED_AFTER + A_MOMENT).await;
    assert_eq!((rig.status(id).await, rig.task(silent).await.task.stalled), (Status::Processing, true));
}

async fn nothing_is_removed_by_a_clock_that_has_just_jumped(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.finished().await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    rig.tracker.clock().step(24 * AN_HOUR_MS);
    tokio::time::sleep(Duration::from_secs(3_500)).await;
    assert_eq!(rig.status(id).await, Status::Completed);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(matches!(rig.tracker.find(id).await.unwrap(), Found::Gone), "after an hour it is believed");
}

async fn a_trickle_of_failing_commits_does_not_stop_timers(store: Store) {
    let rig = Rig::haunted(store, |_, groups| {
        let is_large =
            |group: &Group| group.drafts.iter().any(|draft| draft.data.windows(5).any(|part| part == b"large"));
        if groups.iter().any(is_large) { Err(JournalError::Full) } else { Ok(()) }
    })
    .await;
    let (silent, large) = (rig.started().await, rig.started().await);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        rig.report(large, r#"{"message":"large"}"#).await.unwrap_err();
    }
    assert!(rig.task(silent).await.task.stalled);
}

on_each_store! {
    paused {
        a_batch_looks_up_what_has_left_memory_at_once,
        a_sweep_that_takes_long_holds_up_nobody,
        a_key_lives_as_long_as_its_task,
        callers_are_answered_before_watchers_are_woken,
        a_lease_does_not_end_while_its_holder_lives_here,
        a_holder_is_told_when_its_lease_is_taken_and_of_no_other,
        after_a_jump_of_the_clock_whoever_lives_can_say_so_first,
        nothing_is_removed_by_a_clock_that_has_just_jumped,
        a_trickle_of_failing_commits_does_not_stop_timers,
    }
}
