//! Several nodes on one store: who lives, who is connected, and what becomes of the jobs of a node that is gone.

use std::{collections::BTreeSet, iter, sync::Arc};

use super::*;
use crate::{
    event::{Class, Timestamp},
    nodes::NODE_LEASE,
    people::{self, NewNotification, PresenceStatus, UserIntent, UserState},
    task::{Lease, Payload, Report},
    testing::MemoryJournal,
};

/// A dead node is noticed within this.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
const JOB_LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn node(store: &MemoryJournal, name: &str) -> Rig {
    node_with(POLICY, store, name, Clock::runtime()).await
}

async fn node_with(policy: Policy, store: &MemoryJournal, name: &str, clock: Clock) -> Rig {
    let store: Arc<dyn TestStore> = store.on_node(name).into_store();
    Rig::with(policy, FaultyJournal::around(store), 4_096, clock).await
}

impl Rig {
    async fn says(&self, user: &str, status: PresenceStatus) {
        let (tracker, user) = (&self.tracker, ChannelName::user(user).unwrap());
        let node = tracker.node().map(Arc::from);
        tracker.ask_user(&user, UserIntent::Presence(status, tracker.clock().now(), node)).await.unwrap();
    }

    /// A task that a job on this node works on, and that stays its as long as the guard is there.
    async fn job(&self, new: &str) -> (Uuid, LeaseGuard) {
        let (id, token) = (Uuid::now_v7(), Uuid::new_v4());
        let guard = self.tracker.hold_lease(token, JOB_LEASE);
        let holder = self.tracker.node().map(Lease::holder_on).unwrap();
        let lease = Lease { holder, token, expires_at: self.tracker.clock().now() + JOB_LEASE };
        self.tracker.create_claimed(id, new_task(new), lease).await.unwrap();
        (id, guard)
    }

