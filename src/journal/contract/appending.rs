//! What an append does, and what it answers.

use futures_util::future::join_all;

use super::*;
use crate::journal::Tail;

pub(super) async fn gives_each_event_the_next_seq_and_keeps_all_that_was_given<S: Store>() {
    let mut store = S::open(10, 100).await;
    assert_eq!(store.journal().head().await.unwrap(), Seq::ZERO);
    let full = Draft {
        memo: Some(Bytes::from_static(b"{\"memo\":1}")),
        origin: Some(Bytes::from_static(b"\xff\x00 not text")),
        ..draft(&task(1), Class::Change, "{\"status\":\"pending\"}")
    };
    let bare = Draft { name: None, memo: Some(Bytes::new()), ..draft(&key(2), Class::Hidden, "") };
    let groups = [group_at(-5, [full.clone(), bare.clone()]), group_at(7, [draft(&task(1), Class::Tick, "text")])];
    let ids = groups.clone().map(|group| group.id);
    let events = commit(store.journal(), groups).await;
    let expected = [
        Event { seq: Seq(1), at: at(-5), group: ids[0], draft: full },
        Event { seq: Seq(2), at: at(-5), group: ids[0], draft: bare },
        Event { seq: Seq(3), at: at(7), group: ids[1], draft: draft(&task(1), Class::Tick, "text") },
    ];
    assert_eq!(events, expected);
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(store.journal().head().await.unwrap(), Seq(3), "{moment:?}");
        assert_eq!(store.journal().tail(Seq::ZERO, 10).await.unwrap(), Tail::Events(expected.to_vec()), "{moment:?}");
    }
}

pub(super) async fn writes_only_where_what_is_expected_holds<S: Store>() {
    for moment in MOMENTS {
        let mut store = S::open(10, 100).await;
        let (changed, hidden, dead) = (task(1), task(2), task(3));
        add(store.journal(), &changed, Class::Change, "{}").await;
        add(store.journal(), &hidden, Class::Change, "{}").await;
        add(store.journal(), &hidden, Class::Hidden, "").await;
        add(store.journal(), &dead, Class::Tombstone, "").await;
        store = moment.of(store).await;
        let cases = [
            (&changed, Expect::At(Seq(1)), true),
            (&changed, Expect::At(Seq(2)), false),
            (&changed, Expect::Absent, false),
            (&hidden, Expect::At(Seq(2)), false),
            (&hidden, Expect::At(Seq(3)), true),
            (&dead, Expect::Absent, false),
            (&dead, Expect::At(Seq(4)), true),
            (&task(4), Expect::At(Seq(4)), false),
            (&task(4), Expect::At(Seq::ZERO), false),
            (&task(4), Expect::Absent, true),
        ];
        for (place, (channel, expect, holds)) in cases.into_iter().enumerate() {
            let other = key(place as u128);
            let group = expecting(channel, expect, [draft(&other, Class::Hidden, "")]);
            let outcome = if holds { Outcome::Committed } else { Outcome::Conflict(channel.clone()) };
            let appended = append(store.journal(), [group]).await.unwrap();
            assert_eq!(appended.outcomes, [outcome], "{moment:?}: {channel} {expect:?}");
            assert_eq!(store.journal().last(&other).await.unwrap().is_some(), holds, "{channel} {expect:?}");
        }
    }
}

pub(super) async fn leaves_out_a_conflicting_group_whole<S: Store>() {
    let store = S::open(10, 100).await;
    add(store.journal(), &task(1), Class::Change, "{}").await;
    let mut torn = expecting(&task(2), Expect::Absent, [draft(&task(2), Class::Change, "{}")]);
    torn.expects.push((task(1), Expect::At(Seq(9))));
    torn.drafts.push(draft(&task(1), Class::Change, "{}"));
    let before = expecting(&task(3), Expect::Absent, [draft(&task(3), Class::Change, "{}")]);
    let after = expecting(&task(1), Expect::At(Seq(1)), [draft(&task(1), Class::Final, "{}")]);
    let appended = append(store.journal(), [before, torn, after]).await.unwrap();
    assert_eq!(appended.outcomes, [Outcome::Committed, Outcome::Conflict(task(1)), Outcome::Committed]);
    let found: Vec<_> = appended.events.iter().map(|event| (event.seq.0, event.channel().clone())).collect();
    assert_eq!(found, [(2, task(3)), (3, task(1))]);
    assert_eq!(store.journal().last(&task(2)).await.unwrap(), None);
}

