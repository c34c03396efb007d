//! What this version cannot read stops its own channel, and nothing else.

use super::*;
use crate::{
    event::Class,
    people::{NewNotification, PeopleRefusal, UserIntent},
    topics::{broadcast, value},
};

/// A class that a newer version may have.
const NEW_CLASS: Class = Class::Unknown(99);

/// What a newer version may write: a status that this one does not know, or a class.
async fn paused(rig: &Rig, id: Uuid, class: Class) -> Group {
    let mut group = rig.foreign(id, &reported(r#"{"progress":50}"#)).await;
    for draft in &mut group.drafts {
        let text = String::from_utf8(draft.data.to_vec()).unwrap();
        let status = if class.is_known() { "paused" } else { "processing" };
        draft.data = text.replace("processing", status).into();
        draft.class = class;
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
    for class in [Class::Change, NEW_CLASS] {
        let rig = Rig::start(store).await;
        let (id, other) = (rig.started().await, rig.started().await);
        rig.journal.foreign_before_next_append(paused(&rig, id, class).await);
        rig.report(other, "{}").await.unwrap();
        check_others_go_on(&rig, id, other).await;
        let rig = rig.restarted().await;
        check_others_go_on(&rig, id, other).await;
    }
}

fn topic(name: &str) -> ChannelName {
    ChannelName::topic(name).unwrap()
}

impl Rig {
    /// Another node, of a newer version, writes to channels, and this one hears of it.
    async fn newer(&self, channels: &[&ChannelName], class: Class) {
        let drafts = channels.iter().map(|channel| Draft { class, ..value(channel, None, "{}".into()) });
        let (at, drafts) = (self.tracker.clock().now(), drafts.collect());
        assert!(self.journal.foreign(Group { id: Uuid::now_v7(), at, expects: Vec::new(), drafts }).await);
        self.made("{}").await;
    }

    async fn refuses_watchers(&self, channels: &[&ChannelName]) -> bool {
        let channels: Vec<_> = channels.iter().copied().cloned().collect();
        let watched = self.tracker.watch_several(&channels, &[], None, Resume::First).await.map(drop);
        let refusal = TrackerError::Refused(Refusal::Unreadable);
        watched.is_err_and(|error| error == crate::channel::WatchError::Load(refusal))
    }
}

async fn it_is_counted_until_its_channel_is_deleted(store: Store) {
    let rig = Rig::start(store).await;
    let schedules = ["schedule:a", "schedule:b"].map(|name| ChannelName::stored(name).unwrap());
    for class in [Class::Change, Class::Tick, NEW_CLASS] {
        rig.newer(&[&schedules[0], &schedules[1]], class).await;
        assert_eq!(rig.tracker.unreadable(), 2);
    }
    rig.newer(&[&topic("t"), &ChannelName::user("ann").unwrap()], NEW_CLASS).await;
    assert_eq!(rig.tracker.unreadable(), 4);
    rig.newer(&[&schedules[0]], Class::Tombstone).await;
    rig.tracker.delete_topic(&topic("t")).await.unwrap();
    assert_eq!(rig.tracker.unreadable(), 2);
}

async fn streams_end_where_something_cannot_be_shown(store: Store) {
    let rig = Rig::start(store).await;
    for name in ["t", "u"] {
        rig.tracker.append(vec![value(&topic(name), None, "{}".into())], None).await.unwrap();
    }
    let all = [ChannelName::all_topics().clone()];
    for lapses in [false, true] {
        let (_, mut theirs) = rig.tracker.watch(&topic("u"), Resume::First).await.unwrap();
        let (_, mut ended) = rig.tracker.watch(&topic("t"), Resume::First).await.unwrap();
        let (_, mut several) =
            rig.tracker.watch_several(&[topic("u"), topic("t")], &[], None, Resume::First).await.unwrap();
        let (_, mut of_all) = rig.tracker.watch_several(&all, &[], None, Resume::First).await.unwrap();
        let seen = rig.tracker.cursor(rig.tracker.head());
        if lapses {
            rig.journal.fail_next_append(JournalError::Lapsed);
        }
        rig.newer(&[&topic("t")], NEW_CLASS).await;
        rig.tracker.append(vec![broadcast(&topic("u"), None, "1".into())], None).await.unwrap();
        let ends = async { [ended.next().await, several.next().await, of_all.next().await] };
        let ends = tokio::time::timeout(Duration::from_secs(20), ends).await.expect("they end");
        for delivery in ends {
            assert!(matches!(delivery, Delivery::Interrupted | Delivery::Lapsed), "{delivery:?}");
        }
        assert!(matches!(theirs.next().await, Delivery::Frame(_)));

        assert!(rig.refuses_watchers(&[&topic("t")]).await);
        assert!(rig.refuses_watchers(&[&topic("u"), &topic("t")]).await);
        assert_eq!(rig.tracker.value(&topic("t")).await, Err(Refusal::Unreadable.into()));
        assert!(rig.tracker.value(&topic("u")).await.unwrap().is_some());
        // Who watches all topics is told that something is lacking, and goes on.
        let (joined, mut of_all) = rig.tracker.watch_several(&all, &[], None, Resume::After(seen)).await.unwrap();
        assert!(matches!(joined.channels[0].1, Join::Reset(None)), "{:?}", joined.channels);
        rig.tracker.append(vec![broadcast(&topic("u"), None, "2".into())], None).await.unwrap();
        let Delivery::Frame(frame) = of_all.next().await else { panic!("it goes on") };
        assert_eq!(frame.event().draft.data, "2");
        // Once the topic is deleted, it begins anew.
        rig.tracker.delete_topic(&topic("t")).await.unwrap();
        rig.tracker.append(vec![value(&topic("t"), None, "{}".into())], None).await.unwrap();
        assert!(!rig.refuses_watchers(&[&topic("t")]).await);
    }
}

async fn a_user_stays_known_and_no_notification_is_passed_over(store: Store) {
    let mut rig = Rig::start(store).await;
    let (user, inbox) = (ChannelName::user("ann").unwrap(), ChannelName::inbox("ann").unwrap());
    let note = NewNotification { title: "n".into(), ..NewNotification::default() };
    rig.tracker.notify(&user, note.clone()).await.unwrap();
    rig.newer(&[&inbox, &user], NEW_CLASS).await;
    rig.tracker.notify(&user, note).await.unwrap();
    for _ in 0..2 {
        let filter = InboxFilter { unread: false, before: None, limit: 10, bytes_max: 1_000 };
        assert_eq!(rig.tracker.inbox("ann", filter).await.unwrap_err(), PeopleRefusal::Unreadable.into());
        rig.tracker.ask_user(&user, UserIntent::Join(vec!["g".to_owned()].into_iter().collect())).await.unwrap();
        assert!(rig.tracker.user("ann").unwrap().groups.contains_key("g"));
        assert!(rig.refuses_watchers(&[&inbox]).await && rig.refuses_watchers(&[&user]).await);
        rig = rig.restarted().await;
    }
}

async fn it_is_left_by_the_sweeper_which_takes_the_others(store: Store) {
    let rig = Rig::start(store).await;
    let (theirs, ours) = (rig.started().await, rig.started().await);
    let mut archived = rig.foreign(theirs, &reported(r#"{"status":"completed"}"#)).await;
    archived.drafts[0].data =
        String::from_utf8(archived.drafts[0].data.to_vec()).unwrap().replace("completed", "archived").into();
    assert!(rig.journal.foreign(archived).await);
    rig.report(ours, r#"{"status":"completed"}"#).await.unwrap();
    let schedule = ChannelName::stored("schedule:a").unwrap();
    rig.newer(&[&schedule], Class::Final).await;
    let groups = ["new", "old"].map(|name| ChannelName::group(name).unwrap());
    rig.newer(&[&groups[0]], NEW_CLASS).await;
    rig.newer(&[&groups[1], &topic("quiet")], Class::Change).await;
    tokio::time::sleep(TOPIC_RETENTION + RETENTION * 2).await;
    assert!(matches!(rig.tracker.find(ours).await.unwrap(), Found::Unknown));
    assert_eq!(rig.tracker.find(theirs).await.unwrap_err(), Refusal::Unreadable.into());
    // What comes after it in the sweep is done, too.
    assert_eq!(rig.tracker.topics(None, 9, |_| true).0, []);
    let is_kept = async |channel| rig.journal.last(channel).await.unwrap().is_some_and(|stored| !stored.gone);
    assert!(is_kept(&schedule).await && is_kept(&groups[0]).await && !is_kept(&groups[1]).await);
}

on_each_store! {
    running {
        it_is_counted_until_its_channel_is_deleted,
        streams_end_where_something_cannot_be_shown,
        a_user_stays_known_and_no_notification_is_passed_over,
    }
    paused {
        it_stops_its_own_channel_only_also_after_a_restart,
        it_is_left_by_the_sweeper_which_takes_the_others,
    }
}
