//! What time alone changes: stalled tasks, lost workers, cancellations that nobody heard, retention.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::task::Lease;

const A_MOMENT: Duration = Duration::from_millis(10);

async fn claimed(rig: &Rig, new: &str) -> (Uuid, Lease) {
    let id = rig.made(new).await;
    let expires_at = rig.tracker.clock().now() + STALLED_AFTER;
    let lease = Lease { holder: "n".into(), token: Uuid::now_v7(), expires_at };
    rig.tracker.submit(id, Intent::Claim(lease.clone())).await.unwrap();
    (id, lease)
}

async fn silence_is_told_by_an_event_and_a_word_ends_it(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    tokio::time::sleep(STALLED_AFTER - A_MOMENT).await;
    assert!(!rig.task(id).await.task.stalled);
    assert_eq!(shown(&mut watcher).0.len(), 0);
    tokio::time::sleep(A_MOMENT * 2).await;
    let stalled = rig.task(id).await;
    assert!(stalled.task.stalled && stalled.visible == Seq(2), "the ETag moves with it");
    assert_eq!(shown(&mut watcher).0.len(), 1);
    tokio::time::sleep(STALLED_AFTER * 10).await;
    assert_eq!(rig.task(id).await, stalled, "it is told once");

    rig.report(id, "{}").await.unwrap();
    assert!(!rig.task(id).await.task.stalled);
    tokio::time::sleep(STALLED_AFTER + A_MOMENT).await;
    assert!(rig.task(id).await.task.stalled, "and again after the next silence");
}

async fn each_task_has_its_own_silence_also_after_a_restart(store: Store) {
    let rig = Rig::start(store).await;
    let one = rig.started().await;
    tokio::time::sleep(STALLED_AFTER / 2).await;
    let two = rig.started().await;
    tokio::time::sleep(STALLED_AFTER / 2 + A_MOMENT).await;
    assert_eq!((rig.task(one).await.task.stalled, rig.task(two).await.task.stalled), (true, false));
    let rig = rig.restarted().await;
    tokio::time::sleep(STALLED_AFTER / 2 + A_MOMENT).await;
    assert!(rig.task(two).await.task.stalled);
}

