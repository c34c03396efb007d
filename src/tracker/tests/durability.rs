//! Durable before visible, and before the answer.

use super::*;

async fn nobody_sees_a_report_before_its_commit(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    let gate = rig.journal.hold_appends();
    let tracker = rig.tracker.clone();
    let mut caller = JoinSet::new();
    caller.spawn(async move { tracker.submit(id, reported(r#"{"progress":40}"#)).await });
    gate.reached().await;
    tokio::task::yield_now().await;

    assert!(caller.try_join_next().is_none(), "the caller is not answered");
    assert_eq!(rig.task(id).await.task.progress, None, "the table does not show it");
    assert_eq!(rig.tracker.live(id).unwrap().task.progress, None);
    assert_eq!(shown(&mut watcher).0, [], "the watcher does not see it");
    let (join, _) = rig.watch(id, Resume::First).await;
    assert!(matches!(&join, Join::First(Some(state)) if state.seq() == Seq(1)), "nor does who joins now: {join:?}");

    gate.release();
    let answer = caller.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((answer.seq, answer.changed), (Seq(2), true));
    assert_eq!(answer.entry.unwrap().task.progress, Some(40.0));
    assert_eq!(shown(&mut watcher).0, [Some(40.0)]);
}

async fn a_failed_append_changes_nothing_and_tells_every_caller(store: Store) {
    for (error, told) in [
        (JournalError::Full, TrackerError::Full),
        (JournalError::Unavailable("gone".into()), TrackerError::Unavailable("gone".into())),
        (JournalError::Damaged("bits".into()), TrackerError::Damaged("bits".into())),
    ] {
        let rig = Rig::start(store).await;
        let (one, two) = (rig.started().await, rig.started().await);
        let (_, mut watcher) = rig.watch(one, Resume::First).await;
        let before = (rig.task(one).await, rig.task(two).await, rig.events().await);
        let gate = rig.journal.hold_appends();
        let mut callers = JoinSet::new();
        for id in [one, two, one] {
            let tracker = rig.tracker.clone();
            callers.spawn(async move { tracker.submit(id, reported(r#"{"progress":40}"#)).await });
        }
        tokio::task::yield_now().await;
        rig.journal.fail_next_append(error);
        gate.reached().await;
        gate.release();
        for answer in callers.join_all().await {
            assert_eq!(answer.unwrap_err(), told);
        }
        assert_eq!(before, (rig.task(one).await, rig.task(two).await, rig.events().await));
        assert_eq!(shown(&mut watcher).0, []);

        let answer = rig.report(one, r#"{"progress":41}"#).await.unwrap();
        assert_eq!(answer.entry.unwrap().task.progress, Some(41.0), "it recovers at once");
    }
}

async fn what_changes_nothing_is_answered_without_an_append(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.made(r#"{"kind":"a"}"#).await;
    let appends = rig.journal.appends();
    let answer = rig.tracker.create(id, new_task(r#"{"kind":"a"}"#), None).await.unwrap();
    assert_eq!((answer.seq, answer.changed), (Seq::ZERO, false));
    assert_eq!(answer.entry.unwrap().task.task_id, id);
    assert_eq!(refused(rig.tracker.create(id, new_task(r#"{"kind":"b"}"#), None).await), Refusal::Mismatch);
    assert_eq!(refused(rig.report(Uuid::now_v7(), "{}").await), Refusal::NotFound);
    assert_eq!(rig.journal.appends(), appends);
}

async fn a_request_is_carried_out_though_its_caller_hangs_up(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let gate = rig.journal.hold_appends();
    {
        let mut asked = Box::pin(rig.report(id, r#"{"progress":40}"#));
        assert!(futures_util::poll!(&mut asked).is_pending());
    }
    gate.reached().await;
    gate.release();
    rig.report(id, "{}").await.unwrap();
    assert_eq!(rig.task(id).await.task.progress, Some(40.0));
}

async fn a_full_queue_turns_callers_away_after_a_while(store: Store) {
    let rig = Rig::with(POLICY, store.open(), 1, Clock::runtime()).await;
    let id = rig.started().await;
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        let tracker = rig.tracker.clone();
        callers.spawn(async move { tracker.submit(id, reported("{}")).await });
        gate.reached().await;
        tokio::task::yield_now().await;
    }
    let started = tokio::time::Instant::now();
    assert_eq!(rig.report(id, "{}").await.unwrap_err(), TrackerError::Busy);
    assert_eq!(started.elapsed(), QUEUE_WAIT_MAX);
    gate.release();
    assert!(callers.join_all().await.iter().all(Result::is_ok));
}

async fn stopping_writes_what_was_accepted_and_closes_the_journal(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let tracker = rig.tracker.clone();
        callers.spawn(async move { tracker.submit(id, reported(r#"{"progress":7}"#)).await });
        gate.reached().await;
        tokio::task::yield_now().await;
    }
    let mut ending = Box::pin(rig.stage.end(Duration::from_secs(60)));
    assert!(futures_util::poll!(&mut ending).is_pending());
    gate.release();
    assert!(ending.await, "it ends by itself");
    assert!(callers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(rig.tracker.create(Uuid::now_v7(), NewTask::default(), None).await.unwrap_err(), TrackerError::Stopping);
    assert!(rig.journal.head().await.is_err(), "the journal is closed");
}

async fn a_restart_brings_back_the_same_table(store: Store) {
    let rig = Rig::start(store).await;
    let (one, two) = (rig.started().await, rig.made(r#"{"kind":"a","steps":[{"name":"x"}]}"#).await);
    rig.report(one, r#"{"progress":40,"message":"half"}"#).await.unwrap();
    let done = rig.finished().await;
    let lease = crate::task::Lease {
        holder: "n".into(),
        token: Uuid::now_v7(),
        expires_at: rig.tracker.clock().now() + STALLED_AFTER,
    };
    rig.tracker.submit(two, Intent::Claim(lease.clone())).await.unwrap();
    rig.tracker.submit(two, Intent::Renew { token: lease.token, lease: STALLED_AFTER * 3 }).await.unwrap();
    let list = |rig: &Rig| {
        let tracker = rig.tracker.clone();
        async move { tracker.list(TaskFilter::default(), None, 10).await.unwrap().tasks }
    };
    let before = (rig.task(one).await, rig.task(two).await, rig.task(done).await, list(&rig).await);
    assert_eq!(before.1.visible.next(), before.1.last, "its last event is hidden");
    let rig = rig.restarted().await;
    assert_eq!(before, (rig.task(one).await, rig.task(two).await, rig.task(done).await, list(&rig).await));
    assert_eq!(before.0, *rig.tracker.live(one).unwrap(), "from memory, not from the journal");
    assert_eq!(rig.tracker.leased_to("n"), [two]);
    assert!(rig.tracker.live(done).is_none(), "what has ended stays on the disk");
    rig.report(one, r#"{"progress":41}"#).await.unwrap();
}

async fn a_table_of_more_than_a_page_is_restored_whole(store: Store) {
    let rig = Rig::start(store).await;
    let ids: Vec<Uuid> = (0..1_001).map(|_| Uuid::now_v7()).collect();
    let created = rig.in_one_batch(ids.iter().map(|id| (*id, create("{}"))).collect()).await;
    assert!(created.iter().all(Result::is_ok));
    let rig = Rig::on(rig.journal.clone()).await;
    assert!(ids.iter().all(|id| rig.tracker.live(*id).is_some()));
}

on_each_store! {
    running {
        nobody_sees_a_report_before_its_commit,
        a_failed_append_changes_nothing_and_tells_every_caller,
        what_changes_nothing_is_answered_without_an_append,
        a_request_is_carried_out_though_its_caller_hangs_up,
        stopping_writes_what_was_accepted_and_closes_the_journal,
        a_restart_brings_back_the_same_table,
        a_table_of_more_than_a_page_is_restored_whole,
    }
    paused {
        a_full_queue_turns_callers_away_after_a_while,
    }
}
