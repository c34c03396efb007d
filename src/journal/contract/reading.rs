//! What is told of one channel, and of the log.

use super::*;
use crate::event::ChannelKind;
use crate::journal::{Listing, Stored, Tail};

pub(super) async fn tells_the_state_of_a_channel<S: Store>() {
    let mut store = S::open(10, 100).await;
    add(store.journal(), &task(9), Class::Change, "other").await;
    let opening = Draft {
        memo: Some(Bytes::from_static(b"memo")),
        origin: Some(Bytes::from_static(b"origin")),
        ..draft(&task(1), Class::Change, "{\"status\":\"pending\"}")
    };
    let events = commit(store.journal(), [group_at(100, [opening])]).await;
    let fresh = Stored {
        channel: task(1),
        created: Seq(2),
        last: Seq(2),
        floor: Seq::ZERO,
        visible: Some(framed(&events[0])),
        memo: Some(Bytes::from_static(b"memo")),
        origin: Some(Bytes::from_static(b"origin")),
        finished_at: None,
        gone: false,
    };
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(store.journal().last(&task(1)).await.unwrap(), Some(fresh.clone()), "{moment:?}");
    }
    let end = commit(store.journal(), [group_at(200, [draft(&task(1), Class::Final, "end")])]).await;
    commit(store.journal(), [group_at(300, [draft(&task(1), Class::Hidden, "")])]).await;
    let finished = Stored { last: Seq(4), visible: Some(end[0].clone()), finished_at: Some(at(200)), ..fresh };
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(store.journal().last(&task(1)).await.unwrap(), Some(finished.clone()), "{moment:?}");
    }
}

pub(super) async fn tells_nothing_of_a_channel_that_is_not_there<S: Store>() {
    let store = S::open(10, 100).await;
    add(store.journal(), &task(1), Class::Change, "{}").await;
    assert_eq!(store.journal().last(&task(2)).await.unwrap(), None);
    assert_eq!(store.journal().read(&task(2), Seq::ZERO).await.unwrap(), History::default());
}

pub(super) async fn tells_the_states_of_many_channels_in_the_order_asked<S: Store>() {
    let mut store = S::open(1, 100).await;
    for class in [Class::Change, Class::Final] {
        let both = [1, 2].map(|number| draft(&task(number), class, "{}"));
        commit(store.journal(), [group(both)]).await;
    }
    store.fold().await;
    // One folded, one folded in part, one not at all, and one of which nobody asks.
    add(store.journal(), &task(2), Class::Tombstone, "").await;
    for channel in [task(3), task(4), key(5)] {
        let memo = Some(Bytes::from(channel.to_string()));
        let opening = Draft { memo, origin: Some(Bytes::new()), ..draft(&channel, Class::Change, "{}") };
        commit(store.journal(), [group([opening.clone(), Draft { class: Class::Hidden, ..opening }])]).await;
    }
    let asked = [key(5), task(2), task(9), task(1), task(3), task(2)];
    for moment in MOMENTS {
        store = moment.of(store).await;
        let found = store.journal().last_many(&asked).await.unwrap();
        let lasts: Vec<_> = found.iter().map(|stored| stored.as_ref().map(|stored| stored.last.0)).collect();
        assert_eq!(lasts, [Some(11), Some(5), None, Some(3), Some(7), Some(5)], "{moment:?}");
        for (channel, stored) in asked.iter().zip(found) {
            assert_eq!(store.journal().last(channel).await.unwrap(), stored, "{moment:?} {channel}");
        }
        assert!(store.journal().last_many(&[]).await.unwrap().is_empty());
    }
}

pub(super) async fn keeps_the_newest_memo_and_the_first_origin<S: Store>() {
    let mut store = S::open(10, 100).await;
    let with = |class, memo: Option<&'static [u8]>, origin: Option<&'static [u8]>| {
        let (memo, origin) = (memo.map(Bytes::from_static), origin.map(Bytes::from_static));
        group([Draft { memo, origin, ..draft(&task(1), class, "{}") }])
    };
    let steps = [
        (with(Class::Hidden, None, None), None),
        (with(Class::Change, Some(b"a"), Some(b"late")), Some(&b"a"[..])),
        (with(Class::Tick, None, None), Some(b"a")),
        (with(Class::Hidden, Some(b"b"), None), Some(b"b")),
        (with(Class::Hidden, Some(b""), None), Some(b"")),
    ];
    for (step, memo) in steps {
        commit(store.journal(), [step]).await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            let stored = store.journal().last(&task(1)).await.unwrap().unwrap();
            assert_eq!(stored.memo.as_deref(), memo, "{moment:?}");
            assert_eq!(stored.origin, None, "only the first event gives it");
        }
    }
}

