//! An event that this version cannot read stops its own channel, and nothing else.

use std::time::Duration;

use super::*;
use crate::event::Class;

/// What a newer version may write: a status that this one does not know.
async fn paused(rig: &Rig, id: Uuid) -> Group {
    let mut group = rig.foreign(id, &reported(r#"{"progress":50}"#)).await;
    for draft in &mut group.drafts {
        let text = String::from_utf8(draft.data.to_vec()).unwrap();
        draft.data = text.replace("processing", "paused").into();
        draft.class = Class::Change;
    }
    group
}

async fn check_others_go_on(rig: &Rig, unreadable: Uuid, other: Uuid) {
    assert_eq!(rig.report(other, r#"{"progress":1}"#).await.unwrap().entry.unwrap().task.progress, Some(1.0));
    assert_eq!(refused(rig.report(unreadable, r#"{"progress":60}"#).await), Refusal::Unreadable);
    assert_eq!(rig.tracker.find(unreadable).await.unwrap_err(), TrackerError::Refused(Refusal::Unreadable));
    let listed = rig.tracker.list(TaskFilter::default(), None, 10).await.unwrap().tasks;
    assert_eq!(listed.iter().map(|entry| entry.task.task_id).collect::<Vec<_>>(), [other], "the others are listed");
    assert_eq!(rig.tracker.unreadable(), 1);
}

async fn it_stops_its_own_channel_only_also_after_a_restart(store: Store) {
    let rig = Rig::start(store).await;
    let (id, other) = (rig.started().await, rig.started().await);
    rig.journal.foreign_before_next_append(paused(&rig, id).await);
    rig.report(other, "{}").await.unwrap();
    check_others_go_on(&rig, id, other).await;
    let rig = rig.restarted().await;
    check_others_go_on(&rig, id, other).await;
}

async fn it_keeps_nothing_else_from_being_forgotten(store: Store) {
    let rig = Rig::start(store).await;
    let (other, id) = (rig.started().await, rig.started().await);
    let mut ended = rig.foreign(id, &reported(r#"{"status":"completed"}"#)).await;
    for draft in &mut ended.drafts {
        let text = String::from_utf8(draft.data.to_vec()).unwrap();
        draft.data = text.replace("completed", "archived").into();
    }
    assert!(rig.journal.foreign(ended).await);
    rig.report(other, r#"{"status":"completed"}"#).await.unwrap();
    tokio::time::sleep((RETENTION + Duration::from_secs(90)) * 2).await;
    assert!(matches!(rig.tracker.find(other).await.unwrap(), Found::Unknown));
    assert_eq!(rig.tracker.find(id).await.unwrap_err(), TrackerError::Refused(Refusal::Unreadable), "it is kept");
}

on_each_store! {
    paused {
        it_stops_its_own_channel_only_also_after_a_restart,
        it_keeps_nothing_else_from_being_forgotten,
    }
}
