//! What a newer version writes is kept, whether this one knows what it is or not.

use super::*;
use crate::{
    event::ChannelKind,
    journal::{Listing, Member, Tail},
};

const NEW_CLASS: Class = Class::Unknown(99);

pub(super) async fn keeps_events_of_classes_that_are_not_known<S: Store>() {
    for fold_between in [false, true] {
        let mut store = S::open(3, 100).await;
        let state = r#"{"status":"pending"}"#;
        let opening = Draft { origin: Some("o".into()), ..draft(&task(1), Class::Change, state) };
        let unknown = Draft { memo: Some("m".into()), ..draft(&task(1), NEW_CLASS, state) };
        let mut events = commit(store.journal(), [group([opening, draft(&task(1), Class::Tick, state)])]).await;
        if fold_between {
            store.fold().await;
        }
        events.extend(commit(store.journal(), [group([unknown, draft(&task(1), Class::Hidden, "")])]).await);
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(store.journal().tail(Seq::ZERO, 9).await.unwrap(), Tail::Events(events.clone()), "{moment:?}");
            let stored = store.journal().last(&task(1)).await.unwrap().unwrap();
            assert_eq!(stored.visible, Some(framed(&events[2])), "{moment:?}");
            assert!(!stored.is_known() && stored.memo.as_deref() == Some(b"m") && stored.last == Seq(4));
            let history = store.journal().read(&task(1), Seq::ZERO).await.unwrap();
            assert_eq!(history.events, events[..3].iter().map(framed).collect::<Vec<_>>(), "{moment:?}");
            assert!(!history.is_known());
            // What it says is not known either.
            assert_eq!(store.journal().count(ChannelKind::Task, Member::Status).await.unwrap().values, []);
            let live = store.journal().live(ChannelKind::Task, Seq::ZERO, 9).await.unwrap();
            assert_eq!(live, [stored], "{moment:?}");
        }
        // It is trimmed like any other, and a later state is known again.
        let changes = [(); 3].map(|()| draft(&task(1), Class::Change, state));
        commit(store.journal(), [expecting(&task(1), Expect::At(Seq(4)), changes)]).await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            let stored = store.journal().last(&task(1)).await.unwrap().unwrap();
            assert!(stored.is_known() && stored.floor == Seq(3), "{moment:?} {stored:?}");
            let counted = store.journal().count(ChannelKind::Task, Member::Status).await.unwrap();
            assert_eq!(counted.values, [("pending".to_owned(), 1)]);
        }
    }
}

pub(super) async fn keeps_channels_of_kinds_that_are_not_known<S: Store>() {
    let mut store = S::open(3, 100).await;
    let [nightly, weekly] = ["nightly", "a/b:*"].map(|name| ChannelName::stored(&format!("schedule:{name}")).unwrap());
    let mut events = Vec::new();
    for channel in [&nightly, &weekly, &task(1)] {
        for class in [Class::Change, NEW_CLASS, Class::Final] {
            events.extend(commit(store.journal(), [group([draft(channel, class, "{}")])]).await);
        }
        store.fold().await;
    }
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(store.journal().tail(Seq::ZERO, 99).await.unwrap(), Tail::Events(events.clone()), "{moment:?}");
        let channels = [weekly.clone(), nightly.clone()];
        let lasts = store.journal().last_many(&channels).await.unwrap();
        let lasts: Vec<_> = lasts.into_iter().flatten().map(|stored| (stored.channel, stored.last.0)).collect();
        assert_eq!(lasts, [(weekly.clone(), 6), (nightly.clone(), 3)], "{moment:?}");
        let history = store.journal().read(&weekly, Seq::ZERO).await.unwrap();
        assert_eq!(seqs(&history.events), [4, 5, 6], "{moment:?}");
        // How long they are kept is not known.
        let finished = store.journal().finished_before(at(9), 9).await.unwrap();
        assert_eq!(finished, [(task(1), Seq(9))], "{moment:?}");
        for kind in ChannelKind::known() {
            let listing = Listing { kind, members: Vec::new(), created_before: None, limit: 9 };
            assert_eq!(store.journal().list(listing).await.unwrap().len(), usize::from(kind == ChannelKind::Task));
        }
    }
    let refused = append(store.journal(), [expecting(&nightly, Expect::Absent, [])]).await.unwrap();
    assert_eq!(refused.outcomes, [Outcome::Conflict(nightly.clone())]);
    commit(store.journal(), [expecting(&nightly, Expect::At(Seq(3)), [draft(&nightly, Class::Tombstone, "")])]).await;
    sweep_all(&store, 9).await;
    assert_eq!(store.journal().last(&nightly).await.unwrap(), None);
    assert!(store.journal().last(&weekly).await.unwrap().is_some());
}

pub(super) async fn the_value_of_a_topic_is_of_a_class_that_is_known<S: Store>() {
    let mut store = S::open(1, 100).await;
    let topic = ChannelName::topic("a").unwrap();
    for class in [Class::Change, NEW_CLASS, NEW_CLASS] {
        add(store.journal(), &topic, class, "{}").await;
        store.fold().await;
    }
    for moment in MOMENTS {
        store = moment.of(store).await;
        let History { floor, events } = store.journal().read(&topic, Seq::ZERO).await.unwrap();
        assert_eq!((floor, seqs(&events)), (Seq(2), vec![1, 3]), "{moment:?}");
    }
}
