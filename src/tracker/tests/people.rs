//! Users in the tracker: what is kept of them and for how long.

use super::*;
use crate::{
    event::{ChannelKind, Class},
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

async fn a_user_is_the_same_after_a_restart(store: Store) {
    let rig = Rig::start(store).await;
    let came = UserIntent::Presence(PresenceStatus::Connected, rig.tracker.clock().now(), None);
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

async fn one_who_had_texts_before_can_become_known_also_all_at_once(store: Store) {
    let rig = Rig::start(store).await;
    let users: Vec<_> = (0..40).map(|nth| user(&format!("u{nth}"))).collect();
    for user in &users {
        rig.tracker.append(vec![message(user, "text".into())], None).await.unwrap();
    }
    let rig = rig.restarted().await;
    assert!(rig.tracker.user("u0").is_none());
    let now = rig.tracker.clock().now();
    let come =
        users.iter().map(|user| rig.tracker.ask_user(user, UserIntent::Presence(PresenceStatus::Connected, now, None)));
    for answer in futures_util::future::join_all(come).await {
        answer.unwrap();
    }
    assert_eq!(rig.tracker.users(None, 100, |(user_id, _)| Some(Arc::clone(user_id))).len(), 40);
}

async fn who_was_away_for_long_is_forgotten_with_what_waited(store: Store) {
    let rig = Rig::start(store).await;
    rig.tracker.notify(&user("ann"), note("n")).await.unwrap();
    join(&rig, "ann", &["a"]).await;
    rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("g")).await.unwrap();
    // Not just when it is looked for.
    tokio::time::sleep(Duration::from_millis(5)).await;
    rig.tracker.append(vec![message(&user("never"), "text".into())], None).await.unwrap();
    assert_eq!(channels(&rig).await, ["user:ann", "user:never", "inbox:ann", "group:a"]);
    tokio::time::sleep(USER_RETENTION - Duration::from_secs(3_600)).await;
    rig.tracker.notify(&user("bob"), note("n")).await.unwrap();
    assert!(rig.tracker.user("ann").is_some());
    assert!(channels(&rig).await.contains(&"user:never".to_owned()));
    tokio::time::sleep(Duration::from_secs(3 * 3_600)).await;
    assert_eq!(channels(&rig).await, ["user:bob", "inbox:bob"]);
    assert!(rig.tracker.user("ann").is_none() && rig.tracker.members("a", None, 10).is_empty());
    // Nothing of before is theirs when they come back.
    rig.tracker.notify(&user("ann"), note("new")).await.unwrap();
    let rig = rig.restarted().await;
    let filter = InboxFilter { unread: false, before: None, limit: 10, bytes_max: 1_000 };
    assert_eq!(rig.tracker.inbox("ann", filter).await.unwrap().events.len(), 1);
}

async fn a_user_whom_another_node_changed_is_decided_again(store: Store) {
    let rig = Rig::start(store).await;
    join(&rig, "ann", &["a"]).await;
    // Another node makes her a member of b.
    let mut state = crate::people::UserState::clone(&rig.tracker.user("ann").unwrap());
    state.groups.insert("b".into(), rig.tracker.head());
    let memo = serde_json::to_vec(&state).unwrap();
    let draft = Draft { memo: Some(memo.into()), class: Class::Hidden, ..message(&user("ann"), "".into()) };
    let group = Group { id: Uuid::now_v7(), at: rig.tracker.clock().now(), expects: Vec::new(), drafts: vec![draft] };
    rig.journal.foreign_before_next_append(group);
    rig.tracker.ask_user(&user("ann"), UserIntent::Seen(Seq(1))).await.unwrap();
    let known = rig.tracker.user("ann").unwrap();
    assert_eq!((known.seen, known.groups.len()), (Seq(1), 2), "neither is lost");
}

async fn a_user_who_comes_to_another_node_as_they_are_forgotten_stays(store: Store) {
    let rig = Rig::start(store).await;
    join(&rig, "ann", &["a"]).await;
    let now = rig.tracker.clock().now();
    let mut state = crate::people::UserState::clone(&rig.tracker.user("ann").unwrap());
    state.status = crate::people::PresenceStatus::Connected;
    let memo = serde_json::to_vec(&state).unwrap();
    let draft = Draft { memo: Some(memo.into()), class: Class::Hidden, ..message(&user("ann"), "".into()) };
    let group = Group { id: Uuid::now_v7(), at: now, expects: Vec::new(), drafts: vec![draft] };
    rig.journal.foreign_before_next_append(group);
    rig.tracker.ask_user(&user("ann"), UserIntent::Forget(now + USER_RETENTION)).await.unwrap();
    assert!(rig.tracker.user("ann").is_some());
    assert!(channels(&rig).await.contains(&"user:ann".to_owned()));
}

async fn notifications_are_trimmed_by_their_age(store: Store) {
    let rig = Rig::start(store).await;
    join(&rig, "ann", &["a"]).await;
    let inbox = ChannelName::inbox("ann").unwrap();
    let kept = async || {
        let kept = rig.journal.read_many(&[inbox.clone(), ChannelName::group("a").unwrap()]).await.unwrap();
        kept.iter().map(|history| history.events.len()).collect::<Vec<_>>()
    };
    rig.tracker.notify(&user("ann"), note("old")).await.unwrap();
    rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("old")).await.unwrap();
    // So that she is not forgotten herself.
    for _ in 0..4 {
        tokio::time::sleep(INBOX_MAX_AGE / 4).await;
        for status in [PresenceStatus::Connected, PresenceStatus::Disconnected] {
            let presence = UserIntent::Presence(status, rig.tracker.clock().now(), None);
            rig.tracker.ask_user(&user("ann"), presence).await.unwrap();
        }
    }
    rig.tracker.notify(&user("ann"), note("new")).await.unwrap();
    assert_eq!(kept().await, [2, 1]);
    tokio::time::sleep(Duration::from_secs(3_601)).await;
    assert_eq!(kept().await, [1, 0]);
}

