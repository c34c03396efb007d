//! An event that this version cannot read stops its own channel, and nothing else.

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

on_each_store! {
    paused {
        it_stops_its_own_channel_only_also_after_a_restart,
    }
}
