//! Topics in the core: which there are, how long, and all of them as one channel.

use super::*;
use crate::channel::Watch;
use crate::topics::{broadcast, value};

fn topic(name: &str) -> ChannelName {
    ChannelName::topic(name).unwrap()
}

impl Rig {
    async fn put(&self, name: &str) -> Result<Answer, TrackerError> {
        self.tracker.append(vec![value(&topic(name), None, "{}".into())], None).await
    }

    fn topics(&self) -> Vec<String> {
        self.tracker.topics(None, 100, |_| true).0.iter().map(|(topic, _)| topic.name().into_owned()).collect()
    }
}

async fn quiet_topics_are_forgotten_after_a_while(store: Store) {
    let mut rig = Rig::start(store).await;
    for name in ["quiet", "busy", "gone"] {
        rig.put(name).await.unwrap();
    }
    rig.tracker.delete_topic(&topic("gone")).await.unwrap();
    assert_eq!(rig.tracker.delete_topic(&topic("gone")).await, Err(TopicRefusal::NotFound.into()));
    rig = rig.restarted().await;
    assert_eq!(rig.topics(), ["busy", "quiet"], "as before");
    tokio::time::sleep(TOPIC_RETENTION / 2).await;
    rig.put("busy").await.unwrap();
    tokio::time::sleep(TOPIC_RETENTION / 2 + Duration::from_secs(120)).await;
    assert_eq!(rig.topics(), ["busy"]);
    assert!(rig.tracker.value(&topic("busy")).await.unwrap().is_some());
    assert_eq!(rig.tracker.value(&topic("quiet")).await.unwrap(), None);
}

async fn a_topic_that_is_not_quiet_any_more_is_not_forgotten(store: Store) {
    let rig = Rig::start(store).await;
    let quiet = rig.put("t").await.unwrap().seq;
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    let (blocking, sweeping) = (rig.tracker.clone(), rig.tracker.clone());
    callers.spawn(async move { blocking.append(vec![value(&topic("t"), None, "1".into())], None).await });
    gate.reached().await;
    callers.spawn(async move { sweeping.ask(Ask::Forget(topic("t"), Some(quiet))).await });
    tokio::task::yield_now().await;
    gate.release();
    let changed: Vec<_> = callers.join_all().await.into_iter().map(|answer| answer.unwrap().changed).collect();
    assert_eq!(changed.iter().filter(|changed| **changed).count(), 1, "only the value was put");
    assert_eq!(rig.tracker.value(&topic("t")).await.unwrap().unwrap().draft.data, "1");
}

async fn there_are_no_more_topics_than_allowed_also_within_a_batch(store: Store) {
    let rig = Rig::start(store).await;
    let max = TopicConfig::default().max_topics;
    let many = (1..max).map(|nth| value(&topic(&nth.to_string()), None, "{}".into())).collect();
    rig.tracker.append(many, None).await.unwrap();
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for (nth, name) in ["1", "new", "new", "another"].into_iter().enumerate() {
        let tracker = rig.tracker.clone();
        callers
            .spawn(async move { (nth, tracker.append(vec![broadcast(&topic(name), None, "{}".into())], None).await) });
        gate.reached().await;
        tokio::task::yield_now().await;
    }
    gate.release();
    let mut answers = callers.join_all().await;
    answers.sort_by_key(|(nth, _)| *nth);
    let refused: Vec<_> = answers.into_iter().map(|(_, answer)| answer.err()).collect();
    assert_eq!(refused, [None, None, None, Some(TopicRefusal::TooMany(max).into())]);
}

/// What a watcher of all topics is given, with a cursor at each place in turn.
async fn the_past_of_all_topics_is_exact_or_declared_trimmed(store: Store) {
    let rig = Rig::on(store.bounded(2, 1_000)).await;
    // The topic `a` keeps its last two events only.
    let names = ["a", "b", "a", "c", "a", "b"];
    for name in names {
        rig.put(name).await.unwrap();
    }
    for cursor in 0..=6 {
        let resume = Resume::After(rig.tracker.cursor(Seq(cursor)));
        let all = [ChannelName::all_topics().clone()];
        let (joined, mut watcher) = rig.tracker.watch_several(&all, &[], None, resume).await.unwrap();
        let mut seqs = Vec::new();
        while let std::task::Poll::Ready(Delivery::Frame(frame)) =
            watcher.poll_next(&mut std::task::Context::from_waker(std::task::Waker::noop()))
        {
            seqs.push(frame.seq().0);
        }
        let is_exact = matches!(joined.channels[0].1, Join::Resumed);
        assert_eq!(is_exact, cursor >= 1, "{cursor}");
        assert_eq!(seqs, if is_exact { (cursor + 1..=6).collect::<Vec<_>>() } else { Vec::new() }, "{cursor}");
    }
}

async fn who_watches_all_topics_is_reset_where_events_of_a_deleted_topic_are_lacking(store: Store) {
    let mut rig = Rig::start(store).await;
    for name in ["a", "b", "a"] {
        rig.put(name).await.unwrap();
    }
    // Just before it is deleted, another node publishes there.
    let drafts = vec![value(&topic("b"), None, "{}".into())];
    let at = rig.tracker.clock().now();
    rig.journal.foreign_before_next_append(Group { id: Uuid::now_v7(), at, expects: Vec::new(), drafts });
    rig.tracker.delete_topic(&topic("b")).await.unwrap();
    assert_eq!(rig.topics(), ["a"]);
    rig.put("c").await.unwrap();
    for _ in 0..2 {
        for cursor in 0..=7 {
            let resume = Resume::After(rig.tracker.cursor(Seq(cursor)));
            let all = [ChannelName::all_topics().clone()];
            let (joined, _) = rig.tracker.watch_several(&all, &[], None, resume).await.unwrap();
            assert_eq!(matches!(joined.channels[0].1, Join::Resumed), cursor >= 4, "{cursor}");
        }
        rig = rig.restarted().await;
        assert_eq!(rig.topics(), ["a", "c"]);
    }
}

on_each_store! {
    running {
        a_topic_that_is_not_quiet_any_more_is_not_forgotten,
        there_are_no_more_topics_than_allowed_also_within_a_batch,
        the_past_of_all_topics_is_exact_or_declared_trimmed,
        who_watches_all_topics_is_reset_where_events_of_a_deleted_topic_are_lacking,
    }
    paused {
        quiet_topics_are_forgotten_after_a_while,
    }
}
