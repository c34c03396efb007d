//! A node that has not heard yet of what another one has written: what it answers must be true all the same.

use std::task::{Context, Poll, Waker};

use super::{nodes::node, *};
use crate::{
    people::{NewNotification, UserIntent},
    testing::{LostAnswer, MemoryJournal},
    topics::value,
};

/// Two nodes, the second of which knows what the first one did `before`, and hears of nothing else by itself.
async fn apart(before: impl AsyncFnOnce(&Rig)) -> (Rig, Rig) {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    before(&a).await;
    let head = a.tracker.head();
    b.hears(|b| b.tracker.head() >= head).await;
    b.journal.deafen(true);
    (a, b)
}

fn user(name: &str) -> ChannelName {
    ChannelName::user(name).unwrap()
}

fn topic(name: &str) -> ChannelName {
    ChannelName::topic(name).unwrap()
}

impl Rig {
    async fn joins(&self, name: &str, groups: &[&str]) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.tracker.ask_user(&user(name), UserIntent::Join(groups)).await.unwrap();
    }

    async fn sends(&self, group: &str) -> Seq {
        let note = NewNotification { title: "t".into(), ..NewNotification::default() };
        self.tracker.notify_group(&ChannelName::group(group).unwrap(), note).await.unwrap().1
    }

    async fn publishes(&self, name: &str) -> Seq {
        self.tracker.append(vec![value(&topic(name), None, "{}".into())], None).await.unwrap().seq
    }

    async fn watches_all(&self, after: Seq) -> (Join, MemberWatcher) {
        let resume = Resume::After(self.tracker.cursor(after));
        let all = [ChannelName::all_topics().clone()];
        let (mut joined, watcher) = self.tracker.watch_several(&all, &[], None, resume).await.unwrap();
        (joined.channels.remove(0).1, watcher)
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_sent_to_when_its_members_are_known_elsewhere_only() {
    let (a, b) = apart(async |_| {}).await;
    a.joins("ann", &["g"]).await;
    let sent = b.sends("g").await;
    let history = a.journal.read(&ChannelName::group("g").unwrap(), Seq::ZERO).await.unwrap();
    assert_eq!(history.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [sent]);
    assert_eq!(b.tracker.members("g", None, 9).len(), 1, "the answer counts her");
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_given_nothing_that_was_sent_before() {
    let (a, b) = apart(async |a| a.joins("ann", &["g"]).await).await;
    let before = a.sends("g").await;
    b.joins("ben", &["g"]).await;
    assert!(b.user("ben").groups["g"] >= before);
}

#[tokio::test(start_paused = true)]
async fn who_left_a_group_elsewhere_can_join_it_again() {
    let (a, b) = apart(async |a| a.joins("ann", &["g"]).await).await;
    a.joins("ann", &[]).await;
    b.joins("ann", &["g"]).await;
    a.hears(|a| a.user("ann").groups.contains_key("g")).await;
}

#[tokio::test(start_paused = true)]
async fn all_that_is_read_is_all_that_was_sent() {
    let (a, b) = apart(async |a| a.joins("ann", &[]).await).await;
    let note = NewNotification { title: "t".into(), ..NewNotification::default() };
    let (_, sent) = a.tracker.notify(&user("ann"), note).await.unwrap();
    b.tracker.ask_user(&user("ann"), UserIntent::Read(None)).await.unwrap();
    assert!(b.user("ann").read >= sent);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_upon_what_is_not_so_any_more() {
    let id = Uuid::now_v7();
    let started = async |a: &Rig| drop(a.tracker.create(id, new_task(r#"{"start":true}"#), None).await.unwrap());
    let (a, b) = apart(started).await;
    a.publishes("t").await;
    a.report(id, r#"{"status":"completed"}"#).await.unwrap();
    let topic = topic("t");
    let (deleted, forgotten) = tokio::join!(b.tracker.submit(id, Intent::Delete), b.tracker.delete_topic(&topic));
    deleted.unwrap();
    forgotten.unwrap();
    assert_eq!(b.tracker.delete_topic(&topic).await, Err(TopicRefusal::NotFound.into()));
    assert_eq!(refused(b.report(id, r#"{"progress":1}"#).await), Refusal::Gone);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_not_to_be_there_while_the_store_is_away() {
    let (a, b) = apart(async |_| {}).await;
    b.journal.cut(true);
    a.publishes("t").await;
    a.joins("ann", &["g"]).await;
    let is_away = |error| matches!(error, TrackerError::Unavailable(_));
    assert!(is_away(b.tracker.delete_topic(&topic("t")).await.unwrap_err()));
    assert!(is_away(b.tracker.find_user("ann").await.unwrap_err()));
    assert!(is_away(b.tracker.is_member("ann", "g").await.unwrap_err()));
    let group = ChannelName::group("g").unwrap();
    assert!(is_away(b.tracker.notify_group(&group, NewNotification::default()).await.unwrap_err()));
    b.journal.cut(false);
    assert!(b.tracker.is_member("ann", "g").await.unwrap());
    assert_eq!(b.tracker.find_user("ben").await.unwrap_err(), PeopleRefusal::NoUser.into());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_not_taken_for_one_that_tells_nothing_new() {
    let (a, b) = apart(async |_| {}).await;
    a.joins("ann", &["g"]).await;
    let group = ChannelName::group("g").unwrap();
    b.journal.lose_next_answer(LostAnswer::Committed);
    let sent = b.sends("g").await;
    assert_eq!(a.journal.read(&group, Seq::ZERO).await.unwrap().events[0].seq, sent);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_node_hides_no_new_topic() {
    let (a, b) = apart(async |a| assert!(a.publishes("known").await > Seq::ZERO)).await;
    let from = a.publishes("known").await;
    let missed = [a.publishes("new").await, a.publishes("known").await];
    let (first, _first) = b.watches_all(missed[1]).await;
    let (second, mut watcher) = b.watches_all(from).await;
    assert!(matches!((&first, &second), (Join::Resumed, Join::Resumed)), "{first:?} {second:?}");
    let mut given = Vec::new();
    while let Poll::Ready(Delivery::Frame(frame)) = watcher.poll_next(&mut Context::from_waker(Waker::noop())) {
        given.push(frame.seq());
    }
    assert_eq!(given, missed);
}

#[tokio::test(start_paused = true)]
async fn a_live_list_goes_on_from_the_cursor_of_another_node() {
    let (a, b) = apart(async |_| {}).await;
    let id = a.started().await;
    let told = a.report(id, r#"{"progress":40}"#).await.unwrap().seq;
    for (ahead, expected) in [(0, ListJoin::Resumed), (1, ListJoin::Reset)] {
        let resume = Resume::After(b.tracker.cursor(Seq(told.0 + ahead)));
        assert_eq!(b.tracker.watch_list(TaskFilter::default(), resume).await.unwrap().0, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_task_is_used_where_it_is_enough() {
    let id = Uuid::now_v7();
    let started = async |a: &Rig| drop(a.tracker.create(id, new_task(r#"{"start":true}"#), None).await.unwrap());
    let (a, b) = apart(started).await;
    a.report(id, r#"{"status":"completed"}"#).await.unwrap();
    let status = async |enough: bool| {
        let found = b.tracker.find_enough(id, |_| enough).await.unwrap();
        found.entry().unwrap().task.status
    };
    assert_eq!((status(true).await, status(false).await), (Status::Processing, Status::Completed));
}