pub(super) async fn counts_the_groups_before_in_the_same_call<S: Store>() {
    let store = S::open(10, 100).await;
    let first = expecting(&task(1), Expect::Absent, [draft(&task(1), Class::Change, "{}")]);
    let late = expecting(&task(1), Expect::Absent, [draft(&task(2), Class::Change, "{}")]);
    let next = expecting(&task(1), Expect::At(Seq(1)), [draft(&task(1), Class::Hidden, "")]);
    let stale = expecting(&task(1), Expect::At(Seq(1)), [draft(&task(2), Class::Change, "{}")]);
    let last = expecting(&task(2), Expect::Absent, [draft(&task(2), Class::Change, "{}")]);
    let appended = append(store.journal(), [first, late, next, stale, last]).await.unwrap();
    let conflict = || Outcome::Conflict(task(1));
    let committed = || Outcome::Committed;
    assert_eq!(appended.outcomes, [committed(), conflict(), committed(), conflict(), committed()]);
    assert_eq!(seqs(&appended.events), [1, 2, 3]);
}

pub(super) async fn asks_nothing_of_channels_that_are_not_named<S: Store>() {
    let store = S::open(10, 100).await;
    let both = |class| [draft(&task(1), class, "{}"), draft(&task(2), class, "{}")];
    let named = expecting(&task(1), Expect::Absent, both(Class::Change));
    add(store.journal(), &task(2), Class::Change, "{}").await;
    commit(store.journal(), [named, group(both(Class::Tick))]).await;
    assert_eq!(store.journal().last(&task(2)).await.unwrap().unwrap().last, Seq(5));
}

pub(super) async fn brings_them_to_a_group_without_events<S: Store>() {
    for moment in MOMENTS {
        let mut store = S::open(10, 100).await;
        let known = add(store.journal(), &task(1), Class::Change, "known").await;
        let theirs = commit(store.journal(), [group([draft(&task(1), Class::Tick, "1")])]).await;
        store = moment.of(store).await;
        for _ in 0..2 {
            let appended = store.journal().append(known, vec![group([])]).await.unwrap();
            assert_eq!((appended.outcomes, appended.events), (vec![Outcome::Committed], theirs.clone()), "{moment:?}");
        }
    }
}

pub(super) async fn brings_the_events_of_others<S: Store>() {
    for moment in MOMENTS {
        let mut store = S::open(10, 100).await;
        add(store.journal(), &task(1), Class::Change, "known").await;
        let secret = Draft { memo: Some(Bytes::from_static(b"memo")), ..draft(&task(1), Class::Tick, "1") };
        let theirs = commit(store.journal(), [group([secret]), group([draft(&task(2), Class::Hidden, "")])]).await;
        add(store.journal(), &task(1), Class::Tick, "2").await;
        store = moment.of(store).await;
        let ours = group([draft(&task(3), Class::Change, "ours")]);
        let appended = store.journal().append(Seq(1), vec![ours.clone()]).await.unwrap();
        assert_eq!(appended.outcomes, [Outcome::Committed]);
        assert_eq!(seqs(&appended.events), [2, 3, 4, 5], "{moment:?}");
        assert_eq!(appended.events[..2], theirs, "{moment:?}");
        assert_eq!(appended.events[3].group, ours.id);
    }
}

pub(super) async fn brings_the_events_of_others_also_when_nothing_was_written<S: Store>() {
    let store = S::open(10, 100).await;
    for _ in 0..3 {
        add(store.journal(), &task(1), Class::Change, "{}").await;
    }
    let stale = expecting(&task(1), Expect::At(Seq(1)), [draft(&task(1), Class::Change, "{}")]);
    let appended = store.journal().append(Seq(1), vec![stale]).await.unwrap();
    assert_eq!(appended.outcomes, [Outcome::Conflict(task(1))]);
    assert_eq!(seqs(&appended.events), [2, 3]);
}

