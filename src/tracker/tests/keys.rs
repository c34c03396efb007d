//! Events with an id that their sender gave: the same again is answered like the first, and appends nothing.

use super::*;
use crate::event::Class;

fn topic(name: &str) -> ChannelName {
    ChannelName::topic(name).unwrap()
}

fn notice(channel: &ChannelName, text: &'static str) -> Draft {
    Draft { class: Class::Notice, ..crate::people::message(channel, text.into()) }
}

impl Rig {
    async fn send(&self, to: &ChannelName, id: &str, text: &'static str) -> Result<Answer, TrackerError> {
        let key = EventKey::new(to, id, text.as_bytes());
        self.tracker.append(vec![notice(to, text)], Some(key)).await
    }

    /// The place of each text on a channel.
    async fn texts(&self, channel: &ChannelName) -> Vec<(u64, String)> {
        let events = self.journal.read(channel, Seq::ZERO).await.unwrap().events;
        let text = |event: &Event| String::from_utf8_lossy(&event.draft.data).into_owned();
        events.iter().map(|event| (event.seq.0, text(event))).collect()
    }
}

async fn the_same_id_again_is_answered_like_the_first(store: Store) {
    let mut rig = Rig::start(store).await;
    let (news, other) = (topic("news"), topic("other"));
    rig.tracker.append(vec![notice(&news, "before")], None).await.unwrap();
    let first = rig.send(&news, "1", "a").await.unwrap();
    assert!(first.changed);
    rig.send(&other, "1", "a").await.unwrap();
    for _ in 0..2 {
        let again = rig.send(&news, "1", "a").await.unwrap();
        assert_eq!((again.seq, again.changed), (first.seq, false));
        assert_eq!(refused(rig.send(&news, "1", "b").await), Refusal::Mismatch);
        assert_eq!(rig.texts(&news).await, [(1, "before".into()), (first.seq.0, "a".into())]);
        assert_eq!(rig.texts(&other).await.len(), 1, "the id of another channel");
        rig = rig.restarted().await;
    }
}

async fn the_same_id_within_a_batch_is_one_event(store: Store) {
    let rig = Rig::start(store).await;
    let news = topic("news");
    let gate = rig.journal.hold_appends();
    let mut callers = JoinSet::new();
    for (nth, (id, text)) in
        [("0", "x"), ("1", "a"), ("", "y"), ("1", "a"), ("1", "b"), ("2", "c")].into_iter().enumerate()
    {
        let (tracker, draft) = (rig.tracker.clone(), notice(&news, text));
        let key = (!id.is_empty()).then(|| EventKey::new(&news, id, text.as_bytes()));
        callers.spawn(async move { (nth, tracker.append(vec![draft], key).await) });
        gate.reached().await;
        tokio::task::yield_now().await;
    }
    gate.release();
    let mut answers = callers.join_all().await;
    answers.sort_by_key(|(nth, _)| *nth);
    let told: Vec<_> =
        answers.into_iter().map(|(_, answer)| answer.map(|answer| (answer.seq.0, answer.changed))).collect();
    assert_eq!(told[4], Err(Refusal::Mismatch.into()));
    assert_eq!(told[3], Ok((told[1].clone().unwrap().0, false)));
    let texts = rig.texts(&news).await;
    let placed = |nth: usize| told[nth].clone().unwrap().0;
    let expected = [(placed(0), "x"), (placed(1), "a"), (placed(2), "y"), (placed(5), "c")];
    assert_eq!(texts, expected.map(|(seq, text)| (seq, text.to_owned())), "each caller is told the place of its event");
}

async fn another_node_may_be_quicker_with_the_same_id(store: Store) {
    let rig = Rig::start(store).await;
    let news = topic("news");
    let key = EventKey::new(&news, "1", b"a");
    let drafts = vec![notice(&news, "a"), key.taken().draft];
    let now = rig.tracker.clock().now();
    rig.journal.foreign_before_next_append(Group { id: Uuid::now_v7(), at: now, expects: Vec::new(), drafts });
    let answer = rig.send(&news, "1", "a").await.unwrap();
    assert_eq!((answer.seq, answer.changed), (Seq(1), false));
    assert_eq!(rig.texts(&news).await.len(), 1);
}

async fn an_id_is_forgotten_after_the_retention(store: Store) {
    let rig = Rig::start(store).await;
    let news = topic("news");
    let key = EventKey::new(&news, "1", b"a").channel();
    rig.send(&news, "1", "a").await.unwrap();
    let gone = async |wanted: bool| {
        while rig.journal.last(&key).await.unwrap().is_none_or(|stored| stored.gone) != wanted {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::sleep(RETENTION).await;
    gone(true).await;
    // Its tombstone is not yet swept.
    assert!(rig.send(&news, "1", "b").await.unwrap().changed);
    gone(false).await;
    assert!(!rig.send(&news, "1", "b").await.unwrap().changed);
    tokio::time::sleep(RETENTION).await;
    gone(true).await;
    tokio::time::sleep(RETENTION * 2).await;
    assert_eq!(rig.journal.last(&key).await.unwrap(), None, "nothing of it is left");
    assert!(rig.send(&news, "1", "c").await.unwrap().changed);
    assert_eq!(rig.texts(&news).await.len(), 3);
}

async fn an_id_that_was_forgotten_may_be_taken_by_another_node_first(store: Store) {
    let rig = Rig::start(store).await;
    let news = topic("news");
    let key = EventKey::new(&news, "1", b"a");
    rig.send(&news, "1", "a").await.unwrap();
    tokio::time::sleep(RETENTION).await;
    while !rig.journal.last(&key.channel()).await.unwrap().unwrap().gone {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let now = rig.tracker.clock().now();
    let drafts = vec![notice(&news, "a"), key.taken().draft];
    rig.journal.foreign_before_next_append(Group { id: Uuid::now_v7(), at: now, expects: Vec::new(), drafts });
    assert!(!rig.send(&news, "1", "a").await.unwrap().changed);
    assert_eq!(rig.texts(&news).await.len(), 2, "the first, and theirs");
}

on_each_store! {
    running {
        the_same_id_again_is_answered_like_the_first,
        the_same_id_within_a_batch_is_one_event,
        another_node_may_be_quicker_with_the_same_id,
    }
    paused {
        an_id_is_forgotten_after_the_retention,
        an_id_that_was_forgotten_may_be_taken_by_another_node_first,
    }
}
