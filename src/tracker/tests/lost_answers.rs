//! The journal's answer is lost: nothing is written twice, and nobody is told what is not so.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::{event::Class, testing::LostAnswer};

const BOTH: [LostAnswer; 2] = [LostAnswer::Committed, LostAnswer::NotCommitted];

async fn a_lost_answer_is_asked_for_again_and_told_once(store: Store) {
    for lost in BOTH {
        let rig = Rig::start(store).await;
        let id = rig.started().await;
        let (_, mut watcher) = rig.watch(id, Resume::First).await;
        rig.journal.lose_next_answer(lost);
        let answer = rig.report(id, r#"{"progress":40}"#).await.unwrap();
        assert_eq!((answer.seq, answer.changed), (Seq(2), true));
        assert_eq!(answer.entry.unwrap().task.progress, Some(40.0));
        assert_eq!(rig.events().await.len(), 2, "it is written once");
        assert_eq!(shown(&mut watcher).0, [Some(40.0)], "and shown once");
    }
}

async fn a_lost_end_and_a_lost_creation_are_not_refused(store: Store) {
    for lost in BOTH {
        let rig = Rig::start(store).await;
        rig.journal.lose_next_answer(lost);
        let created = rig.tracker.create(Uuid::now_v7(), new_task(r#"{"start":true}"#), Some("key")).await.unwrap();
        assert!(created.changed);
        let id = created.entry.unwrap().task.task_id;
        rig.journal.lose_next_answer(lost);
        let answer = rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
        assert_eq!(answer.entry.unwrap().task.status, Status::Completed);
        rig.journal.lose_next_answer(lost);
        assert!(rig.tracker.submit(id, Intent::Delete).await.unwrap().changed);
        assert_eq!(rig.events().await.len(), 5, "the task and its key, an end, and both are gone");
    }
}

async fn a_conflict_whose_answer_was_lost_is_still_a_conflict(store: Store) {
    for lost in BOTH {
        let rig = Rig::start(store).await;
        let id = rig.started().await;
        rig.journal.foreign_before_next_append(rig.foreign(id, &reported(r#"{"status":"error"}"#)).await);
        rig.journal.lose_next_answer(lost);
        assert_eq!(refused(rig.report(id, r#"{"progress":40}"#).await), Refusal::Final(Status::Error));
        assert_eq!(rig.events().await.len(), 2);
    }
}

async fn an_error_after_a_lost_answer_does_not_mean_that_nothing_was_written(store: Store) {
    for lost in BOTH {
        // First the answer is lost, then the store fails, then it is well.
        let step = AtomicUsize::new(0);
        let armed = Arc::new(Mutex::new(false));
        let arm = Arc::clone(&armed);
        let rig = Rig::haunted(store, move |faults, _| {
            if !*armed.lock().unwrap() {
                return Ok(());
            }
            match step.fetch_add(1, Ordering::Relaxed) {
                0 => faults.lost_answer = Some(lost),
                1 => return Err(JournalError::Full),
                _ => {}
            }
            Ok(())
        })
        .await;
        let id = rig.started().await;
        *arm.lock().unwrap() = true;
        let answer = rig.report(id, r#"{"progress":40}"#).await.unwrap();
        assert_eq!(answer.entry.unwrap().task.progress, Some(40.0));
        assert_eq!(rig.events().await.len(), 2);
    }
}

/// A tracker, and how many of the next answers are lost to it.
async fn losing(store: Store, lost: LostAnswer) -> (Rig, Arc<AtomicUsize>) {
    let armed = Arc::new(AtomicUsize::new(0));
    let losses = Arc::clone(&armed);
    let rig = Rig::haunted(store, move |faults, _| {
        if losses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            faults.lost_answer = Some(lost);
        }
        Ok(())
    })
    .await;
    (rig, armed)
}

async fn when_it_is_never_told_callers_hear_that_and_the_table_catches_up(store: Store) {
    for lost in BOTH {
        let (rig, armed) = losing(store, lost).await;
        let id = rig.started().await;
        armed.store(6, Ordering::Relaxed);
        let answer = rig.report(id, r#"{"progress":40}"#).await;
        assert!(matches!(answer, Err(TrackerError::Unavailable(_))), "{answer:?}");
        assert_eq!(armed.load(Ordering::Relaxed), 0, "it was asked six times");

        // Nobody asks for anything: the writer looks by itself.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let written = lost == LostAnswer::Committed;
        assert_eq!(rig.task(id).await.task.progress, written.then_some(40.0));
        let classes: Vec<Class> = rig.events().await.iter().map(Event::class).collect();
        assert_eq!(classes.len(), if written { 2 } else { 1 }, "{classes:?}");
        assert_eq!(rig.report(id, r#"{"progress":50}"#).await.unwrap().entry.unwrap().task.progress, Some(50.0));
    }
}

async fn counts_and_lists_follow_what_was_never_told(store: Store) {
    let (rig, armed) = losing(store, LostAnswer::Committed).await;
    let finished = rig.finished().await;
    let (_, mut list) = rig.tracker.watch_list(TaskFilter::default(), Resume::First).await.unwrap();
    let made = Uuid::now_v7();
    armed.store(6, Ordering::Relaxed);
    rig.tracker.create(made, new_task(r#"{"start":true}"#), None).await.unwrap_err();
    // It is looked up in the journal before its creation has been followed.
    assert_eq!(refused(rig.tracker.submit(made, Intent::Delete).await), Refusal::NotFinished);
    armed.store(6, Ordering::Relaxed);
    rig.tracker.submit(finished, Intent::Delete).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut counts = Counts::default();
    counts[Status::Processing as usize] = 1;
    assert_eq!(rig.tracker.counts(), counts);
    let told = std::future::poll_fn(|context| crate::channel::Watch::poll_next(&mut list, context)).await;
    let Delivery::Bytes(told) = told else { panic!("{told:?}") };
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains(&made.to_string()) && told.contains("event: removed"), "{told}");
}

on_each_store! {
    paused {
        a_lost_answer_is_asked_for_again_and_told_once,
        a_lost_end_and_a_lost_creation_are_not_refused,
        a_conflict_whose_answer_was_lost_is_still_a_conflict,
        an_error_after_a_lost_answer_does_not_mean_that_nothing_was_written,
        when_it_is_never_told_callers_hear_that_and_the_table_catches_up,
        counts_and_lists_follow_what_was_never_told,
    }
}
