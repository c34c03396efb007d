//! What is told of many channels.

use super::*;
use crate::{
    event::ChannelKind,
    journal::{Listing, Member},
};

fn tasks() -> Listing {
    Listing { kind: ChannelKind::Task, members: Vec::new(), created_before: None, limit: usize::MAX }
}

type Wanted<'a> = &'a [(Member, &'a [&'a str])];

fn by(members: Wanted<'_>) -> Listing {
    let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    Listing { members: members.iter().map(|(member, values)| (*member, owned(values))).collect(), ..tasks() }
}

/// The listed channels by the seq with which each began.
async fn listed<S: Store>(store: &S, listing: Listing) -> Vec<u64> {
    let listed = store.journal().list(listing).await.unwrap();
    for stored in &listed {
        assert_eq!(store.journal().last(&stored.channel).await.unwrap().as_ref(), Some(stored));
    }
    listed.iter().map(|stored| stored.created.0).collect()
}

/// The live tasks by the seq with which each began.
async fn live<S: Store>(store: &S) -> Vec<u64> {
    let live = store.journal().live(ChannelKind::Task, Seq::ZERO, usize::MAX).await.unwrap();
    live.iter().map(|stored| stored.created.0).collect()
}

pub(super) async fn lists_a_kind_newest_first_in_pages<S: Store>() {
    let mut store = S::open(10, 100).await;
    for number in [5, 3, 4, 1, 2] {
        add(store.journal(), &task(number), Class::Change, "{}").await;
    }
    add(store.journal(), &key(1), Class::Change, "{}").await;
    store.fold().await;
    // Both a folded channel and some that are not, out of order.
    add(store.journal(), &task(3), Class::Tick, "{}").await;
    add(store.journal(), &task(6), Class::Change, "{}").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(listed(&store, tasks()).await, [8, 5, 4, 3, 2, 1], "{moment:?}");
        assert_eq!(listed(&store, Listing { limit: 2, ..tasks() }).await, [8, 5], "{moment:?}");
        let next = Listing { limit: 3, created_before: Some(Seq(5)), ..tasks() };
        assert_eq!(listed(&store, next).await, [4, 3, 2], "{moment:?}");
        let last = Listing { limit: 3, created_before: Some(Seq(2)), ..tasks() };
        assert_eq!(listed(&store, last).await, [1], "{moment:?}");
        assert!(listed(&store, Listing { limit: 0, ..tasks() }).await.is_empty());
        assert!(listed(&store, Listing { kind: ChannelKind::User, ..tasks() }).await.is_empty());
        assert_eq!(listed(&store, Listing { kind: ChannelKind::Key, ..tasks() }).await, [6]);
    }
}

pub(super) async fn lists_by_members_of_the_visible_state<S: Store>() {
    let mut store = S::open(10, 100).await;
    let states = [
        r#"{"status":"pending","kind":"upload","userId":"alice","queue":"default"}"#,
        r#"{"status":"processing","kind":"upload","userId":"bob","queue":"default"}"#,
        r#"{"status":"pending","kind":"simulate","userId":"alice","queue":"slow"}"#,
        r#"{"status":"pending","title":"status: completed"}"#,
        "not JSON",
    ];
    for (number, state) in states.into_iter().enumerate() {
        add(store.journal(), &task(number as u128), Class::Change, state).await;
    }
    store.fold().await;
    // A change is seen at once; hidden events change nothing.
    add(store.journal(), &task(2), Class::Tick, r#"{"status":"error","kind":"simulate","userId":"it's"}"#).await;
    add(store.journal(), &task(0), Class::Hidden, r#"{"status":"error"}"#).await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        let cases: [(Wanted<'_>, &[u64]); 10] = [
            (&[(Member::Status, &["pending"])], &[4, 1]),
            (&[(Member::Status, &["pending", "error"])], &[4, 3, 1]),
            (&[(Member::Status, &["completed"])], &[]),
            (&[(Member::Status, &[])], &[]),
            (&[(Member::Kind, &["upload"])], &[2, 1]),
            (&[(Member::UserId, &["alice"])], &[1]),
            (&[(Member::UserId, &["it's"])], &[3]),
            (&[(Member::Queue, &["default", "slow"])], &[2, 1]),
            (&[(Member::Kind, &["upload"]), (Member::Status, &["processing", "error"])], &[2]),
            (&[(Member::Status, &["pending"]), (Member::Status, &["error"])], &[]),
        ];
        for (members, expected) in cases {
            assert_eq!(listed(&store, by(members)).await, expected, "{moment:?} {members:?}");
        }
        let page = Listing { created_before: Some(Seq(4)), limit: 1, ..by(&[(Member::Status, &["pending", "error"])]) };
        assert_eq!(listed(&store, page).await, [3], "{moment:?}");
    }
}

