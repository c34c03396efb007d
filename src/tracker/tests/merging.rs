//! One batch, one commit: what merges, what does not, and what everybody is answered.

use super::*;
use crate::event::Class;

async fn classes(rig: &Rig, id: Uuid) -> Vec<Class> {
    let channel = ChannelName::task(id);
    rig.events().await.iter().filter(|event| *event.channel() == channel).map(Event::class).collect()
}

async fn reports_on_one_task_make_one_tick_and_all_are_answered(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let appends = rig.journal.appends();
    let reports = (1..=50).map(|nth| (id, reported(&format!(r#"{{"progress":{nth},"message":"m{nth}"}}"#)))).collect();
    let answers = rig.in_one_batch(reports).await;
    assert_eq!(rig.journal.appends(), appends + 2, "one for what held the gate, one for all of these");
    assert_eq!(classes(&rig, id).await, [Class::Change, Class::Tick]);
    assert_eq!(answers.len(), 50);
    for answer in answers {
        let answer = answer.unwrap();
        let entry = answer.entry.unwrap();
        assert_eq!((answer.seq, answer.changed, entry.last), (Seq(3), true, Seq(3)));
        assert_eq!((entry.task.progress, entry.task.message.as_deref()), (Some(50.0), Some("m50")));
    }
}

async fn different_tasks_do_not_merge(store: Store) {
    let rig = Rig::start(store).await;
    let ids = [rig.started().await, rig.started().await, rig.started().await];
    let appends = rig.journal.appends();
    let reports = ids.iter().chain(&ids).zip(1..).map(|(id, nth)| (*id, reported(&format!(r#"{{"progress":{nth}}}"#))));
    let answers = rig.in_one_batch(reports.collect()).await;
    assert_eq!(rig.journal.appends(), appends + 2);
    for (nth, id) in ids.into_iter().enumerate() {
        assert_eq!(classes(&rig, id).await, [Class::Change, Class::Tick]);
        assert_eq!(rig.task(id).await.task.progress, Some(nth as f64 + 4.0));
    }
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
}

async fn only_ticks_merge(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.made(r#"{"start":true,"steps":[{"name":"a"},{"name":"b"}]}"#).await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    let reports = [
        r#"{"stepProgress":10}"#,
        r#"{"stepProgress":20}"#,
        r#"{"step":1}"#,
        r#"{"stepProgress":10}"#,
        r#"{"stepProgress":20}"#,
        r#"{"status":"completed"}"#,
        r#"{"stepProgress":30}"#,
    ];
    let mut answers = rig.in_one_batch(reports.map(|report| (id, reported(report))).to_vec()).await;
    let expected = [Class::Change, Class::Tick, Class::Change, Class::Tick, Class::Final];
    assert_eq!(classes(&rig, id).await, expected);
    assert_eq!(refused(answers.pop().unwrap()), Refusal::Final(Status::Completed), "the end is final in a batch too");
    assert!(answers.into_iter().all(|answer| answer.unwrap().entry.unwrap().task.status == Status::Completed));
    // The first of the two ticks was replaced before the watcher came to it.
    assert_eq!(shown(&mut watcher).0, [Some(50.0), Some(60.0), Some(100.0)]);
}

async fn a_life_within_one_batch(store: Store) {
    let rig = Rig::start(store).await;
    let id = Uuid::now_v7();
    let asked = vec![
        (id, create(r#"{"kind":"a"}"#)),
        (id, reported(r#"{"progress":10}"#)),
        (id, create(r#"{"kind":"a"}"#)),
        (id, create(r#"{"kind":"b"}"#)),
        (id, reported(r#"{"progress":20}"#)),
        (id, Intent::Delete),
        (id, reported(r#"{"status":"completed"}"#)),
        (id, Intent::Delete),
    ];
    let mut answers = rig.in_one_batch(asked).await.into_iter();
    let mut next = || answers.next().unwrap();
    let expected = [Class::Change, Class::Change, Class::Tick, Class::Final, Class::Tombstone];
    assert_eq!(classes(&rig, id).await, expected);
    let completed = |answer: Result<Answer, TrackerError>| {
        let answer = answer.unwrap();
        (answer.entry.unwrap().task.status == Status::Completed, answer.changed)
    };
    assert_eq!(completed(next()), (true, true), "created");
    assert_eq!(completed(next()), (true, true), "reported");
    assert_eq!(completed(next()), (true, false), "created again by the same request");
    assert_eq!(refused(next()), Refusal::Mismatch);
    assert_eq!(completed(next()), (true, true), "reported");
    let deleted = next().unwrap();
    assert_eq!((deleted.entry, deleted.changed), (None, true), "deleted");
    assert_eq!(completed(next()), (true, true), "completed");
    assert_eq!(refused(next()), Refusal::Gone, "deleted already");
    assert!(matches!(rig.tracker.find(id).await.unwrap(), Found::Gone));
}

async fn what_follows_a_deletion_in_its_batch_finds_nothing(store: Store) {
    let rig = Rig::start(store).await;
    rig.journal.hold_fold();
    let id = rig.finished().await;
    let asked = vec![
        (id, Intent::Delete),
        (id, reported("{}")),
        (id, create(r#"{"start":true}"#)),
        (id, Intent::Delete),
        (id, Intent::Cancel),
    ];
    let mut answers = rig.in_one_batch(asked).await.into_iter();
    assert!(answers.next().unwrap().unwrap().changed);
    assert!(answers.all(|answer| refused(answer) == Refusal::Gone));
    assert_eq!(classes(&rig, id).await, [Class::Change, Class::Final, Class::Tombstone]);
}

async fn one_key_is_one_task_within_a_batch(store: Store) {
    let rig = Rig::start(store).await;
    let groups = rig.journal.groups();
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for kind in ["first", "a", "a", "b"] {
        let tracker = rig.tracker.clone();
        let (key, new) = (if kind == "first" { "other" } else { "key" }, new_task(&format!(r#"{{"kind":"{kind}"}}"#)));
        callers.spawn(async move { (kind, tracker.create(Uuid::now_v7(), new, Some(key)).await) });
        gate.reached().await;
        tokio::task::yield_now().await;
    }
    gate.release();
    let answers = callers.join_all().await;
    let of =
        |kind: &str| answers.iter().filter(|(of, _)| *of == kind).map(|(_, answer)| answer.clone()).collect::<Vec<_>>();
    let ids: Vec<Uuid> = of("a").into_iter().map(|answer| answer.unwrap().entry.unwrap().task.task_id).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(refused(of("b").remove(0)), Refusal::Mismatch);
    assert_eq!(rig.tracker.list(TaskFilter::default(), None, 10).await.unwrap().tasks.len(), 2);
    assert_eq!(rig.journal.groups(), groups + 2, "nobody had to be decided again");
}

async fn texts_to_a_user_do_not_merge(store: Store) {
    let rig = Rig::start(store).await;
    let user = ChannelName::user("alice").unwrap();
    let (_, mut watcher) = rig.tracker.watch(&user, Resume::First).await.unwrap();
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for nth in 0..5 {
        let (tracker, draft) = (rig.tracker.clone(), crate::people::message(&user, format!("{nth}").into()));
        callers.spawn(async move { tracker.append(vec![draft], None).await });
        gate.reached().await;
        tokio::task::yield_now().await;
    }
    gate.release();
    assert!(callers.join_all().await.into_iter().all(|answer| answer.unwrap().changed));
    for nth in 0..5 {
        let Delivery::Frame(frame) = watcher.next().await else { panic!("no frame") };
        assert_eq!(frame.event().draft.data, format!("{nth}"));
    }
}

on_each_store! {
    running {
        reports_on_one_task_make_one_tick_and_all_are_answered,
        different_tasks_do_not_merge,
        only_ticks_merge,
        a_life_within_one_batch,
        what_follows_a_deletion_in_its_batch_finds_nothing,
        one_key_is_one_task_within_a_batch,
        texts_to_a_user_do_not_merge,
    }
}
