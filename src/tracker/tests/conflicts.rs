//! Another node was quicker: what conflicted is decided again, upon what the other did.

use futures_util::FutureExt;

use super::*;
use crate::{
    people::{NewNotification, UserIntent},
    task::Lease,
    topics::value,
};

/// What is asked of the task comes too late: another node's intent is committed just before.
async fn beaten(rig: &Rig, id: Uuid, theirs: &Intent, ours: Intent) -> Result<Answer, TrackerError> {
    rig.journal.foreign_before_next_append(rig.foreign(id, theirs).await);
    rig.tracker.submit(id, ours).await
}

fn lease(holder: &str) -> Lease {
    let expires_at = crate::event::Timestamp::now() + STALLED_AFTER * 2;
    Lease { holder: holder.into(), token: Uuid::now_v7(), expires_at }
}

async fn a_report_on_a_task_that_another_node_completed_is_refused(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    let answer = beaten(&rig, id, &reported(r#"{"status":"completed"}"#), reported(r#"{"progress":40}"#)).await;
    assert_eq!(refused(answer), Refusal::Final(Status::Completed));
    assert_eq!(rig.events().await.len(), 2, "nothing of ours was written");
    let (progress, end) = shown(&mut watcher);
    assert_eq!(progress, [Some(100.0)], "the other node's end is shown");
    assert!(matches!(end, Some(Delivery::Ended { .. })));
}

async fn a_report_is_decided_upon_another_nodes_report(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let answer = beaten(&rig, id, &reported(r#"{"progress":80}"#), reported(r#"{"progress":40,"message":"m"}"#)).await;
    let entry = answer.unwrap().entry.unwrap();
    assert_eq!((entry.task.progress, entry.task.message.as_deref()), (Some(80.0), Some("m")));
    assert_eq!(rig.events().await.len(), 3);
}

async fn what_was_read_before_the_store_lost_it_is_read_again(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.finished().await;
    let mut appends = 0;
    rig.journal.before_append(move |_, _| {
        appends += 1;
        if appends < 100 { Ok(()) } else { Err(JournalError::Unavailable("it never ends".into())) }
    });
    rig.journal.lose_next_look_up();
    assert!(rig.tracker.submit(id, Intent::Delete).await.unwrap().changed);
}

async fn only_one_node_claims_a_task(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.made("{}").await;
    let answer = beaten(&rig, id, &Intent::Claim(lease("them")), Intent::Claim(lease("us"))).await;
    assert_eq!(refused(answer), Refusal::NotPending);
    assert_eq!(rig.tracker.leased_to("them"), [id]);
    assert!(rig.tracker.pending("task", 10).is_empty());
}

async fn a_hidden_event_of_another_node_counts_too(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.made("{}").await;
    let theirs = lease("them");
    rig.tracker.submit(id, Intent::Claim(theirs.clone())).await.unwrap();
    let visible = rig.task(id).await.visible;
    let renewal = Intent::Renew { token: theirs.token, lease: STALLED_AFTER * 5 };
    let answer = beaten(&rig, id, &renewal, Intent::Cancel).await.unwrap();
    let entry = answer.entry.unwrap();
    assert_eq!((entry.task.status, entry.visible), (Status::Cancelling, visible.next().next()));
    let expires_at = entry.memo.lease.as_ref().unwrap().expires_at;
    assert!(expires_at > theirs.expires_at, "the renewal is kept");
}

async fn two_nodes_that_make_the_same_task_make_one(store: Store) {
    for (kind, same) in [("a", true), ("b", false)] {
        let rig = Rig::start(store).await;
        let id = Uuid::now_v7();
        rig.journal.foreign_before_next_append(rig.foreign(id, &create(r#"{"kind":"a"}"#)).await);
        let answer = rig.tracker.create(id, new_task(&format!(r#"{{"kind":"{kind}"}}"#)), None).await;
        if same {
            let answer = answer.unwrap();
            assert_eq!((answer.changed, answer.entry.unwrap().task.task_id), (false, id));
        } else {
            assert_eq!(refused(answer), Refusal::Mismatch);
        }
        assert_eq!(rig.events().await.len(), 1);
        assert!(rig.tracker.live(id).is_some(), "the other node's task is in the table");
    }
}

async fn two_nodes_that_meet_one_key_make_one_task(store: Store) {
    for (kind, same) in [("a", true), ("b", false)] {
        let rig = Rig::start(store).await;
        let theirs = Uuid::now_v7();
        let keyed = Intent::Create { new: new_task(r#"{"kind":"a"}"#), key: Some(key_digest("key")), lease: None };
        rig.journal.foreign_before_next_append(rig.foreign(theirs, &keyed).await);
        let new = new_task(&format!(r#"{{"kind":"{kind}"}}"#));
        let answer = rig.tracker.create(Uuid::now_v7(), new, Some("key")).await;
        if same {
            let answer = answer.unwrap();
            assert_eq!((answer.changed, answer.entry.unwrap().task.task_id), (false, theirs));
        } else {
            assert_eq!(refused(answer), Refusal::Mismatch);
        }
        assert_eq!(rig.events().await.len(), 2, "their task and its key");
    }
}

async fn two_nodes_that_delete_a_task_delete_it_once(store: Store) {
    for fold_held in [false, true] {
        let rig = Rig::start(store).await;
        if fold_held {
            rig.journal.hold_fold();
        }
        let id = rig.finished().await;
        assert_eq!(refused(beaten(&rig, id, &Intent::Delete, Intent::Delete).await), Refusal::Gone);
        assert_eq!(rig.events().await.len(), 3);
        assert!(matches!(rig.tracker.find(id).await.unwrap(), Found::Gone));
    }
}

async fn those_that_do_not_conflict_commit_at_once(store: Store) {
    let rig = Rig::start(store).await;
    let (one, two) = (rig.started().await, rig.started().await);
    let appends = rig.journal.appends();
    let theirs = rig.foreign(one, &reported(r#"{"status":"error"}"#)).await;
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for id in [one, two] {
        let tracker = rig.tracker.clone();
        callers.spawn(async move { (id, tracker.submit(id, reported(r#"{"progress":40}"#)).await) });
    }
    tokio::task::yield_now().await;
    rig.journal.foreign_before_next_append(theirs);
    gate.reached().await;
    gate.release();
    for (id, answer) in callers.join_all().await {
        if id == one {
            assert_eq!(refused(answer), Refusal::Final(Status::Error));
        } else {
            assert_eq!(answer.unwrap().entry.unwrap().task.progress, Some(40.0));
        }
    }
    assert_eq!(rig.journal.appends(), appends + 1, "the refusal needs none");
}

async fn what_other_nodes_do_comes_along_with_any_commit(store: Store) {
    let rig = Rig::start(store).await;
    let theirs = Uuid::now_v7();
    let (_, mut watcher) = rig.watch(theirs, Resume::First).await;
    rig.journal.foreign(rig.foreign(theirs, &create(r#"{"start":true}"#)).await).await;
    assert!(rig.tracker.live(theirs).is_none());
    let work = rig.tracker.work();
    rig.started().await;
    assert_eq!(rig.tracker.live(theirs).unwrap().task.status, Status::Processing);
    assert_eq!(shown(&mut watcher).0, [None]);
    assert!(!work.has_changed().unwrap(), "there is nothing to be done");

    rig.journal.foreign(rig.foreign(Uuid::now_v7(), &create("{}")).await).await;
    rig.started().await;
    assert!(work.has_changed().unwrap(), "their task waits for work");
}

async fn who_is_beaten_again_and_again_is_told_to_come_again(store: Store) {
    let rig = Rig::haunted(store, |faults, groups| {
        for group in groups {
            // The same again, as another node's.
            let expects_task = group.expects.iter().any(|(_, expect)| matches!(expect, crate::journal::Expect::At(_)));
            if expects_task {
                faults.foreign_before_next_append.push(Group { id: Uuid::now_v7(), ..group.clone() });
            }
        }
        Ok(())
    })
    .await;
    let id = rig.started().await;
    assert_eq!(rig.report(id, r#"{"progress":40}"#).await.unwrap_err(), TrackerError::Busy);
    assert!(rig.journal.appends() < 30);
    assert_eq!(rig.tracker.live(id).unwrap().task.progress, Some(40.0), "what the others did is known");
}

async fn after_a_lapse_the_table_is_read_anew_and_streams_go_on(store: Store) {
    let rig = Rig::on(store.bounded(100, 4)).await;
    let (one, two) = (rig.started().await, rig.started().await);
    let (_, mut watcher) = rig.watch(one, Resume::First).await;
    let theirs = Uuid::now_v7();
    for nth in 1..10 {
        rig.journal.foreign(rig.foreign(one, &reported(&format!(r#"{{"progress":{nth}}}"#))).await).await;
    }
    rig.journal.foreign(rig.foreign(theirs, &create("{}")).await).await;
    rig.journal.foreign(rig.foreign(one, &reported(r#"{"status":"completed"}"#)).await).await;

    let answer = rig.report(two, r#"{"progress":40}"#).await.unwrap();
    assert_eq!((answer.seq, answer.entry.unwrap().task.progress), (Seq(14), Some(40.0)));
    assert!(rig.tracker.live(one).is_none(), "it has ended");
    assert!(rig.tracker.live(theirs).is_some());
    let (progress, end) = shown(&mut watcher);
    assert!(
        progress.last() == Some(&Some(100.0)) && matches!(end, Some(Delivery::Ended { .. })),
        "{progress:?} {end:?}"
    );
    assert_eq!(refused(rig.report(one, "{}").await), Refusal::Final(Status::Completed));
}

async fn after_a_lapse_members_watch_the_groups_that_they_are_in(store: Store) {
    let rig = Rig::on(store.bounded(100, 4)).await;
    // Another node of the same store.
    let other = Rig::on(rig.journal.clone()).await;
    let join = |groups: &[&str]| UserIntent::Join(groups.iter().map(|group| (*group).to_owned()).collect());
    for (name, group) in [("ann", "new"), ("eve", "old")] {
        let ann = ChannelName::user(name).unwrap();
        other.tracker.ask_user(&ChannelName::user("bob").unwrap(), join(&["new", "old"])).await.unwrap();
        other.tracker.ask_user(&ann, join(&["old"])).await.unwrap();
        rig.started().await;
        let (_, mut watcher) =
            rig.tracker.watch_several(&[], std::slice::from_ref(&ann), None, Resume::First).await.unwrap();
        other.tracker.ask_user(&ann, join(&["new"])).await.unwrap();
        let new = NewNotification { title: group.into(), ..NewNotification::default() };
        other.tracker.notify_group(&ChannelName::group(group).unwrap(), new).await.unwrap();
        for _ in 0..10 {
            other.started().await;
        }
        assert!(watcher.next().now_or_never().is_none());
        rig.started().await;
        // Where she is not any more, nothing comes but what the next one says.
        let new = NewNotification { title: "next".into(), ..NewNotification::default() };
        rig.tracker.notify(&ann, new).await.unwrap();
        let Delivery::Frame(frame) = watcher.next().await else { panic!("the stream goes on") };
        let expected = if group == "new" { ChannelName::group(group) } else { ChannelName::inbox(name) };
        assert_eq!(frame.event().channel(), &expected.unwrap());
    }
}

async fn a_stream_that_missed_too_much_ends_alone(store: Store) {
    let rig = Rig::on(store.bounded(3, 4)).await;
    let other = Rig::on(rig.journal.clone()).await;
    for (count, goes_on) in [(5, false), (3, true)] {
        let topic = ChannelName::topic(&format!("t{count}")).unwrap();
        let publish = async || other.tracker.append(vec![value(&topic, None, "1".into())], None).await.unwrap();
        publish().await;
        rig.started().await;
        let (_, mut watcher) = rig.tracker.watch(&topic, Resume::First).await.unwrap();
        for _ in 0..count {
            publish().await;
        }
        rig.started().await;
        for _ in 0..count {
            let delivery = watcher.next().await;
            assert_eq!(matches!(delivery, Delivery::Frame(_)), goes_on, "{delivery:?}");
            assert_eq!(matches!(delivery, Delivery::Lapsed), !goes_on, "{delivery:?}");
        }
    }
}

async fn in_another_life_streams_go_on_if_nothing_is_lost(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    for (lost, is_interrupted) in [(0, false), (1, true)] {
        let (_, mut watcher) = rig.watch(id, Resume::First).await;
        let epochs = rig.journal.epochs();
        epochs.learn(&epochs.begin_after(Seq(rig.tracker.head().0 - lost)));
        rig.journal.fail_next_append(JournalError::Lapsed);
        rig.report(id, r#"{"message":"m"}"#).await.unwrap();
        let (progress, end) = shown(&mut watcher);
        assert_eq!((progress.len(), end.is_some()), (usize::from(!is_interrupted), is_interrupted), "{end:?}");
    }
}

async fn after_a_lapse_who_holds_a_lease_is_to_look_at_the_task(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let guard = rig.tracker.hold_lease(Uuid::now_v7(), STALLED_AFTER);
    assert!(guard.taken().now_or_never().is_none());
    rig.journal.fail_next_append(JournalError::Lapsed);
    rig.report(id, r#"{"message":"m"}"#).await.unwrap();
    assert!(guard.taken().now_or_never().is_some());
}

async fn one_that_lapses_for_ever_is_told_to_come_again(store: Store) {
    let rig = Rig::haunted(store, |_, groups| match groups {
        [group] if group.drafts.iter().any(|draft| draft.class == crate::event::Class::Tick) => {
            Err(JournalError::Lapsed)
        }
        _ => Ok(()),
    })
    .await;
    let id = rig.started().await;
    assert_eq!(rig.report(id, r#"{"progress":40}"#).await.unwrap_err(), TrackerError::Busy);
    assert_eq!(rig.status(id).await, Status::Processing);
}

on_each_store! {
    running {
        a_report_on_a_task_that_another_node_completed_is_refused,
        a_report_is_decided_upon_another_nodes_report,
        what_was_read_before_the_store_lost_it_is_read_again,
        only_one_node_claims_a_task,
        a_hidden_event_of_another_node_counts_too,
        two_nodes_that_make_the_same_task_make_one,
        two_nodes_that_meet_one_key_make_one_task,
        two_nodes_that_delete_a_task_delete_it_once,
        those_that_do_not_conflict_commit_at_once,
        what_other_nodes_do_comes_along_with_any_commit,
        who_is_beaten_again_and_again_is_told_to_come_again,
        after_a_lapse_the_table_is_read_anew_and_streams_go_on,
        after_a_lapse_members_watch_the_groups_that_they_are_in,
        a_stream_that_missed_too_much_ends_alone,
        in_another_life_streams_go_on_if_nothing_is_lost,
        after_a_lapse_who_holds_a_lease_is_to_look_at_the_task,
        one_that_lapses_for_ever_is_told_to_come_again,
    }
}