pub(super) async fn counts_by_a_member<S: Store>() {
    let mut store = S::open(10, 100).await;
    for (number, status) in ["pending", "pending", "error", "pending"].into_iter().enumerate() {
        add(store.journal(), &task(number as u128), Class::Change, &format!(r#"{{"status":"{status}"}}"#)).await;
    }
    add(store.journal(), &key(1), Class::Change, r#"{"status":"pending"}"#).await;
    store.fold().await;
    add(store.journal(), &task(0), Class::Tick, r#"{"status":"processing"}"#).await;
    add(store.journal(), &task(1), Class::Tombstone, "").await;
    add(store.journal(), &task(7), Class::Change, r#"{"status":"pending"}"#).await;
    add(store.journal(), &task(8), Class::Change, "{}").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        let counts = store.journal().count(ChannelKind::Task, Member::Status).await.unwrap();
        assert_eq!(counts.through, Seq(9), "{moment:?}");
        let counts: Vec<_> = counts.values.iter().map(|(value, count)| (value.as_str(), *count)).collect();
        assert_eq!(counts, [("error", 1), ("pending", 2), ("processing", 1)], "{moment:?}");
    }
}

pub(super) async fn lists_live_channels_only<S: Store>() {
    let mut store = S::open(10, 100).await;
    for number in [1, 2, 3] {
        add(store.journal(), &task(number), Class::Change, "{}").await;
    }
    add(store.journal(), &task(1), Class::Final, "{}").await;
    store.fold().await;
    add(store.journal(), &task(3), Class::Final, "{}").await;
    add(store.journal(), &task(3), Class::Hidden, "").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(live(&store).await, [2], "{moment:?}");
        assert_eq!(listed(&store, tasks()).await, [3, 2, 1], "{moment:?}");
    }
}

pub(super) async fn never_lists_tombstones<S: Store>() {
    let mut store = S::open(10, 100).await;
    for number in [1, 2, 3] {
        add(store.journal(), &task(number), Class::Change, r#"{"status":"pending"}"#).await;
    }
    add(store.journal(), &task(1), Class::Tombstone, "").await;
    store.fold().await;
    add(store.journal(), &task(3), Class::Tombstone, "").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(listed(&store, tasks()).await, [2], "{moment:?}");
        assert_eq!(listed(&store, by(&[(Member::Status, &["pending"])])).await, [2], "{moment:?}");
        assert_eq!(live(&store).await, [2], "{moment:?}");
    }
}

pub(super) async fn pages_through_the_live_channels_oldest_first<S: Store>() {
    for fold_after in [0, 7, 20] {
        let mut store = S::open(10, 100).await;
        let (mut head, mut expected) = (Seq::ZERO, Vec::new());
        for number in 0..20 {
            if number == fold_after {
                store.fold().await;
            }
            head = add(store.journal(), &task(number), Class::Change, "{}").await;
            expected.push(head.0);
        }
        add(store.journal(), &key(1), Class::Change, "{}").await;
        for (number, class) in [(3, Class::Final), (19, Class::Tombstone), (5, Class::Tick), (4, Class::Tombstone)] {
            add(store.journal(), &task(number), class, "{}").await;
        }
        let anew = Draft { origin: Some(Bytes::from_static(b"o")), ..draft(&task(4), Class::Change, "{}") };
        expected.retain(|seq| ![4, 5, 20].contains(seq));
        expected.extend(seqs(&commit(store.journal(), [group([anew])]).await));
        for moment in MOMENTS {
            store = moment.of(store).await;
            for limit in [1, 2, 5, 17, 18, 19, usize::MAX] {
                let (mut after, mut found) = (Seq::ZERO, Vec::new());
                loop {
                    let page = store.journal().live(ChannelKind::Task, after, limit).await.unwrap();
                    assert!(page.len() <= limit);
                    let Some(last) = page.last() else { break };
                    after = last.created;
                    found.extend(page);
                }
                for stored in &found {
                    assert_eq!(store.journal().last(&stored.channel).await.unwrap().as_ref(), Some(stored));
                }
                let found: Vec<u64> = found.iter().map(|stored| stored.created.0).collect();
                assert_eq!(found, expected, "{moment:?} {limit} at a time, {fold_after} folded");
            }
            assert!(store.journal().live(ChannelKind::User, Seq::ZERO, 9).await.unwrap().is_empty());
            assert!(store.journal().live(ChannelKind::Task, head.next().next(), 0).await.unwrap().is_empty());
        }
    }
}

pub(super) async fn finds_what_finished_before_a_time<S: Store>() {
    let mut store = S::open(10, 100).await;
    for (number, time) in [(1, 30), (2, 10), (3, 20), (4, 40), (5, 10)] {
        commit(store.journal(), [group_at(0, [draft(&task(number), Class::Change, "{}")])]).await;
        commit(store.journal(), [group_at(time, [draft(&task(number), Class::Final, "{}")])]).await;
        if number == 3 {
            store.fold().await;
        }
    }
    add(store.journal(), &task(9), Class::Change, "{}").await;
    commit(store.journal(), [group_at(90, [draft(&task(2), Class::Hidden, "")])]).await;
    let finished = |number, last| (task(number), Seq(last));
    for moment in MOMENTS {
        store = moment.of(store).await;
        let before = async |millis, limit| store.journal().finished_before(at(millis), limit).await.unwrap();
        assert_eq!(before(40, 10).await, [finished(2, 12), finished(5, 10), finished(3, 6), finished(1, 2)]);
        assert_eq!(before(20, 10).await, [finished(2, 12), finished(5, 10)], "{moment:?}");
        assert_eq!(before(100, 1).await, [finished(2, 12)], "{moment:?}");
        assert!(before(10, 10).await.is_empty(), "{moment:?}");
    }
    add(store.journal(), &task(2), Class::Tombstone, "").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(store.journal().finished_before(at(20), 10).await.unwrap(), [finished(5, 10)], "{moment:?}");
    }
}

pub(super) async fn lists_with_memo_and_origin<S: Store>() {
    let mut store = S::open(10, 100).await;
    for number in [1, 2] {
        let (memo, origin) = (Some(Bytes::from(vec![number])), Some(Bytes::from(vec![number; 3])));
        let opening = Draft { memo, origin, ..draft(&task(u128::from(number)), Class::Change, "{}") };
        commit(store.journal(), [group([opening])]).await;
        store.fold().await;
    }
    add(store.journal(), &task(1), Class::Tick, "{}").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        let listed = store.journal().list(tasks()).await.unwrap();
        let found: Vec<_> = listed.iter().map(|stored| (stored.memo.as_deref(), stored.origin.as_deref())).collect();
        assert_eq!(found, [(Some(&[2][..]), Some(&[2; 3][..])), (Some(&[1]), Some(&[1; 3]))], "{moment:?}");
    }
}
