//! What has ended leaves memory, and is still there for whoever asks.

use super::*;

/// A tracker whose finished tasks leave memory at once, and one where they stay.
async fn rigs(store: Store) -> [Rig; 2] {
    let held = Rig::start(store).await;
    held.journal.hold_fold();
    [Rig::start(store).await, held]
}

async fn what_has_ended_stays_in_memory_until_it_is_folded(store: Store) {
    let [rig, held] = rigs(store).await;
    let (id, kept) = (rig.finished().await, held.finished().await);
    assert!(rig.tracker.live(id).is_none());
    assert!(held.tracker.live(kept).is_some());
    for (rig, id) in [(rig, id), (held, kept)] {
        assert_eq!(rig.status(id).await, Status::Completed);
    }
}

async fn a_key_stands_for_its_task_wherever_the_two_are(store: Store) {
    for rig in rigs(store).await {
        for end in [false, true] {
            let key = if end { "ended" } else { "live" };
            let new = new_task(r#"{"kind":"a","start":true}"#);
            let first = rig.tracker.create(Uuid::now_v7(), new.clone(), Some(key)).await.unwrap();
            let id = first.entry.unwrap().task.task_id;
            if end {
                rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
            }
            let events = rig.events().await.len();
            for _ in 0..3 {
                let appends = rig.journal.appends();
                let again = rig.tracker.create(Uuid::now_v7(), new.clone(), Some(key)).await.unwrap();
                assert!(rig.journal.appends() <= appends + 1, "one conflict tells all");
                assert_eq!((again.changed, again.entry.unwrap().task.task_id), (false, id));
                let other = rig.tracker.create(Uuid::now_v7(), new_task(r#"{"kind":"b"}"#), Some(key)).await;
                assert_eq!(refused(other), Refusal::Mismatch);
            }
            assert_eq!(rig.events().await.len(), events);
        }
    }
}

async fn a_key_whose_task_was_deleted_does_not_make_another(store: Store) {
    for rig in rigs(store).await {
        let new = new_task(r#"{"start":true}"#);
        let first = rig.tracker.create(Uuid::now_v7(), new.clone(), Some("key")).await.unwrap();
        let id = first.entry.unwrap().task.task_id;
        rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
        rig.tracker.submit(id, Intent::Delete).await.unwrap();
        assert_eq!(refused(rig.tracker.create(Uuid::now_v7(), new, Some("key")).await), Refusal::Gone);
    }
}

async fn the_same_request_with_the_id_of_a_finished_task_finds_it(store: Store) {
    for rig in rigs(store).await {
        let id = rig.finished().await;
        let answer = rig.tracker.create(id, new_task(r#"{"start":true}"#), None).await.unwrap();
        assert_eq!((answer.changed, answer.entry.unwrap().task.status), (false, Status::Completed));
        assert_eq!(refused(rig.tracker.create(id, new_task("{}"), None).await), Refusal::Mismatch);
        assert_eq!(rig.events().await.len(), 2);
    }
}

async fn nothing_can_be_asked_of_a_finished_task_but_its_deletion(store: Store) {
    for rig in rigs(store).await {
        let (id, cancelled) = (rig.finished().await, rig.made("{}").await);
        rig.tracker.submit(cancelled, Intent::Cancel).await.unwrap();
        assert_eq!(refused(rig.report(id, r#"{"progress":1}"#).await), Refusal::Final(Status::Completed));
        assert_eq!(refused(rig.tracker.submit(id, Intent::Cancel).await), Refusal::Final(Status::Completed));
        let again = rig.tracker.submit(cancelled, Intent::Cancel).await.unwrap();
        assert_eq!((again.changed, again.entry.unwrap().task.status), (false, Status::Cancelled), "idempotent");

        let deleted = rig.tracker.submit(id, Intent::Delete).await.unwrap();
        assert_eq!((deleted.entry, deleted.changed), (None, true));
        for answer in [
            rig.tracker.submit(id, Intent::Delete).await,
            rig.report(id, "{}").await,
            rig.tracker.create(id, new_task(r#"{"start":true}"#), None).await,
        ] {
            assert_eq!(refused(answer), Refusal::Gone);
        }
        let listed = rig.tracker.list(TaskFilter::default(), None, 10).await.unwrap().tasks;
        assert_eq!(listed.iter().map(|entry| entry.task.task_id).collect::<Vec<_>>(), [cancelled]);
    }
}

/// It was live when it was looked up, and has left memory when it is decided upon.
async fn what_ends_on_the_way_to_the_writer_has_ended(store: Store) {
    for (asked, expected) in [
        (reported(r#"{"progress":40}"#), Refusal::Final(Status::Completed)),
        (Intent::Cancel, Refusal::Final(Status::Completed)),
        (Intent::Renew { token: Uuid::nil(), lease: RETENTION }, Refusal::LeaseLost),
    ] {
        let rig = Rig::start(store).await;
        let id = rig.started().await;
        let appends = rig.journal.appends();
        let gate = rig.journal.hold_appends();
        let mut callers = JoinSet::new();
        for (nth, intent) in [reported(r#"{"status":"completed"}"#), asked].into_iter().enumerate() {
            let tracker = rig.tracker.clone();
            callers.spawn(async move { (nth, tracker.submit(id, intent).await) });
            gate.reached().await;
            tokio::task::yield_now().await;
        }
        gate.release();
        for (nth, answer) in callers.join_all().await {
            match nth {
                0 => assert!(answer.unwrap().changed),
                _ => assert_eq!(refused(answer), expected),
            }
        }
        assert_eq!(rig.journal.appends(), appends + 1);
    }
}

async fn the_list_pages_through_all_that_is_known(store: Store) {
    for rig in rigs(store).await {
        let mut ids = Vec::new();
        for nth in 0..5 {
            ids.push(if nth % 2 == 0 { rig.finished().await } else { rig.started().await });
        }
        ids.reverse();
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            let page = rig.tracker.list(TaskFilter::default(), before, 2).await.unwrap();
            listed.extend(page.tasks.iter().map(|entry| entry.task.task_id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(listed, ids);
        let filter = TaskFilter { statuses: vec![Status::Processing], ..TaskFilter::default() };
        assert_eq!(rig.tracker.list(filter, None, 2).await.unwrap().tasks.len(), 2);
    }
}

on_each_store! {
    running {
        what_has_ended_stays_in_memory_until_it_is_folded,
        a_key_stands_for_its_task_wherever_the_two_are,
        a_key_whose_task_was_deleted_does_not_make_another,
        the_same_request_with_the_id_of_a_finished_task_finds_it,
        nothing_can_be_asked_of_a_finished_task_but_its_deletion,
        what_ends_on_the_way_to_the_writer_has_ended,
        the_list_pages_through_all_that_is_known,
    }
}
