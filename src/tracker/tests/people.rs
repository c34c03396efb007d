//! Users in the tracker: what is kept of them and for how long.

use super::*;
use crate::{
    event::ChannelKind,
    people::{NewNotification, Notification, PresenceStatus, UserIntent, message},
};

fn user(user_id: &str) -> ChannelName {
    ChannelName::user(user_id).unwrap()
}

fn note(title: &str) -> NewNotification {
    NewNotification { title: title.into(), ..NewNotification::default() }
}

async fn join(rig: &Rig, user_id: &str, groups: &[&str]) {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    rig.tracker.ask_user(&user(user_id), UserIntent::Join(groups)).await.unwrap();
}

async fn channels(rig: &Rig) -> Vec<String> {
    let mut names = Vec::new();
    for kind in [ChannelKind::User, ChannelKind::Inbox, ChannelKind::Group] {
        let live = rig.journal.live(kind, Seq::ZERO, 100).await.unwrap();
        names.extend(live.into_iter().map(|stored| stored.channel.to_string()));
    }
    names
}

#[tokio::test(start_paused = true)]
async fn a_user_is_the_same_after_a_restart() {
    let rig = Rig::start().await;
    let came = UserIntent::Presence(PresenceStatus::Connected, rig.tracker.clock().now());
    rig.tracker.ask_user(&user("ann"), came).await.unwrap();
    join(&rig, "ann", &["a", "b"]).await;
    rig.tracker.append(vec![message(&user("ann"), "text".into())], None).await.unwrap();
    rig.tracker.ask_user(&user("ann"), UserIntent::Read(None)).await.unwrap();
    rig.tracker.notify(&user("bob"), note("n")).await.unwrap();
    let known = |rig: &Rig| ["ann", "bob"].map(|user_id| rig.tracker.user(user_id).unwrap());
    let before = known(&rig);
    let rig = rig.restarted().await;
    assert_eq!(known(&rig), before);
    assert_eq!(rig.tracker.members("a", None, 10).len(), 1);
    // What is decided next is decided upon the last event of the channel.
    join(&rig, "ann", &["b"]).await;
    assert_eq!(rig.tracker.user("ann").unwrap().groups.keys().collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_had_texts_before_can_become_known_also_all_at_once() {
    let rig = Rig::start().await;
    let users: Vec<_> = (0..40).map(|nth| user(&format!("u{nth}"))).collect();
    for user in &users {
        rig.tracker.append(vec![message(user, "text".into())], None).await.unwrap();
    }
    let rig = rig.restarted().await;
    assert!(rig.tracker.user("u0").is_none());
    let now = rig.tracker.clock().now();
    let come =
        users.iter().map(|user| rig.tracker.ask_user(user, UserIntent::Presence(PresenceStatus::Connected, now)));
    for answer in futures_util::future::join_all(come).await {
        answer.unwrap();
    }
    assert_eq!(rig.tracker.users(None, 100, |(user_id, _)| Some(Arc::clone(user_id))).len(), 40);
}

#[tokio::test(start_paused = true)]
async fn who_was_away_for_long_is_forgotten_with_what_waited() {
    let rig = Rig::start().await;
    rig.tracker.notify(&user("ann"), note("n")).await.unwrap();
    join(&rig, "ann", &["a"]).await;
    rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("g")).await.unwrap();
    rig.tracker.append(vec![message(&user("never"), "text".into())], None).await.unwrap();
    assert_eq!(channels(&rig).await, ["user:ann", "user:never", "inbox:ann", "group:a"]);
    tokio::time::sleep(USER_RETENTION - Duration::from_secs(3_600)).await;
    rig.tracker.notify(&user("bob"), note("n")).await.unwrap();
    assert!(rig.tracker.user("ann").is_some());
    tokio::time::sleep(Duration::from_secs(3 * 3_600)).await;
    assert_eq!(channels(&rig).await, ["user:bob", "inbox:bob"]);
    assert!(rig.tracker.user("ann").is_none() && rig.tracker.members("a", None, 10).is_empty());
    // Nothing of before is theirs when they come back.
    rig.tracker.notify(&user("ann"), note("new")).await.unwrap();
    let rig = rig.restarted().await;
    let filter = InboxFilter { unread: false, before: None, limit: 10, bytes_max: 1_000 };
    assert_eq!(rig.tracker.inbox("ann", filter).await.unwrap().events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_whom_another_node_changed_is_decided_again() {
    let rig = Rig::start().await;
    join(&rig, "ann", &["a"]).await;
    // Another node makes her a member of b.
    let mut state = crate::people::UserState::clone(&rig.tracker.user("ann").unwrap());
    state.groups.insert("b".into(), rig.tracker.head());
    let memo = serde_json::to_vec(&state).unwrap();
    let draft =
        Draft { memo: Some(memo.into()), class: crate::event::Class::Hidden, ..message(&user("ann"), "".into()) };
    let group = Group { id: Uuid::now_v7(), at: rig.tracker.clock().now(), expects: Vec::new(), drafts: vec![draft] };
    rig.journal.foreign_before_next_append(group);
    rig.tracker.ask_user(&user("ann"), UserIntent::Seen(Seq(1))).await.unwrap();
    let known = rig.tracker.user("ann").unwrap();
    assert_eq!((known.seen, known.groups.len()), (Seq(1), 2), "neither is lost");
}

/// What another node does: bob joins the group a and is sent a message there.
fn joined_elsewhere(rig: &Rig) -> Group {
    let now = rig.tracker.clock().now();
    let mut bob = crate::people::UserState::new(now);
    bob.groups.insert("a".into(), rig.tracker.head());
    let memo = serde_json::to_vec(&bob).unwrap();
    let hidden =
        Draft { memo: Some(memo.into()), class: crate::event::Class::Hidden, ..message(&user("bob"), "".into()) };
    let told = Notification::new(note("to bob"), now).draft(ChannelName::group("a").unwrap());
    Group { id: Uuid::now_v7(), at: now, expects: Vec::new(), drafts: vec![hidden, told] }
}

async fn kept(rig: &Rig, group: &str) -> usize {
    rig.journal.read(&ChannelName::group(group).unwrap(), Seq::ZERO).await.unwrap().events.len()
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_to_a_group_without_members_is_forgotten() {
    let rig = Rig::start().await;
    let a = ChannelName::group("a").unwrap();
    join(&rig, "ann", &["a"]).await;
    rig.tracker.notify_group(&a, note("before")).await.unwrap();
    join(&rig, "ann", &[]).await;
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(channels(&rig).await, ["user:ann"]);
    // A group of the same name is another group.
    join(&rig, "ann", &["a"]).await;
    rig.tracker.notify_group(&a, note("after")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(kept(&rig, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_somebody_joins_elsewhere_as_it_is_left_keeps_its_messages() {
    let rig = Rig::start().await;
    join(&rig, "ann", &["a"]).await;
    rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("before")).await.unwrap();
    rig.journal.foreign_before_next_append(joined_elsewhere(&rig));
    join(&rig, "ann", &[]).await;
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(kept(&rig, "a").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_somebody_joins_elsewhere_as_it_is_swept_keeps_its_messages() {
    for is_known_before in [false, true] {
        let rig = Rig::start().await;
        join(&rig, "ann", &["a"]).await;
        rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("before")).await.unwrap();
        join(&rig, "ann", &[]).await;
        let group = joined_elsewhere(&rig);
        if is_known_before {
            // It is in the journal, and this node has not followed it.
            rig.journal.foreign(group);
        } else {
            rig.journal.foreign_before_next_append(group);
        }
        tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
        assert_eq!(kept(&rig, "a").await, 2, "{is_known_before}");
    }
}