/// What another node does: bob joins the group a and is sent a message there.
fn joined_elsewhere(rig: &Rig) -> Group {
    let now = rig.tracker.clock().now();
    let mut bob = crate::people::UserState::new(now);
    bob.groups.insert("a".into(), rig.tracker.head());
    let memo = serde_json::to_vec(&bob).unwrap();
    let hidden = Draft { memo: Some(memo.into()), class: Class::Hidden, ..message(&user("bob"), "".into()) };
    let told = Notification::new(note("to bob"), now).draft(ChannelName::group("a").unwrap());
    Group { id: Uuid::now_v7(), at: now, expects: Vec::new(), drafts: vec![hidden, told] }
}

async fn kept(rig: &Rig, group: &str) -> usize {
    rig.journal.read(&ChannelName::group(group).unwrap(), Seq::ZERO).await.unwrap().events.len()
}

async fn what_was_sent_to_a_group_without_members_is_forgotten(store: Store) {
    let rig = Rig::start(store).await;
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

async fn a_group_that_somebody_joins_elsewhere_as_it_is_left_keeps_its_messages(store: Store) {
    let rig = Rig::start(store).await;
    join(&rig, "ann", &["a"]).await;
    rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("before")).await.unwrap();
    rig.journal.foreign_before_next_append(joined_elsewhere(&rig));
    join(&rig, "ann", &[]).await;
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(kept(&rig, "a").await, 2);
}

async fn a_group_that_somebody_joins_elsewhere_as_it_is_swept_keeps_its_messages(store: Store) {
    for is_known_before in [false, true] {
        let rig = Rig::start(store).await;
        join(&rig, "ann", &["a"]).await;
        rig.tracker.notify_group(&ChannelName::group("a").unwrap(), note("before")).await.unwrap();
        join(&rig, "ann", &[]).await;
        let group = joined_elsewhere(&rig);
        if is_known_before {
            // It is in the journal, and this node has not followed it.
            rig.journal.foreign(group).await;
        } else {
            rig.journal.foreign_before_next_append(group);
        }
        tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
        assert_eq!(kept(&rig, "a").await, 2, "{is_known_before}");
    }
}