    pub(super) async fn hears(&self, is_so: impl Fn(&Self) -> bool) -> Duration {
        let started = tokio::time::Instant::now();
        while !is_so(self) {
            assert!(started.elapsed() < Duration::from_secs(120), "it never hears of it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        started.elapsed()
    }

    pub(super) fn user(&self, user: &str) -> Arc<UserState> {
        self.tracker.user(user).unwrap()
    }

    fn is_connected(&self, user: &str) -> bool {
        self.user(user).status == PresenceStatus::Connected
    }

    fn living(&self) -> Vec<String> {
        let (nodes, now) = (self.tracker.shared.nodes(), self.tracker.clock().now());
        nodes.living(now).into_iter().map(ToString::to_string).collect()
    }

    fn conflicts(&self) -> u64 {
        self.tracker.shared.metrics.conflicts.get()
    }

    /// What was told of a user on the topic of presence.
    async fn told(&self, user: &str) -> Vec<String> {
        let events = self.events().await.into_iter().filter(|event| event.channel().to_string() == "topic:presence");
        let told = events.map(|event| serde_json::from_slice::<serde_json::Value>(&event.draft.data).unwrap());
        let of_user = told.filter(|told| told["userId"] == user);
        of_user.map(|told| told["status"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_connected_until_all_nodes_say_otherwise() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    a.says("ann", PresenceStatus::Connected).await;
    b.says("ann", PresenceStatus::Connected).await;
    a.says("ann", PresenceStatus::Disconnected).await;
    a.hears(|a| a.user("ann").nodes == BTreeSet::from(["b".into()])).await;
    assert!(a.is_connected("ann"));
    b.says("ann", PresenceStatus::Disconnected).await;
    assert!(!b.is_connected("ann"));
    assert_eq!(a.told("ann").await, ["connected", "disconnected"], "only what changes is told");
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_loses_its_users_and_jobs_and_no_other_does() {
    let store = MemoryJournal::new();
    let (a, b, c) = (node(&store, "a").await, node(&store, "b").await, node(&store, "c").await);
    tokio::time::sleep(NODE_LEASE).await;
    for (node, user) in [(&a, "ann"), (&b, "ben"), (&a, "both"), (&b, "both")] {
        node.says(user, PresenceStatus::Connected).await;
    }
    let (lost, _lost) = a.job("{}").await;
    let (again, _again) = a.job(r#"{"maxAttempts":2}"#).await;
    let (kept, _kept) = b.job("{}").await;
    let theirs = Lease { holder: "a".into(), token: Uuid::new_v4(), expires_at: b.tracker.clock().now() + JOB_LEASE };
    let worked_on = Uuid::now_v7();
    b.tracker.create_claimed(worked_on, new_task("{}"), theirs).await.unwrap();
    b.hears(|b| b.tracker.live(again).is_some()).await;

    a.journal.cut(true);
    let noticed = b.hears(|b| !b.is_connected("ann") && b.tracker.live(lost).is_none()).await;
    assert!(noticed <= NOTICED_WITHIN, "{noticed:?}");
    b.hears(|b| b.tracker.live(again).unwrap().task.status == Status::Pending).await;
    assert_eq!(b.task(lost).await.task.error.unwrap().code, "worker_lost");
    assert_eq!(b.task(again).await.task.attempt, 2);
    assert_eq!(c.living(), ["b", "c"]);
    assert!(b.is_connected("ben") && b.is_connected("both"));
    assert_eq!((b.status(kept).await, b.status(worked_on).await), (Status::Processing, Status::Processing));
    assert_eq!(b.told("ann").await, ["connected", "disconnected"]);

    // It comes back: it hears what it has lost, and that what the store says of its users is to be looked at.
    let mut doubted = a.tracker.presence().unwrap();
    doubted.mark_unchanged();
    assert!(a.tracker.is_present(), "it does not know yet");
    a.journal.cut(false);
    a.hears(|a| a.living() == ["b", "c", "a"]).await;
    assert!(doubted.has_changed().unwrap() && a.tracker.is_present());
    assert!(!a.is_connected("ann") && a.tracker.live(lost).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_stops_in_order_is_gone_at_once() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    tokio::time::sleep(NODE_LEASE).await;
    a.says("ann", PresenceStatus::Connected).await;
    b.hears(|b| b.living() == ["a", "b"]).await;
    assert!(a.stage.end(Duration::from_secs(60)).await);
    assert!(b.hears(|b| b.living() == ["b"]).await < SECOND);
    // It could not say this any more.
    assert!(b.hears(|b| !b.is_connected("ann")).await <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_away_for_all_makes_nobody_dead() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    tokio::time::sleep(2 * NODE_LEASE).await;
    a.says("ann", PresenceStatus::Connected).await;
    b.says("ben", PresenceStatus::Connected).await;
    let ((of_a, _a), (of_b, _b)) = (a.job("{}").await, b.job("{}").await);
    for (away, ahead) in [(8, 0), (20, 0), (60, 3), (20, 8)] {
        a.journal.cut(true);
        b.journal.cut(true);
        tokio::time::sleep(Duration::from_secs(away)).await;
        a.journal.cut(false);
        tokio::time::sleep(Duration::from_secs(ahead)).await;
        b.journal.cut(false);
        tokio::time::sleep(4 * NODE_LEASE).await;
        assert_eq!(a.living(), ["a", "b"]);
    }
    assert_eq!((a.status(of_a).await, b.status(of_b).await), (Status::Processing, Status::Processing));
    for user in ["ann", "ben"] {
        assert_eq!(a.told(user).await, ["connected"]);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_stays_connected_when_all_nodes_start_anew() {
    let store = MemoryJournal::new();
    let a = node(&store, "a").await;
    for user in ["ann", "ben"] {
        a.says(user, PresenceStatus::Connected).await;
    }
    let (lost, guard) = a.job("{}").await;
    // Before there were nodes, or in another kind of store.
    let old = people::message(&ChannelName::user("old").unwrap(), bytes::Bytes::new());
    let old = Draft {
        class: Class::Hidden,
        memo: Some(r#"{"status":"connected","since":"2026-01-01T00:00:00Z"}"#.into()),
        ..old
    };
    a.journal
        .foreign(Group { id: Uuid::nil(), at: Timestamp::default(), expects: Vec::new(), drafts: vec![old] })
        .await;
    a.journal.cut(true);
    drop((a, guard));
    let b = node(&store, "b").await;
    let noticed = b.hears(|b| !["ann", "ben", "old"].iter().any(|user| b.is_connected(user))).await;
    assert!(noticed <= NOTICED_WITHIN, "{noticed:?}");
    assert_eq!(b.task(lost).await.task.error.unwrap().code, "worker_lost");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_wrong_does_no_harm_and_comes_to_none() {
    let store = MemoryJournal::new();
    let [ahead, behind] = [3_600_000, -3_600_000].map(|step_ms| {
        let clock = Clock::runtime();
        clock.step(step_ms);
        clock
    });
    let a = node_with(POLICY, &store, "a", ahead.clone()).await;
    let (b, c) = (node(&store, "b").await, node_with(POLICY, &store, "c", behind).await);
    let made_at = a.tracker.clock().now();
    assert!(made_at.since(Timestamp::now()) < Duration::from_secs(60), "it tells the time of the store");
    let ((of_a, _a), (of_b, _b)) = (a.job("{}").await, b.job("{}").await);
    a.says("ann", PresenceStatus::Connected).await;
    b.says("ben", PresenceStatus::Connected).await;
    for _ in 0..3 {
        tokio::time::sleep(NODE_LEASE).await;
        // While it runs, too.
        ahead.step(3_600_000);
    }
    assert_eq!(b.living(), ["a", "b", "c"]);
    assert_eq!((c.status(of_a).await, c.status(of_b).await), (Status::Processing, Status::Processing));
    assert!(c.is_connected("ann") && c.is_connected("ben"));
    // One who is dead is noticed, whoever looks.
    b.journal.cut(true);
    assert!(a.hears(|a| !a.is_connected("ben")).await <= NOTICED_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn timers_are_mostly_seen_to_by_one_node() {
    let store = MemoryJournal::new();
    let nodes = [node(&store, "a").await, node(&store, "b").await, node(&store, "c").await];
    tokio::time::sleep(NODE_LEASE).await;
    let mut tasks = Vec::new();
    for number in 0..300 {
        tasks.push(nodes[number % 3].started().await);
    }
    tokio::time::sleep(STALLED_AFTER + 5 * SECOND).await;
    for task in tasks {
        assert!(nodes[0].task(task).await.task.stalled);
    }
    let conflicts = nodes.each_ref().map(Rig::conflicts);
    assert_eq!(conflicts, [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_embedded_store_is_left_in_peace() {
    let rig = Rig::start(Store::Memory).await;
    let appends = rig.journal.appends();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((rig.journal.appends(), rig.events().await), (appends, vec![]));
    assert!(rig.tracker.is_present() && rig.tracker.presence().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_user_has_no_more_tasks_than_they_may_whichever_nodes_make_them() {
    let store = MemoryJournal::new();
    let policy = Policy { live_tasks_per_user_max: 10, ..POLICY };
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(node_with(policy, &store, name, Clock::runtime()).await);
    }
    let make = |node: usize| {
        let tracker = nodes[node].tracker.clone();
        async move { tracker.create(Uuid::now_v7(), new_task(r#"{"userId":"ann"}"#), None).await }
    };
    let made = futures_util::future::join_all((0..30).map(|number| make(number % 3))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (10, 20));
    let too_many = Refusal::TooManyTasks { setting: "max-live-tasks-per-user", most: 10 };
    assert!(refused.into_iter().all(|answer| super::refused(answer) == too_many));
    // It makes nobody known.
    assert!(nodes.iter().all(|node| node.tracker.user("ann").is_none()));
    let first = made.into_iter().next().unwrap().unwrap().entry.unwrap().task.task_id;
    nodes[1].tracker.submit(first, Intent::Cancel).await.unwrap();
    make(1).await.unwrap();
    assert_eq!(super::refused(make(1).await), too_many);
}

#[tokio::test(start_paused = true)]
async fn one_key_is_one_task_and_one_notification_whichever_nodes_are_asked() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let made = |rig: &Rig| {
        let tracker = rig.tracker.clone();
        async move { tracker.create(Uuid::now_v7(), new_task("{}"), Some("key")).await.unwrap().entry.unwrap() }
    };
    let made = tokio::join!(made(&a), made(&b));
    assert_eq!(made.0.task.task_id, made.1.task.task_id);
    let ann = ChannelName::user("ann").unwrap();
    let new = NewNotification { id: Some("1".into()), title: "t".into(), ..NewNotification::default() };
    let (one, two) = tokio::join!(a.tracker.notify(&ann, new.clone()), b.tracker.notify(&ann, new));
    assert_eq!(one.unwrap().1, two.unwrap().1);
    let inbox = a.journal.read(&ChannelName::inbox("ann").unwrap(), Seq::ZERO).await.unwrap();
    assert_eq!(inbox.events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn counts_and_lists_follow_what_another_node_deletes() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let id = a.finished().await;
    let completed = |b: &Rig| b.tracker.counts()[Status::Completed as usize];
    b.hears(|b| completed(b) == 1).await;
    assert!(b.tracker.live(id).is_none(), "it has left memory");
    let filter = TaskFilter { statuses: vec![Status::Completed], ..TaskFilter::default() };
    let (_, mut list) = b.tracker.watch_list(filter, Resume::First).await.unwrap();
    a.tracker.submit(id, Intent::Delete).await.unwrap();
    b.hears(|b| completed(b) == 0).await;
    let told = std::future::poll_fn(|context| crate::channel::Watch::poll_next(&mut list, context)).await;
    let Delivery::Bytes(told) = told else { panic!("{told:?}") };
    let removed = format!("event: removed\ndata: {{\"taskId\":\"{id}\"");
    assert!(String::from_utf8_lossy(&told).contains(&removed), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn groups_marks_and_cancels_hold_whichever_nodes_are_asked() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let (ann, group) = (ChannelName::user("ann").unwrap(), ChannelName::group("g").unwrap());
    let join = |groups: &[&str]| UserIntent::Join(groups.iter().map(|group| (*group).to_owned()).collect());
    let (joined, read) =
        tokio::join!(a.tracker.ask_user(&ann, join(&["g"])), b.tracker.ask_user(&ann, UserIntent::Seen(Seq(1))));
    joined.unwrap();
    // Whoever was second was decided upon the first.
    assert!(read.is_err() || b.user("ann").seen == Seq(1));
    let note = NewNotification { title: "t".into(), ..NewNotification::default() };
    let (_, sent) = b.tracker.notify_group(&group, note).await.unwrap();
    assert!(sent > b.user("ann").groups["g"], "it is theirs");
    a.hears(|a| a.tracker.head() >= sent).await;
    a.tracker.ask_user(&ann, UserIntent::Read(None)).await.unwrap();
    b.hears(|b| b.user("ann").read >= sent).await;

    let (id, guard) = a.job("{}").await;
    b.hears(|b| b.tracker.live(id).is_some()).await;
    b.tracker.submit(id, Intent::Cancel).await.unwrap();
    tokio::time::timeout(SECOND, guard.taken()).await.expect("its holder is told");
    assert_eq!(a.tracker.live(id).unwrap().task.status, Status::Cancelling);
}

#[tokio::test(start_paused = true)]
async fn who_takes_much_from_a_dead_node_still_lives_and_spares_who_enters() {
    for users in [300, 8_000] {
        takes_over(users).await;
    }
}

async fn takes_over(users: usize) {
    let store = MemoryJournal::new();
    let (b, c, a) = (node(&store, "b").await, node(&store, "c").await, node(&store, "a").await);
    tokio::time::sleep(NODE_LEASE).await;
    let users: Vec<_> = (0..users).map(|number| format!("u{number:04}")).collect();
    for some in users.chunks(1_000) {
        futures_util::future::join_all(some.iter().map(|user| a.says(user, PresenceStatus::Connected))).await;
    }
    b.hears(|b| b.tracker.users(None, usize::MAX, |_| Some(())).len() == users.len()).await;
    let since = |rig: &Rig| rig.tracker.shared.nodes().lease("b").map(|lease| lease.since);
    let (before, (told, mut begins)) = (since(&c), tokio::sync::watch::channel(false));

    a.journal.cut(true);
    // Each append of this node takes its time.
    let slow = b.journal.clone();
    b.journal.before_append(move |_, groups| {
        let gate = slow.hold_appends();
        drop(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            gate.release();
        }));
        told.send_if_modified(|begins| groups.len() > 100 && !std::mem::replace(begins, true));
        Ok(())
    });
    begins.changed().await.unwrap();
    let e = node(&store, "e").await;
    let (job, _guard) = e.job("{}").await;
    e.says("zoe", PresenceStatus::Connected).await;
    c.hears(|c| users.iter().all(|user| !c.is_connected(user))).await;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!((since(&c), c.living()), (before, ["b", "c", "e"].map(str::to_owned).into()));
    assert_eq!(c.status(job).await, Status::Processing);
    assert_eq!(c.told("zoe").await, ["connected"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_taken_for_dead_does_not_resume_what_it_works_on() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let (id, guard) = a.job("{}").await;
    let token = a.tracker.live(id).unwrap().memo.lease.as_ref().unwrap().token;
    let checkpoint = Payload::of(&serde_json::json!(1)).unwrap();
    a.tracker.submit(id, Intent::Checkpoint { report: Report::default(), token, checkpoint }).await.unwrap();
    a.journal.before_append(|_, _| Err(JournalError::Unavailable("away".into())));
    let gone =
        Draft { class: Class::Tombstone, ..people::message(&ChannelName::node("a").unwrap(), bytes::Bytes::new()) };
    let at = Timestamp::default();
    assert!(b.journal.foreign(Group { id: Uuid::now_v7(), at, expects: Vec::new(), drafts: vec![gone] }).await);
    for node in [&a, &b] {
        node.hears(|node| !node.tracker.shared.nodes().has("a")).await;
    }
    assert_eq!((a.tracker.left_tasks(), b.tracker.left_tasks()), (vec![], vec![id]));
    drop(guard);
    assert_eq!(a.tracker.left_tasks(), [id]);
}

/// What another node appends to the channel of a user.
fn of_user(user: &str, class: Class, memo: Option<&'static str>) -> Group {
    let text = people::message(&ChannelName::user(user).unwrap(), bytes::Bytes::from("hello"));
    let draft = Draft { class, memo: memo.map(bytes::Bytes::from), ..text };
    Group { id: Uuid::now_v7(), at: Timestamp::default(), expects: Vec::new(), drafts: vec![draft] }
}

#[tokio::test(start_paused = true)]
async fn who_is_forgotten_while_they_are_looked_up_is_not_known() {
    const AWAY: &str = r#"{"status":"disconnected","since":"2026-01-01T00:00:00Z","groups":{"g":1}}"#;
    let store = MemoryJournal::new();
    let a = node(&store, "a").await;
    let ann = ChannelName::user("ann").unwrap();
    // The row is read between the two, and the table follows both.
    a.journal.foreign(of_user("ann", Class::Hidden, Some(AWAY))).await;
    a.journal.foreign_before_next_append(of_user("ann", Class::Tombstone, None));
    let refused = a.tracker.ask_user(&ann, UserIntent::Seen(Seq(1))).await.unwrap_err();
    assert_eq!(refused, people::PeopleRefusal::NoUser.into());
    assert!(a.tracker.user("ann").is_none() && a.tracker.members("g", None, 1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_texts_while_they_are_looked_up_can_come() {
    let store = MemoryJournal::new();
    let a = node(&store, "a").await;
    a.journal.foreign(of_user("ann", Class::Notice, None)).await;
    a.journal.foreign_before_next_append(of_user("ann", Class::Notice, None));
    a.says("ann", PresenceStatus::Connected).await;
    assert_eq!((a.is_connected("ann"), a.conflicts()), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_disconnected_at_another_node_is_in_doubt_alone() {
    let store = MemoryJournal::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    for user in ["ann", "ben"] {
        a.says(user, PresenceStatus::Connected).await;
    }
    assert!(a.tracker.take_doubts().are_of_all, "it has entered");
    b.hears(|b| b.tracker.user("ben").is_some()).await;
    b.tracker.ask_user(&ChannelName::user("ann").unwrap(), UserIntent::HangUp).await.unwrap();
    a.hears(|a| !a.is_connected("ann")).await;
    let doubts = a.tracker.take_doubts();
    assert_eq!((doubts.are_of_all, doubts.users), (false, BTreeSet::from(["ann".into()])));
    assert!(a.tracker.take_doubts().users.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_said_last_of_all_is_soon_taken_from_it() {
    const HERE: &str = r#"{"status":"connected","since":"2026-01-01T00:00:00Z","nodes":["gone"]}"#;
    let store = MemoryJournal::new();
    let a = node(&store, "a").await;
    tokio::time::sleep(2 * NODE_LEASE).await;
    a.journal.foreign(of_user("ann", Class::Hidden, Some(HERE))).await;
    a.hears(|a| a.tracker.user("ann").is_some()).await;
    assert!(a.hears(|a| !a.is_connected("ann")).await <= 2 * SECOND);

    tokio::time::sleep(2 * NODE_LEASE).await;
    let expires_at = a.tracker.clock().now() + 100 * JOB_LEASE;
    let lease = || Lease { holder: Lease::holder_on("gone"), token: Uuid::new_v4(), expires_at };
    let tasks: Vec<_> = iter::repeat_with(Uuid::now_v7).take(600).collect();
    for id in &tasks {
        let create = Intent::Create { new: new_task("{}"), key: None, lease: Some(lease()) };
        assert!(a.journal.foreign(a.foreign(*id, &create).await).await);
    }
    a.hears(|a| tasks.iter().all(|id| a.tracker.live(*id).is_some())).await;
    assert!(a.hears(|a| tasks.iter().all(|id| a.tracker.live(*id).is_none())).await <= 2 * SECOND);
    for id in tasks {
        assert_eq!(a.task(id).await.task.error.unwrap().code, "worker_lost");
    }
}
