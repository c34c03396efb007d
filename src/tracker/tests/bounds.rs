//! How many tasks there may be that have not ended, and what they may carry.

use super::*;

async fn bounded(store: Store, tasks: usize, size_bytes: usize) -> Rig {
    let policy = Policy { live_tasks_max: tasks, live_bytes_max: size_bytes, ..POLICY };
    Rig::with(policy, store.open(), 4_096, Clock::runtime()).await
}

fn too_many(setting: &'static str, most: usize) -> Refusal {
    Refusal::TooManyTasks { setting, most }
}

async fn tasks_that_have_not_ended_are_bounded(store: Store) {
    let rig = bounded(store, 2, 1 << 20).await;
    let [one, _] = [rig.started().await, rig.made("{}").await];
    let more = async || rig.tracker.create(Uuid::now_v7(), new_task("{}"), None).await;
    assert_eq!(refused(more().await), too_many("--max-live-tasks", 2));
    rig.report(one, r#"{"progress":50}"#).await.unwrap();
    rig.report(one, r#"{"status":"completed"}"#).await.unwrap();
    assert!(more().await.is_ok());
    assert_eq!(refused(more().await), too_many("--max-live-tasks", 2));
}

async fn the_tasks_of_one_batch_count(store: Store) {
    let rig = bounded(store, 4, 1 << 20).await;
    // One more is made to hold the batch back.
    let answers = rig.in_one_batch((0..5).map(|_| (Uuid::now_v7(), create("{}"))).collect()).await;
    let made: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(made, [true, true, true, false, false]);
}

async fn what_tasks_carry_is_bounded(store: Store) {
    let rig = bounded(store, 100, 1_000).await;
    let carrying = |bytes: usize| new_task(&format!(r#"{{"input":"{}","metadata":1}}"#, "x".repeat(bytes - 3)));
    let create = async |new| rig.tracker.create(Uuid::now_v7(), new, None).await;
    let first = create(carrying(600)).await.unwrap().entry.unwrap().task.task_id;
    assert_eq!(refused(create(carrying(401)).await), too_many("--max-live-data", 1_000));
    assert!(create(carrying(400)).await.is_ok());
    assert!(create(new_task("{}")).await.is_ok(), "what carries nothing takes none of it");
    rig.tracker.submit(first, Intent::Cancel).await.unwrap();
    assert!(create(carrying(600)).await.is_ok());
}

async fn who_asks_again_is_answered_though_there_is_no_room(store: Store) {
    let rig = bounded(store, 2, 1 << 20).await;
    let new = new_task(r#"{"start":true}"#);
    let put = rig.started().await;
    let keyed = rig.tracker.create(Uuid::now_v7(), new.clone(), Some("key")).await.unwrap();
    let keyed = keyed.entry.unwrap().task.task_id;
    for ended in [false, true] {
        if ended {
            // Both leave memory, and others take their places.
            for id in [put, keyed] {
                rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
                rig.made("{}").await;
            }
            assert!(rig.tracker.live(put).is_none() && rig.tracker.live(keyed).is_none());
        }
        let again = rig.tracker.create(Uuid::now_v7(), new.clone(), Some("key")).await.unwrap();
        assert_eq!((again.changed, again.entry.unwrap().task.task_id), (false, keyed));
        let again = rig.tracker.create(put, new.clone(), None).await.unwrap();
        assert_eq!((again.changed, again.entry.unwrap().task.task_id), (false, put));
        assert_eq!(
            refused(rig.tracker.create(Uuid::now_v7(), new.clone(), None).await),
            too_many("--max-live-tasks", 2)
        );
    }
}

on_each_store! {
    running {
        tasks_that_have_not_ended_are_bounded,
        the_tasks_of_one_batch_count,
        what_tasks_carry_is_bounded,
        who_asks_again_is_answered_though_there_is_no_room,
    }
}
