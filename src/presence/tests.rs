//! Who is connected, by their streams.

use super::*;
use crate::{
    channel::{Delivery, Registry, StreamLimits},
    config::PeopleConfig,
    event::Resume,
    journal::Journal,
    task::Policy,
    telemetry::Metrics,
    testing::MemoryJournal,
    tracker::{Clock, TrackerOptions},
};

const GRACE: Duration = Duration::from_secs(5);

async fn start(journal: &MemoryJournal, tracker_stage: &Stage, stage: &Stage) -> Presence {
    let limits =
        StreamLimits { history: 10.into(), tick_interval: Duration::ZERO, streams: 10, streams_per_channel: 10 };
    let options = TrackerOptions {
        policy: Policy { stalled_after: Duration::from_secs(30), ..Policy::WIDE },
        queue_length: 16,
        retention: Duration::from_secs(60),
        people: PeopleConfig { max_users: 3, ..PeopleConfig::default() },
        topics: crate::config::TopicConfig::default(),
        clock: Clock::runtime(),
    };
    let registry = Registry::new(journal.epochs().clone(), limits);
    let journal = Arc::new(journal.clone());
    let tracker =
        Tracker::start(journal, registry, options, Metrics::new(), tracker_stage).await.expect("an empty journal");
    Presence::start(tracker, GRACE, stage)
}

fn user(user_id: &str) -> ChannelName {
    ChannelName::user(user_id).expect("a valid name")
}

#[tokio::test(start_paused = true)]
async fn a_user_is_connected_while_a_stream_is_open() {
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
    assert_eq!(presence.get("ann"), None);
    let first = presence.connect(&user("ann")).await.unwrap();
    let second = presence.connect(&user("ann")).await.unwrap();
    assert_eq!(presence.get("ann").map(|ann| (ann.status, ann.connections)), Some((PresenceStatus::Connected, 2)));
    drop(first);
    assert_eq!(presence.get("ann").map(|ann| ann.connections), Some(1));
    drop(second);
    let status = || presence.get("ann").map(|ann| ann.status);
    tokio::time::sleep(GRACE - Duration::from_millis(1)).await;
    assert_eq!(status(), Some(PresenceStatus::Connected), "one who comes back at once has not left");
    drop(presence.connect(&user("ann")).await.unwrap());
    tokio::time::sleep(GRACE - Duration::from_millis(1)).await;
    assert_eq!(status(), Some(PresenceStatus::Connected));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(status(), Some(PresenceStatus::Disconnected));
}

#[tokio::test(start_paused = true)]
async fn disconnecting_does_not_wait_for_the_streams_and_does_not_count_them_twice() {
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
    let old = presence.connect(&user("ann")).await.unwrap();
    presence.disconnect(&user("ann"));
    assert_eq!(presence.get("ann").map(|ann| ann.status), Some(PresenceStatus::Disconnected));
    let _new = presence.connect(&user("ann")).await.unwrap();
    drop(old);
    assert_eq!(presence.get("ann").map(|ann| (ann.status, ann.connections)), Some((PresenceStatus::Connected, 1)));
    presence.disconnect(&user("nobody"));
    assert_eq!(presence.get("nobody"), None, "asking does not make a user known");
}

#[tokio::test(start_paused = true)]
async fn a_user_seen_before_a_restart_is_disconnected_and_not_unknown() {
    let journal = MemoryJournal::new();
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&journal, &shutdown.tracker, &shutdown.jobs).await;
    drop(presence.connect(&user("ann")).await.unwrap());
    std::mem::forget(presence.connect(&user("bob")).await.unwrap());
    let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    assert!(shutdown.jobs.end(minute).await && shutdown.tracker.end(minute).await);
    tokio::time::advance(second).await;

    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&journal.reopened(), &shutdown.tracker, &shutdown.jobs).await;
    let (users, next) = presence.list(None, None, 10);
    let seen: Vec<_> = users.iter().map(|user| (user.user_id.as_str(), user.status)).collect();
    assert_eq!(seen, [("ann", PresenceStatus::Disconnected), ("bob", PresenceStatus::Disconnected)]);
    assert_eq!(next, None);
}