pub(super) async fn reads_the_visible_events_after_a_seq<S: Store>() {
    let mut store = S::open(10, 100).await;
    let channel = ChannelName::user("alice").unwrap();
    let private = Draft {
        memo: Some(Bytes::from_static(b"memo")),
        origin: Some(Bytes::from_static(b"origin")),
        name: None,
        ..draft(&channel, Class::Change, "User 'alice' connected")
    };
    let mut events = commit(store.journal(), [group([private])]).await;
    add(store.journal(), &task(1), Class::Change, "other").await;
    add(store.journal(), &channel, Class::Hidden, "").await;
    for data in ["{}", ""] {
        events.extend(commit(store.journal(), [group_at(5, [draft(&channel, Class::Change, data)])]).await);
    }
    let visible: Vec<Event> = events.iter().map(framed).collect();
    for moment in MOMENTS {
        store = moment.of(store).await;
        for after in 0..=6 {
            let log = store.journal().read(&channel, Seq(after)).await.unwrap();
            let expected = visible.iter().filter(|event| event.seq > Seq(after)).cloned().collect();
            assert_eq!(log, History { floor: Seq::ZERO, events: expected }, "{moment:?} after {after}");
        }
    }
}

pub(super) async fn tails_every_event_in_order<S: Store>() {
    let mut store = S::open(1, 100).await;
    let classes =
        [Class::Change, Class::Tick, Class::Tick, Class::Hidden, Class::Change, Class::Final, Class::Tombstone];
    let mut all = Vec::new();
    for (class, channel) in classes.into_iter().zip([1, 1, 1, 2, 1, 2, 1]) {
        all.extend(commit(store.journal(), [group([draft(&task(channel), class, "{}")])]).await);
    }
    for moment in MOMENTS {
        store = moment.of(store).await;
        for after in 0..=all.len() {
            for limit in [0, 1, 3, 100] {
                let tail = store.journal().tail(Seq(after as u64), limit).await.unwrap();
                let expected = all[after..].iter().take(limit).cloned().collect();
                assert_eq!(tail, Tail::Events(expected), "{moment:?} after {after}, at most {limit}");
            }
        }
        assert_eq!(store.journal().tail(Seq(1_000), 10).await.unwrap(), Tail::Events(Vec::new()));
    }
}

pub(super) async fn tail_lapses_where_the_log_was_trimmed<S: Store>() {
    let mut store = S::open(10, 3).await;
    for _ in 0..5 {
        add(store.journal(), &task(1), Class::Change, "{}").await;
        for after in 0..5 {
            if store.journal().tail(Seq(after), 10).await.unwrap() == Tail::Lapsed {
                assert!(Seq(after) < store.journal().folded_through(), "nothing above it is trimmed");
            }
        }
    }
    store.fold().await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        for after in 0..5 {
            match store.journal().tail(Seq(after), 10).await.unwrap() {
                Tail::Lapsed => assert!(after < 2, "{moment:?} after {after}"),
                Tail::Events(events) => {
                    assert!(after >= 2, "{moment:?} after {after}");
                    assert_eq!(seqs(&events), (after + 1..=5).collect::<Vec<_>>());
                }
            }
        }
        assert_eq!(store.journal().read(&task(1), Seq::ZERO).await.unwrap().events.len(), 5);
    }
}

pub(super) async fn answers_nothing_once_closed<S: Store>() {
    let store = S::open(10, 100).await;
    let journal = store.journal();
    add(journal, &task(1), Class::Change, "{}").await;
    journal.close().await.unwrap();
    let unavailable = |error: JournalError| assert!(matches!(error, JournalError::Unavailable(_)), "{error:?}");
    let listing = Listing { kind: ChannelKind::Task, members: Vec::new(), created_before: None, limit: 1 };
    unavailable(journal.head().await.unwrap_err());
    unavailable(journal.append(Seq(1), vec![group([draft(&task(1), Class::Tick, "")])]).await.unwrap_err());
    unavailable(journal.tail(Seq::ZERO, 1).await.unwrap_err());
    unavailable(journal.read(&task(1), Seq::ZERO).await.unwrap_err());
    unavailable(journal.last(&task(1)).await.unwrap_err());
    unavailable(journal.last_many(&[task(1)]).await.unwrap_err());
    unavailable(journal.list(listing).await.unwrap_err());
    unavailable(journal.live(ChannelKind::Task, Seq::ZERO, 1).await.unwrap_err());
    unavailable(journal.finished_before(at(0), 1).await.unwrap_err());
    unavailable(journal.sweep(at(0), 1).await.unwrap_err());
    unavailable(journal.close().await.unwrap_err());
}