pub(super) async fn does_not_write_a_group_twice<S: Store>() {
    for moment in MOMENTS {
        let mut store = S::open(10, 100).await;
        add(store.journal(), &task(1), Class::Change, "{}").await;
        // A tick that is replaced at once is found as well.
        let lost = expecting(&task(1), Expect::At(Seq(1)), [draft(&task(1), Class::Tick, "lost")]);
        commit(store.journal(), [lost.clone()]).await;
        add(store.journal(), &task(1), Class::Tick, "later").await;
        store = moment.of(store).await;
        let next = group([draft(&task(2), Class::Change, "{}")]);
        let groups = vec![lost.clone(), next.clone(), next];
        let appended = store.journal().append(Seq(1), groups).await.unwrap();
        assert_eq!(appended.outcomes, vec![Outcome::Committed; 3], "{moment:?}");
        assert_eq!(seqs(&appended.events), [2, 3, 4], "{moment:?}");
        assert_eq!(appended.events[0].group, lost.id);
        assert_eq!(store.journal().head().await.unwrap(), Seq(4));
    }
}

pub(super) async fn takes_nothing_as_well<S: Store>() {
    let store = S::open(10, 100).await;
    add(store.journal(), &task(1), Class::Change, "{}").await;
    let appended = append(store.journal(), []).await.unwrap();
    assert_eq!((appended.outcomes.len(), appended.events.len()), (0, 0));
    let empty = expecting(&task(1), Expect::At(Seq(1)), []);
    let wrong = expecting(&task(1), Expect::Absent, []);
    let appended = append(store.journal(), [empty, wrong]).await.unwrap();
    assert_eq!(appended.outcomes, [Outcome::Committed, Outcome::Conflict(task(1))]);
    assert_eq!(store.journal().head().await.unwrap(), Seq(1));
}

pub(super) async fn refuses_a_head_that_it_never_gave<S: Store>() {
    let store = S::open(10, 100).await;
    let refused = store.journal().append(Seq(1), vec![group([draft(&task(1), Class::Change, "{}")])]).await;
    assert!(matches!(refused, Err(JournalError::Damaged(_))), "{refused:?}");
    assert_eq!(store.journal().head().await.unwrap(), Seq::ZERO);
}

pub(super) async fn refuses_a_head_below_the_trimmed_log<S: Store>() {
    let store = S::open(10, 2).await;
    for _ in 0..4 {
        add(store.journal(), &task(1), Class::Change, "{}").await;
    }
    store.fold().await;
    let lost = group([draft(&task(1), Class::Change, "{}")]);
    let lapsed = store.journal().append(Seq(1), vec![lost.clone()]).await;
    assert!(matches!(lapsed, Err(JournalError::Lapsed)), "{lapsed:?}");
    assert_eq!(store.journal().head().await.unwrap(), Seq(4));
    let appended = store.journal().append(Seq(2), vec![lost]).await.unwrap();
    assert_eq!(seqs(&appended.events), [3, 4, 5]);
}

pub(super) async fn puts_appends_that_come_together_in_one_order<S: Store>() {
    let store = S::open(10, 1_000).await;
    let journal = store.journal();
    let answers = join_all((0..100).map(|number| async move {
        let drafts = [draft(&task(number), Class::Change, "{}"), draft(&task(0), Class::Hidden, "")];
        let ours = group(drafts);
        (ours.id, journal.append(Seq::ZERO, vec![ours]).await.unwrap())
    }))
    .await;
    let Tail::Events(all) = journal.tail(Seq::ZERO, 1_000).await.unwrap() else { panic!("nothing was trimmed") };
    assert_eq!(seqs(&all), (1..=200).collect::<Vec<u64>>());
    for (id, appended) in answers {
        assert_eq!(appended.events, all[..appended.events.len()]);
        let ours = appended.events.last_chunk::<2>().unwrap();
        assert!(ours.iter().all(|event| event.group == id));
    }
}