async fn a_page_of_an_inbox_is_bounded_in_count_and_in_bytes(store: Store) {
    let rig = Rig::start(store).await;
    for nth in 0..5 {
        rig.tracker.notify(&user("ann"), note(&nth.to_string())).await.unwrap();
    }
    let page = async |before, limit, bytes_max| {
        let filter = InboxFilter { unread: false, before, limit, bytes_max };
        let page = rig.tracker.inbox("ann", filter).await.unwrap();
        (page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), page.next, page.unread)
    };
    let (all, next, unread) = page(None, 10, usize::MAX).await;
    assert_eq!((all.len(), next, unread), (5, None, 5));
    assert_eq!(page(None, 2, usize::MAX).await, (all[..2].to_vec(), Some(all[1]), 5));
    assert_eq!(page(Some(all[1]), 10, usize::MAX).await, (all[2..].to_vec(), None, 5));
    let size_bytes = rig.events().await.iter().find(|event| event.seq == all[0]).unwrap().draft.data.len();
    assert_eq!(page(None, 10, size_bytes * 3).await, (all[..3].to_vec(), Some(all[2]), 5));
    assert_eq!(page(None, 10, 1).await, (all[..1].to_vec(), Some(all[0]), 5), "one at least");
    rig.tracker.ask_user(&user("ann"), UserIntent::Read(Some(all[3]))).await.unwrap();
    assert_eq!(page(None, 10, usize::MAX).await.2, 3);
}

async fn the_users_and_members_of_one_batch_count(store: Store) {
    let rig = Rig::start(store).await;
    join(&rig, "ann", &["a"]).await;
    let group = ChannelName::group("a").unwrap();
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    let blocking = rig.tracker.clone();
    callers.spawn(async move { blocking.append(vec![message(&user("nobody"), "text".into())], None).await.map(drop) });
    gate.reached().await;
    // In one batch: she leaves, and what is sent then is for nobody; he joins, and it is for him.
    let leave = UserIntent::Join(Default::default());
    let come = UserIntent::Join(["a".to_owned()].into());
    for (who, intent) in [("ann", Some(leave)), ("", None), ("bob", Some(come)), ("", None)] {
        let (tracker, group) = (rig.tracker.clone(), group.clone());
        callers.spawn(async move {
            match intent {
                Some(intent) => tracker.ask_user(&user(who), intent).await.map(drop),
                None => tracker.notify_group(&group, note("g")).await.map(drop),
            }
        });
        tokio::task::yield_now().await;
    }
    gate.release();
    callers.join_all().await.into_iter().for_each(|answer| answer.unwrap());
    let sent =
        rig.events().await.iter().filter(|event| *event.channel() == group && event.class() == Class::Notice).count();
    assert_eq!(sent, 1);
}

on_each_store! {
    paused {
        a_user_is_the_same_after_a_restart,
        one_who_had_texts_before_can_become_known_also_all_at_once,
        who_was_away_for_long_is_forgotten_with_what_waited,
        a_user_whom_another_node_changed_is_decided_again,
        a_user_who_comes_to_another_node_as_they_are_forgotten_stays,
        notifications_are_trimmed_by_their_age,
        a_group_that_somebody_joins_elsewhere_as_it_is_swept_keeps_its_messages,
        a_group_that_somebody_joins_elsewhere_as_it_is_left_keeps_its_messages,
        what_was_sent_to_a_group_without_members_is_forgotten,
        a_page_of_an_inbox_is_bounded_in_count_and_in_bytes,
        the_users_and_members_of_one_batch_count,
    }
}