async fn a_worker_that_is_lost_loses_its_lease_in_time(store: Store) {
    let rig = Rig::start(store).await;
    let (id, lease) = claimed(&rig, r#"{"maxAttempts":2}"#).await;
    let work = rig.tracker.work();
    tokio::time::sleep(STALLED_AFTER + A_MOMENT).await;
    let entry = rig.task(id).await;
    assert_eq!((entry.task.status, entry.task.attempt), (Status::Pending, 2));
    assert!(work.has_changed().unwrap(), "it waits for work again");
    let told = Intent::Report { report: Default::default(), token: Some(lease.token) };
    assert_eq!(refused(rig.tracker.submit(id, told).await), Refusal::LeaseLost);

    let second = Lease { expires_at: rig.tracker.clock().now() + STALLED_AFTER, token: Uuid::now_v7(), ..lease };
    rig.tracker.submit(id, Intent::Claim(second)).await.unwrap();
    tokio::time::sleep(STALLED_AFTER + A_MOMENT).await;
    let entry = rig.task(id).await;
    assert_eq!((entry.task.status, entry.task.error.as_ref().unwrap().code.as_str()), (Status::Error, "worker_lost"));
}

async fn after_a_start_holders_have_time_to_say_that_they_live(store: Store) {
    let rig = Rig::start(store).await;
    let (kept, lease) = claimed(&rig, "{}").await;
    let (lost, _) = claimed(&rig, "{}").await;
    assert!(rig.stage.end(Duration::from_secs(60)).await);
    tokio::time::sleep(STALLED_AFTER * 10).await;
    let rig = rig.restarted().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _guard = rig.tracker.hold_lease(lease.token, STALLED_AFTER);
    tokio::time::sleep(STALLED_AFTER * 10).await;
    assert_eq!((rig.status(kept).await, rig.status(lost).await), (Status::Processing, Status::Error));
}

async fn a_lease_that_is_left_does_not_end_by_time_in_this_run(store: Store) {
    let rig = Rig::start(store).await;
    let (left, lease) = claimed(&rig, "{}").await;
    let guard = rig.tracker.hold_lease(lease.token, STALLED_AFTER);
    guard.leave();
    drop(guard);
    tokio::time::sleep(STALLED_AFTER * 10).await;
    assert_eq!(rig.status(left).await, Status::Processing);
}

async fn a_renewal_keeps_the_lease_and_is_seen_by_nobody(store: Store) {
    let rig = Rig::start(store).await;
    let (id, lease) = claimed(&rig, "{}").await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    let before = rig.task(id).await;
    for _ in 0..3 {
        tokio::time::sleep(STALLED_AFTER * 2 / 3).await;
        let report = Intent::Renew { token: lease.token, lease: STALLED_AFTER };
        assert!(rig.tracker.submit(id, report).await.unwrap().changed);
    }
    let after = rig.task(id).await;
    assert_eq!(after.task.status, Status::Processing);
    // Nothing was said meanwhile, so the one visible event is that it stalled.
    assert_eq!(shown(&mut watcher).0.len(), 1);
    assert!(after.visible > before.visible && after.last > after.visible);
    let etag = after.visible;
    let renewal = Intent::Renew { token: lease.token, lease: STALLED_AFTER * 9 };
    rig.tracker.submit(id, renewal).await.unwrap();
    assert_eq!(rig.task(id).await.visible, etag, "the ETag does not move with a renewal");
}

async fn a_cancellation_that_nobody_hears_ends_the_task(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    rig.tracker.submit(id, Intent::Cancel).await.unwrap();
    assert_eq!(rig.status(id).await, Status::Cancelling);
    tokio::time::sleep(STALLED_AFTER + A_MOMENT).await;
    assert_eq!(rig.status(id).await, Status::Cancelled);
}

async fn another_node_may_fire_the_timer_first(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let entry = rig.task(id).await;
    let later = rig.tracker.clock().now() + STALLED_AFTER;
    let drafts = drafts(decide(id, Some(&entry), &Intent::Due, later, &POLICY).unwrap());
    let theirs = Group { id: Uuid::now_v7(), at: later, expects: Vec::new(), drafts };
    tokio::time::sleep(STALLED_AFTER - A_MOMENT).await;
    rig.journal.foreign_before_next_append(theirs);
    tokio::time::sleep(A_MOMENT * 2).await;
    assert!(rig.task(id).await.task.stalled);
    assert_eq!(rig.events().await.len(), 2, "once");
}

async fn what_is_finished_is_forgotten_after_its_retention(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    tokio::time::sleep(RETENTION).await;
    // It counts from the finish.
    rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
    let live = rig.started().await;
    tokio::time::sleep(RETENTION - A_MOMENT).await;
    assert_eq!(rig.status(id).await, Status::Completed);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(matches!(rig.tracker.find(id).await.unwrap(), Found::Gone));
    assert_eq!(refused(rig.tracker.create(id, new_task("{}"), None).await), Refusal::Gone);
    assert!(rig.tracker.live(live).is_some());
    assert_eq!(rig.tracker.list(TaskFilter::default(), None, 10).await.unwrap().tasks.len(), 1);

    tokio::time::sleep(RETENTION - Duration::from_secs(70)).await;
    assert!(matches!(rig.tracker.find(id).await.unwrap(), Found::Gone));
    tokio::time::sleep(Duration::from_secs(140)).await;
    assert!(matches!(rig.tracker.find(id).await.unwrap(), Found::Unknown));
    assert!(rig.tracker.create(id, new_task("{}"), None).await.unwrap().changed, "as though it had never been");
    assert_eq!(rig.status(id).await, Status::Pending);
}

async fn more_than_a_batch_is_forgotten_in_one_sweep(store: Store) {
    let rig = Rig::start(store).await;
    let done = r#"{"status":"completed"}"#;
    let ids: Vec<Uuid> = (0..1_500).map(|_| Uuid::now_v7()).collect();
    let asked = ids.iter().flat_map(|id| [(*id, create("{}")), (*id, reported(done))]);
    assert!(rig.in_one_batch(asked.collect()).await.iter().all(Result::is_ok));
    tokio::time::sleep(RETENTION + Duration::from_secs(61)).await;
    assert!(rig.journal.finished_before(rig.tracker.clock().now(), 1).await.unwrap().is_empty());
}

/// So many callers that two batches always leave some behind: the queue is never empty.
async fn a_queue_that_is_never_empty_does_not_stop_the_clock(store: Store) {
    let rig = Rig::haunted(store, |_, _| Ok(())).await;
    let (busy, silent) = (rig.started().await, rig.started().await);
    let mut callers = JoinSet::new();
    for _ in 0..3_500 {
        let tracker = rig.tracker.clone();
        callers.spawn(async move {
            loop {
                tracker.ask(Ask::Task(busy, reported("{}"))).await.unwrap();
            }
        });
    }
    let appends = rig.journal.appends();
    while rig.journal.appends() < appends + 2 {
        tokio::task::yield_now().await;
    }
    // The callers give no time for the clock to move by itself.
    tokio::time::advance(STALLED_AFTER + A_MOMENT).await;
    let appends = rig.journal.appends();
    while !rig.tracker.live(silent).unwrap().task.stalled {
        assert!(rig.journal.appends() < appends + 5, "its time does not come");
        tokio::task::yield_now().await;
    }
}

async fn while_the_store_fails_timers_do_not_hammer_it(store: Store) {
    let (fails, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (failing, tried) = (Arc::clone(&fails), Arc::clone(&tries));
    let rig = Rig::haunted(store, move |_, _| {
        assert!(tried.fetch_add(1, Ordering::Relaxed) < 1_000, "it is hammered");
        if failing.load(Ordering::Relaxed) { Err(JournalError::Full) } else { Ok(()) }
    })
    .await;
    let id = rig.started().await;
    fails.store(true, Ordering::Relaxed);
    tokio::time::sleep(STALLED_AFTER + Duration::from_secs(10)).await;
    let tried = tries.load(Ordering::Relaxed);
    assert!((5..=15).contains(&tried), "{tried} tries in ten seconds");
    assert_eq!(rig.report(id, "{}").await.unwrap_err(), TrackerError::Full, "callers are told at once");
    fails.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(rig.task(id).await.task.stalled);
}

async fn a_task_that_nobody_starts_expires(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.made("{}").await;
    tokio::time::sleep(PENDING_MAX - A_MOMENT).await;
    assert_eq!(rig.status(id).await, Status::Pending);
    // It counts from when a task became pending.
    let (again, lease) = claimed(&rig, r#"{"maxAttempts":2}"#).await;
    rig.tracker.submit(again, Intent::Release { token: lease.token }).await.unwrap();
    let rig = rig.restarted().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let task = rig.task(id).await.task;
    let error = task.error.unwrap();
    assert_eq!((task.status, error.code.as_str()), (Status::Error, "expired"));
    assert!(error.detail.unwrap().contains("10h, the limit of --max-pending-age"));
    assert_eq!(rig.status(again).await, Status::Pending);
    tokio::time::sleep(PENDING_MAX).await;
    assert_eq!(rig.status(again).await, Status::Error);
}

on_each_store! {
    paused {
        silence_is_told_by_an_event_and_a_word_ends_it,
        each_task_has_its_own_silence_also_after_a_restart,
        a_worker_that_is_lost_loses_its_lease_in_time,
        after_a_start_holders_have_time_to_say_that_they_live,
        a_lease_that_is_left_does_not_end_by_time_in_this_run,
        a_renewal_keeps_the_lease_and_is_seen_by_nobody,
        a_cancellation_that_nobody_hears_ends_the_task,
        another_node_may_fire_the_timer_first,
        what_is_finished_is_forgotten_after_its_retention,
        more_than_a_batch_is_forgotten_in_one_sweep,
        a_queue_that_is_never_empty_does_not_stop_the_clock,
        while_the_store_fails_timers_do_not_hammer_it,
        a_task_that_nobody_starts_expires,
    }
}