#[tokio::test(start_paused = true)]
async fn the_list_goes_on_page_by_page() {
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
    let mut guards = Vec::new();
    for user_id in ["c", "a", "b"] {
        guards.push(presence.connect(&user(user_id)).await.unwrap());
    }
    let refused = presence.connect(&user("d")).await.map(drop).unwrap_err();
    assert_eq!(refused, TrackerError::People(crate::people::PeopleRefusal::TooManyUsers(3)));
    let (page, next) = presence.list(Some(PresenceStatus::Connected), None, 2);
    assert_eq!(page.iter().map(|user| user.user_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let (page, next) = presence.list(None, next.as_deref(), 2);
    assert_eq!((page.len(), next), (1, None));
    assert!(presence.list(Some(PresenceStatus::Disconnected), None, 2).0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_is_told_on_a_topic() {
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
    let topic = ChannelName::topic("presence").expect("a name");
    let (_, mut told) = presence.shared.tracker.watch(&topic, Resume::First).await.expect("it is let in");
    let mut next = async || match told.next().await {
        Delivery::Frame(frame) => String::from_utf8(frame.event().draft.data.to_vec()).expect("JSON"),
        other => panic!("{other:?}"),
    };
    let guard = presence.connect(&user("ann")).await.unwrap();
    let came = next().await;
    let since = presence.get("ann").expect("she is known").since;
    assert_eq!(came, format!(r#"{{"userId":"ann","status":"connected","since":"{since}"}}"#));
    drop(guard);
    drop(presence.connect(&user("ann")).await.unwrap());
    let started = Instant::now();
    assert!(next().await.contains("disconnected"));
    assert!(started.elapsed() >= GRACE, "the short while between two streams was not told");
    let _guard = presence.connect(&user("ann")).await.unwrap();
    assert!(next().await.contains(r#""connected""#));
    let started = Instant::now();
    presence.disconnect(&user("ann"));
    assert!(next().await.contains("disconnected"));
    assert!(started.elapsed() < GRACE);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_while_their_leaving_is_written_down_has_come_back() {
    let journal = MemoryJournal::new();
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&journal, &shutdown.tracker, &shutdown.jobs).await;
    drop(presence.connect(&user("ann")).await.unwrap());
    tokio::time::sleep(GRACE - Duration::from_millis(100)).await;
    presence.saw("ann", Seq(1));
    // While another commit is under way, the grace ends, and she comes back.
    let gate = journal.hold_appends();
    let tracker = presence.shared.tracker.clone();
    let other = tokio::spawn(async move { tracker.ask_user(&user("bob"), UserIntent::Join([].into())).await });
    gate.reached().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(presence.get("ann").map(|ann| ann.status), Some(PresenceStatus::Disconnected));
    let again = tokio::spawn({
        let presence = presence.clone();
        async move { presence.connect(&user("ann")).await.unwrap() }
    });
    tokio::task::yield_now().await;
    gate.release();
    let _guard = again.await.unwrap();
    other.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let kept = presence.shared.tracker.user("ann").expect("she is known");
    assert_eq!(kept.status, PresenceStatus::Connected);
}

#[tokio::test(start_paused = true)]
async fn one_who_is_disconnected_before_their_stream_is_there_comes_after_that() {
    let shutdown = crate::shutdown::Shutdown::default();
    let presence = start(&MemoryJournal::new(), &shutdown.tracker, &shutdown.jobs).await;
    let guard = presence.connect(&user("ann")).await.unwrap();
    presence.disconnect(&user("ann"));
    // No stream was there to be ended, and now there is one.
    let guard = presence.confirm(&user("ann"), guard).await.unwrap();
    let status = || presence.get("ann").map(|ann| (ann.status, ann.connections));
    assert_eq!(status(), Some((PresenceStatus::Connected, 1)));
    let guard = presence.confirm(&user("ann"), guard).await.unwrap();
    assert_eq!(status(), Some((PresenceStatus::Connected, 1)));
    drop(guard);
    assert_eq!(status(), Some((PresenceStatus::Connected, 0)));
}

/// One of several nodes.
struct NodeRig {
    journal: MemoryJournal,
    shutdown: crate::shutdown::Shutdown,
    presence: Presence,
}

impl NodeRig {
    async fn start(store: &MemoryJournal, name: &str) -> Self {
        let (journal, shutdown) = (store.on_node(name), crate::shutdown::Shutdown::default());
        let presence = start(&journal, &shutdown.tracker, &shutdown.jobs).await;
        Self { journal, shutdown, presence }
    }

    fn sees(&self, user_id: &str) -> Option<PresenceStatus> {
        self.presence.get(user_id).map(|user| user.status)
    }

    async fn end(self) {
        let minute = Duration::from_secs(60);
        assert!(self.shutdown.jobs.end(minute).await && self.shutdown.tracker.end(minute).await);
    }
}

/// What was told of those who come and go.
async fn told(journal: &MemoryJournal) -> Vec<String> {
    let topic = ChannelName::topic("presence").expect("a name");
    let history = journal.read(&topic, Seq::ZERO).await.expect("it is there");
    let told = history.events.iter().map(|event| serde_json::from_slice::<serde_json::Value>(&event.draft.data));
    let told = told.map(|told| told.expect("JSON"));
    told.map(|told| format!("{} {}", told["userId"].as_str().unwrap(), told["status"].as_str().unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn who_has_streams_at_two_nodes_is_connected_until_both_have_closed() {
    let store = MemoryJournal::new();
    let (a, b) = (NodeRig::start(&store, "a").await, NodeRig::start(&store, "b").await);
    let at_a = a.presence.connect(&user("ann")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let at_b = b.presence.connect(&user("ann")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(at_a);
    tokio::time::sleep(2 * GRACE).await;
    assert_eq!(a.sees("ann"), Some(PresenceStatus::Connected));
    let since = |node: &NodeRig| node.presence.get("ann").map(|ann| ann.since);
    assert_eq!(since(&a), since(&b));
    // A node that starts, or ends in order, says nothing of those who are elsewhere.
    let c = NodeRig::start(&store, "c").await;
    c.end().await;
    a.end().await;
    tokio::time::sleep(2 * GRACE).await;
    assert_eq!(b.sees("ann"), Some(PresenceStatus::Connected));
    assert_eq!(b.presence.count_members("nobody"), (0, 0));
    drop(at_b);
    tokio::time::sleep(2 * GRACE).await;
    assert_eq!(b.sees("ann"), Some(PresenceStatus::Disconnected));
    assert_eq!(told(&store).await, ["ann connected", "ann disconnected"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_still_there_when_their_node_comes_back_is_connected_again() {
    let store = MemoryJournal::new();
    let (a, b) = (NodeRig::start(&store, "a").await, NodeRig::start(&store, "b").await);
    let _ann = a.presence.connect(&user("ann")).await.unwrap();
    let ben = a.presence.connect(&user("ben")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    a.journal.cut(true);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(
        (b.sees("ann"), b.sees("ben")),
        (Some(PresenceStatus::Disconnected), Some(PresenceStatus::Disconnected))
    );
    assert_eq!(a.sees("ann"), Some(PresenceStatus::Connected), "it does not know");
    // Who leaves meanwhile is not said to be back.
    drop(ben);
    tokio::time::sleep(2 * GRACE).await;
    a.journal.cut(false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in [&a, &b] {
        assert_eq!(node.sees("ann"), Some(PresenceStatus::Connected));
        assert_eq!(node.sees("ben"), Some(PresenceStatus::Disconnected));
    }
    let mut told = told(&store).await;
    told.sort();
    let of_ann = ["ann connected", "ann connected", "ann disconnected"];
    assert_eq!(told, [&of_ann[..], &["ben connected", "ben disconnected"]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_again_knows_whom_it_has_lost() {
    let store = MemoryJournal::new();
    let (a, b) = (NodeRig::start(&store, "a").await, NodeRig::start(&store, "b").await);
    std::mem::forget(a.presence.connect(&user("ann")).await.unwrap());
    let _at_b = b.presence.connect(&user("ben")).await.unwrap();
    std::mem::forget(a.presence.connect(&user("ben")).await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It dies, and starts again before anybody notices.
    a.journal.cut(true);
    let again = NodeRig::start(&store, "a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for node in [&again, &b] {
        assert_eq!(node.sees("ann"), Some(PresenceStatus::Disconnected));
        assert_eq!(node.sees("ben"), Some(PresenceStatus::Connected));
    }
    assert_eq!(told(&store).await, ["ann connected", "ben connected", "ann disconnected"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_disconnected_at_one_node_is_so_at_all() {
    let store = MemoryJournal::new();
    let (a, b) = (NodeRig::start(&store, "a").await, NodeRig::start(&store, "b").await);
    let (ann, ben) = (user("ann"), user("ben"));
    let _guards = [b.presence.connect(&ann).await.unwrap(), a.presence.connect(&ann).await.unwrap()];
    let _ben = b.presence.connect(&ben).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, mut stream) = b.presence.shared.tracker.watch(&ann, Resume::First).await.unwrap();
    for _ in 0..2 {
        a.presence.disconnect(&ann);
        assert_eq!(a.sees("ann"), Some(PresenceStatus::Disconnected), "at once");
        assert!(matches!(stream.next().await, Delivery::HungUp));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            (b.sees("ann"), b.sees("ben")),
            (Some(PresenceStatus::Disconnected), Some(PresenceStatus::Connected))
        );
        assert_eq!(b.presence.get("ann").map(|ann| ann.connections), Some(0));
        // Who comes back stays, wherever that is.
        std::mem::forget(b.presence.connect(&ann).await.unwrap());
        (_, stream) = b.presence.shared.tracker.watch(&ann, Resume::First).await.unwrap();
        tokio::time::sleep(2 * GRACE).await;
        assert_eq!((a.sees("ann"), b.sees("ann")), (Some(PresenceStatus::Connected), Some(PresenceStatus::Connected)));
    }
    a.presence.disconnect(&user("nobody"));
    assert_eq!(a.presence.get("nobody"), None);
}

#[tokio::test(start_paused = true)]
async fn who_is_disconnected_before_their_node_could_say_that_they_are_there_is_so() {
    let store = MemoryJournal::new();
    let (a, b) = (NodeRig::start(&store, "a").await, NodeRig::start(&store, "b").await);
    let ann = user("ann");
    let _at_a = a.presence.connect(&ann).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.journal.cut(true);
    let _at_b = b.presence.connect(&ann).await.unwrap();
    let (_, mut stream) = b.presence.shared.tracker.watch(&ann, Resume::First).await.unwrap();
    a.presence.disconnect(&ann);
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.journal.cut(false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ended = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
    assert!(matches!(ended, Ok(Delivery::HungUp)), "{ended:?}");
    assert_eq!([&a, &b].map(|node| node.sees("ann")), [Some(PresenceStatus::Disconnected); 2]);
}
