//! What is kept, for how long, and what survives a restart.

use super::*;
use crate::{event::ChannelKind, journal::Stored};

/// Reads the whole history, without ticks that need not be in it.
async fn history(journal: &dyn Journal, channel: &ChannelName) -> (u64, Vec<u64>) {
    let History { floor, events } = journal.read(channel, Seq::ZERO).await.unwrap();
    assert_eq!(journal.last(channel).await.unwrap().unwrap().floor, floor);
    (floor.0, seqs(&settled(events)))
}

pub(super) async fn keeps_of_ticks_at_least_the_last<S: Store>() {
    let mut store = S::open(10, 100).await;
    add(store.journal(), &task(1), Class::Change, "{}").await;
    for _ in 0..5 {
        add(store.journal(), &task(1), Class::Tick, "{}").await;
        store.fold().await;
    }
    let newest = [draft(&task(1), Class::Tick, "6"), draft(&task(1), Class::Tick, "7")];
    commit(store.journal(), [group(newest)]).await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &task(1)).await, (0, vec![1, 8]), "{moment:?}");
        let last = store.journal().last(&task(1)).await.unwrap().unwrap();
        assert_eq!(last.visible.unwrap().draft.data, "7", "{moment:?}");
    }
}

pub(super) async fn keeps_a_tick_before_a_change<S: Store>() {
    for fold_between in [false, true] {
        let mut store = S::open(10, 100).await;
        for class in [Class::Change, Class::Tick, Class::Change, Class::Change] {
            add(store.journal(), &task(1), class, "{}").await;
            if fold_between {
                store.fold().await;
            }
        }
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(history(store.journal(), &task(1)).await, (0, vec![1, 2, 3, 4]), "{moment:?}");
        }
        add(store.journal(), &task(1), Class::Tick, "{}").await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(history(store.journal(), &task(1)).await, (0, vec![1, 3, 4, 5]), "{moment:?}");
        }
    }
}

pub(super) async fn a_tick_is_replaced_whatever_was_folded_between<S: Store>() {
    let mut store = S::open(10, 100).await;
    for classes in [&[Class::Tick, Class::Change][..], &[Class::Tick, Class::Change, Class::Tick]] {
        let drafts: Vec<Draft> = classes.iter().map(|class| draft(&task(1), *class, "{}")).collect();
        commit(store.journal(), [group(drafts)]).await;
        store.fold().await;
    }
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &task(1)).await, (0, vec![2, 4, 5]), "{moment:?}");
    }
}

pub(super) async fn trims_the_oldest_beyond_the_bound_and_raises_the_floor<S: Store>() {
    let mut store = S::open(2, 100).await;
    let steps: [(Class, u64, &[u64]); 6] = [
        (Class::Change, 0, &[1]),
        (Class::Tick, 0, &[1, 2]),
        (Class::Change, 0, &[1, 2, 3]),
        // With the first change goes nothing that is newer than it.
        (Class::Change, 1, &[2, 3, 4]),
        (Class::Change, 3, &[4, 5]),
        (Class::Final, 4, &[5, 6]),
    ];
    for (class, floor, kept) in steps {
        add(store.journal(), &task(1), class, "{}").await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(history(store.journal(), &task(1)).await, (floor, kept.to_vec()), "{moment:?} {kept:?}");
        }
    }
    // Many at once, so that some of them never reach the history.
    let many: Vec<Draft> = (0..5).map(|_| draft(&task(2), Class::Change, "{}")).collect();
    commit(store.journal(), [group(many)]).await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &task(2)).await, (9, vec![10, 11]), "{moment:?}");
    }
    let after = store.journal().read(&task(2), Seq(10)).await.unwrap();
    assert_eq!((after.floor, seqs(&after.events)), (Seq(9), vec![11]));
}

pub(super) async fn a_topic_keeps_its_value_below_the_floor<S: Store>() {
    let mut store = S::open(2, 100).await;
    let topic = ChannelName::topic("a").unwrap();
    let steps: [(Class, u64, &[u64]); 7] = [
        (Class::Change, 0, &[1]),
        (Class::Notice, 0, &[1, 2]),
        (Class::Notice, 1, &[1, 2, 3]),
        (Class::Notice, 2, &[1, 3, 4]),
        (Class::Change, 3, &[1, 4, 5]),
        (Class::Notice, 4, &[1, 5, 6]),
        (Class::Notice, 5, &[5, 6, 7]),
    ];
    for (class, floor, kept) in steps {
        add(store.journal(), &topic, class, "{}").await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(history(store.journal(), &topic).await, (floor, kept.to_vec()), "{moment:?} {kept:?}");
            let after = store.journal().read(&topic, Seq(kept[0])).await.unwrap();
            assert_eq!(seqs(&after.events), kept[1..], "{moment:?}");
        }
    }
    // Many at once, so that the value is trimmed before it is in the history.
    let classes = [Class::Change, Class::Change, Class::Notice, Class::Notice, Class::Notice];
    commit(store.journal(), [group(classes.map(|class| draft(&topic, class, "{}")))]).await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &topic).await, (10, vec![9, 11, 12]), "{moment:?}");
    }
    add(store.journal(), &topic, Class::Tombstone, "").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &topic).await, (13, vec![]), "{moment:?}");
    }
}

pub(super) async fn each_kind_of_channel_has_its_own_bound<S: Store>() {
    let mut store = S::open(HistoryBounds::new(2, 3, 1), 1_000).await;
    let [user, inbox, group] = ["user:a", "inbox:a", "group:a"].map(|name| name.parse::<ChannelName>().unwrap());
    let bounds = [(task(1), 2), (user, 100), (inbox, 3), (group, 3), ("topic:a".parse().unwrap(), 1)];
    for (channel, bound) in &bounds {
        // Half before the fold, half after it.
        for half in [bound / 2, bound + 3 - bound / 2] {
            let notices: Vec<Draft> = (0..half).map(|_| draft(channel, Class::Notice, "{}")).collect();
            commit(store.journal(), [super::group(notices)]).await;
            store.fold().await;
        }
    }
    for moment in MOMENTS {
        store = moment.of(store).await;
        for (channel, bound) in &bounds {
            let (floor, kept) = history(store.journal(), channel).await;
            assert_eq!((kept.len(), floor + 1), (*bound, kept[0]), "{moment:?} {channel}");
        }
    }
}

/// An event that counts so many bytes.
fn sized(channel: &ChannelName, class: Class, bytes: usize) -> Draft {
    let name = draft(channel, class, "").name.map_or(0, |name| name.len());
    draft(channel, class, &"x".repeat(bytes - name))
}

pub(super) async fn bounds_the_bytes_of_every_kind_of_channel<S: Store>() {
    let mut store = S::open(HistoryBounds::from(4).of_bytes(100), 1_000).await;
    let names = ["user:a", "inbox:a", "group:a", "topic:a"].map(|name| name.parse::<ChannelName>().unwrap());
    let channels: Vec<ChannelName> = [task(1)].into_iter().chain(names).collect();
    // What each step adds; then through which step all is trimmed, and which are kept.
    let steps: [(Class, usize, usize, &[usize]); 9] = [
        (Class::Notice, 40, 0, &[1]),
        (Class::Notice, 60, 0, &[1, 2]),
        (Class::Notice, 41, 2, &[3]),
        (Class::Tick, 200, 2, &[3, 4]),
        (Class::Notice, 59, 2, &[3, 4, 5]),
        // One event is never too big.
        (Class::Notice, 101, 5, &[6]),
        (Class::Notice, 8, 6, &[7]),
        (Class::Hidden, 200, 6, &[7]),
        (Class::Notice, 92, 6, &[7, 9]),
    ];
    let count = channels.len();
    for (class, bytes, trimmed, kept) in steps {
        for channel in &channels {
            commit(store.journal(), [group([sized(channel, class, bytes)])]).await;
        }
        for moment in MOMENTS {
            store = moment.of(store).await;
            for (nth, channel) in (1..).zip(&channels) {
                let seq = |step: usize| ((step - 1) * count + nth) as u64;
                let floor = if trimmed == 0 { 0 } else { seq(trimmed) };
                let kept = kept.iter().map(|step| seq(*step)).collect();
                assert_eq!(history(store.journal(), channel).await, (floor, kept), "{moment:?} {channel} {bytes}");
            }
        }
    }
    // Many at once: the count is reached before the bytes, then the bytes before the count.
    for (bytes, kept) in [(10, 4), (30, 3)] {
        let many: Vec<Draft> = (0..6).map(|_| sized(&task(2), Class::Change, bytes)).collect();
        commit(store.journal(), [group(many)]).await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            let head = store.journal().head().await.unwrap().0;
            let found = history(store.journal(), &task(2)).await;
            assert_eq!(found, (head - kept, (head - kept + 1..=head).collect()), "{moment:?} {bytes}");
        }
    }
}

pub(super) async fn the_value_of_a_topic_outlives_the_bound_on_bytes<S: Store>() {
    let mut store = S::open(HistoryBounds::from(10).of_bytes(100), 100).await;
    let topic = ChannelName::topic("a").unwrap();
    let value = |bytes| sized(&topic, Class::Change, bytes);
    let notice = |bytes| sized(&topic, Class::Notice, bytes);
    let steps = [
        (vec![value(90)], 0, vec![1]),
        (vec![notice(50)], 1, vec![1, 2]),
        (vec![notice(50)], 1, vec![1, 2, 3]),
        (vec![notice(200)], 3, vec![1, 4]),
        // The value is trimmed before it is in the history.
        (vec![value(300), notice(20), notice(81), notice(19)], 6, vec![5, 7, 8]),
    ];
    for (drafts, floor, kept) in steps {
        commit(store.journal(), [group(drafts)]).await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(history(store.journal(), &topic).await, (floor, kept.clone()), "{moment:?}");
        }
    }
    add(store.journal(), &topic, Class::Tombstone, "").await;
    commit(store.journal(), [group([notice(60), notice(60)])]).await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &topic).await, (10, vec![11]), "{moment:?}");
    }
}

pub(super) async fn neither_ticks_nor_hidden_events_push_others_out<S: Store>() {
    let mut store = S::open(2, 100).await;
    for class in [Class::Change, Class::Change] {
        add(store.journal(), &task(1), class, "{}").await;
    }
    for _ in 0..4 {
        add(store.journal(), &task(1), Class::Tick, "{}").await;
        add(store.journal(), &task(1), Class::Hidden, "").await;
    }
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &task(1)).await, (0, vec![1, 2, 9]), "{moment:?}");
        let last = store.journal().last(&task(1)).await.unwrap().unwrap();
        assert_eq!((last.last, last.visible.unwrap().seq), (Seq(10), Seq(9)), "{moment:?}");
    }
}

pub(super) async fn a_tombstone_leaves_only_that_it_was_there<S: Store>() {
    for fold_before in [false, true] {
        let mut store = S::open(10, 100).await;
        let opening = Draft {
            memo: Some(Bytes::from_static(b"memo")),
            origin: Some(Bytes::from_static(b"origin")),
            ..draft(&task(1), Class::Change, "{}")
        };
        commit(store.journal(), [group([opening])]).await;
        add(store.journal(), &task(1), Class::Tick, "{}").await;
        commit(store.journal(), [group_at(5, [draft(&task(1), Class::Final, "{}")])]).await;
        if fold_before {
            store.fold().await;
        }
        add(store.journal(), &task(1), Class::Tombstone, "").await;
        let gone = Stored {
            channel: task(1),
            created: Seq(1),
            last: Seq(4),
            floor: Seq(4),
            visible: None,
            memo: None,
            origin: None,
            finished_at: Some(at(5)),
            gone: true,
        };
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(store.journal().last(&task(1)).await.unwrap(), Some(gone.clone()), "{moment:?}");
            assert_eq!(history(store.journal(), &task(1)).await, (4, vec![]), "{moment:?}");
        }
    }
}

pub(super) async fn a_channel_begins_anew_after_its_tombstone<S: Store>() {
    for fold_between in [false, true] {
        let mut store = S::open(10, 100).await;
        let origin = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let first = Draft { origin: origin("first"), ..draft(&task(1), Class::Change, "{}") };
        let again = Draft { origin: origin("again"), ..draft(&task(1), Class::Change, "{\"status\":\"pending\"}") };
        let end = draft(&task(1), Class::Final, "{}");
        let tombstone = draft(&task(1), Class::Tombstone, "");
        for step in [first, end, tombstone, again] {
            commit(store.journal(), [group([step])]).await;
            if fold_between {
                store.fold().await;
            }
        }
        for moment in MOMENTS {
            store = moment.of(store).await;
            let stored = store.journal().last(&task(1)).await.unwrap().unwrap();
            assert_eq!((stored.created, stored.last, stored.floor), (Seq(4), Seq(4), Seq(3)), "{moment:?}");
            assert_eq!((stored.origin, stored.finished_at, stored.gone), (origin("again"), None, false));
            assert_eq!(history(store.journal(), &task(1)).await, (3, vec![4]), "{moment:?}");
        }
    }
}

pub(super) async fn nothing_of_a_topic_outlives_its_deletion<S: Store>() {
    let topic = ChannelName::topic("t").unwrap();
    for fold_between in [false, true] {
        let mut store = S::open(1, 100).await;
        add(store.journal(), &topic, Class::Change, "value").await;
        store.fold().await;
        // It begins anew without a value, and more is told than is kept.
        for class in [Class::Tombstone, Class::Notice, Class::Notice] {
            add(store.journal(), &topic, class, "{}").await;
            if fold_between {
                store.fold().await;
            }
        }
        for moment in MOMENTS {
            store = moment.of(store).await;
            assert_eq!(history(store.journal(), &topic).await, (3, vec![4]), "{moment:?}");
        }
    }
}

pub(super) async fn sweeps_old_tombstones_and_nothing_else<S: Store>() {
    for moment in MOMENTS {
        let mut store = S::open(10, 100).await;
        let channels = [task(1), task(2), task(3), key(4), key(5)];
        let classes = [Class::Tombstone, Class::Tombstone, Class::Final, Class::Tombstone, Class::Hidden];
        let times = [9, 10, 9, 9, 9];
        for ((channel, class), time) in channels.iter().zip(classes).zip(times) {
            commit(store.journal(), [group_at(1, [draft(channel, Class::Change, "{}")])]).await;
            commit(store.journal(), [group_at(time, [draft(channel, class, "{}")])]).await;
        }
        store = moment.of(store).await;
        sweep_all(&store, 10).await;
        for moment in MOMENTS {
            store = moment.of(store).await;
            for (channel, stays) in channels.iter().zip([false, true, true, false, true]) {
                let found = store.journal().last(channel).await.unwrap();
                assert_eq!(found.is_some(), stays, "{moment:?} {channel}");
            }
        }
        let anew = [task(1), key(4)]
            .map(|channel| expecting(&channel, Expect::Absent, [draft(&channel, Class::Change, "{}")]));
        commit(store.journal(), anew).await;
        assert_eq!(history(store.journal(), &task(1)).await, (0, vec![11]));
    }
}

pub(super) async fn sweeps_no_more_than_it_is_asked_to<S: Store>() {
    let store = S::open(10, 100).await;
    // The older a tombstone, the higher its number.
    let tombstones: Vec<Group> =
        (0..5).map(|number| group_at(9 - number, [draft(&task(number as u128), Class::Tombstone, "")])).collect();
    commit(store.journal(), tombstones).await;
    store.fold().await;
    let mut left = 5;
    for (limit, more) in [(0, None), (2, Some(true)), (1, Some(true)), (9, Some(false)), (9, Some(false))] {
        let found = store.journal().sweep(at(10), limit).await.unwrap();
        assert!(more.is_none_or(|more| more == found), "{limit}");
        left -= limit.min(left);
        for number in 0..5 {
            let found = store.journal().last(&task(number)).await.unwrap();
            assert_eq!(found.is_some(), (number as usize) < left, "{number} after {limit}");
        }
    }
    assert_eq!(left, 0);
}

pub(super) async fn sweeps_no_channel_that_has_begun_anew<S: Store>() {
    let mut store = S::open(10, 100).await;
    let tombstones = [1, 2].map(|number| draft(&task(number), Class::Tombstone, ""));
    commit(store.journal(), [group(tombstones)]).await;
    store.fold().await;
    add(store.journal(), &task(1), Class::Change, "{}").await;
    let beginning = [expecting(&task(2), Expect::At(Seq(2)), [draft(&task(2), Class::Change, "{}")])];
    let (more, begun) = tokio::join!(store.journal().sweep(at(1), 2), append(store.journal(), beginning));
    more.unwrap();
    let begun = begun.unwrap().outcomes == [Outcome::Committed];
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &task(1)).await, (1, vec![3]), "{moment:?}");
        let second = store.journal().last(&task(2)).await.unwrap().map(|stored| stored.floor);
        assert_eq!(second, begun.then_some(Seq(2)), "{moment:?}");
    }
}

pub(super) async fn trims_what_is_old_a_slice_at_a_time<S: Store>() {
    let mut store = S::open(10, 100).await;
    let inboxes = ["a", "b", "c"].map(|name| ChannelName::inbox(name).unwrap());
    // The times of the events of each; one that is older than one before it stays.
    for (inbox, times) in inboxes.iter().zip([&[1, 2, 20][..], &[20, 1], &[1, 2]]) {
        for time in times {
            commit(store.journal(), [group_at(*time, [draft(inbox, Class::Notice, "{}")])]).await;
        }
    }
    let other = ChannelName::user("a").unwrap();
    commit(store.journal(), [group_at(1, [draft(&other, Class::Notice, "{}")])]).await;
    store.fold().await;
    let trim =
        async |store: &S, after, limit| store.journal().trim(ChannelKind::Inbox, at(10), after, limit).await.unwrap();
    assert_eq!(trim(&store, Seq::ZERO, 1).await, Some(Seq(1)));
    assert_eq!(history(store.journal(), &inboxes[2]).await, (0, vec![6, 7]), "not yet");
    assert_eq!(trim(&store, Seq(1), 1).await, Some(Seq(6)));
    assert_eq!(trim(&store, Seq(6), 1).await, None);
    assert_eq!(trim(&store, Seq::ZERO, 9).await, None);
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &inboxes[0]).await, (2, vec![3]), "{moment:?}");
        assert_eq!(history(store.journal(), &inboxes[1]).await, (0, vec![4, 5]), "{moment:?}");
        assert_eq!(history(store.journal(), &inboxes[2]).await, (7, vec![]), "{moment:?}");
        assert_eq!(history(store.journal(), &other).await, (0, vec![8]), "{moment:?}");
        let empty = store.journal().last(&inboxes[2]).await.unwrap().unwrap();
        assert_eq!((empty.last, empty.visible, empty.gone), (Seq(7), None, false), "{moment:?}");
    }
    commit(store.journal(), [group_at(21, [draft(&inboxes[2], Class::Notice, "{}")])]).await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(history(store.journal(), &inboxes[2]).await, (7, vec![9]), "{moment:?}");
    }
}

pub(super) async fn never_gives_a_seq_again<S: Store>() {
    let mut store = S::open(1, 0).await;
    for class in [Class::Change, Class::Final, Class::Tombstone] {
        add(store.journal(), &task(1), class, "{}").await;
    }
    sweep_all(&store, 1).await;
    assert_eq!(store.journal().last(&task(1)).await.unwrap(), None);
    store = store.restarted().await;
    assert_eq!(store.journal().head().await.unwrap(), Seq(3));
    assert_eq!(add(store.journal(), &task(1), Class::Change, "{}").await, Seq(4));
    store = store.crashed().await;
    assert_eq!(add(store.journal(), &task(1), Class::Change, "{}").await, Seq(5));
}

pub(super) async fn keeps_its_name_and_head<S: Store>() {
    let mut store = S::open(10, 100).await;
    let name = store.journal().epochs().store();
    assert_ne!(S::open(10, 100).await.journal().epochs().store(), name);
    add(store.journal(), &task(1), Class::Change, "{}").await;
    for moment in MOMENTS {
        store = moment.of(store).await;
        assert_eq!(store.journal().epochs().store(), name, "{moment:?}");
        assert_eq!(store.journal().head().await.unwrap(), Seq(1), "{moment:?}");
    }
}

pub(super) async fn begins_an_epoch_with_each_life_and_keeps_those_before<S: Store>() {
    let mut store = S::open(10, 100).await;
    let mut given = [Seq::ZERO, Seq(1)].map(|seq| store.journal().epochs().cursor(seq)).to_vec();
    for moment in MOMENTS.repeat(3) {
        store = moment.of(store).await;
        let head = store.journal().head().await.unwrap();
        let next = store.journal().epochs().cursor(head.next());
        let starts = matches!(moment, Moment::Restarted | Moment::Crashed);
        let begins = starts && S::STARTS_BEGIN_EPOCHS;
        assert_eq!(begins, given.iter().all(|cursor| cursor.epoch != next.epoch), "{moment:?}");
        for cursor in &given {
            assert_eq!(store.journal().epochs().cursor(cursor.seq), *cursor, "{moment:?}");
        }
        let seq = add(store.journal(), &task(1), Class::Change, "{}").await;
        given.push(store.journal().epochs().cursor(seq));
    }
}

pub(super) async fn folds_all_that_there_is<S: Store>() {
    let mut store = S::open(10, 100).await;
    add(store.journal(), &task(1), Class::Change, "{}").await;
    store.fold().await;
    assert_eq!(store.journal().folded_through(), Seq(1));
    add(store.journal(), &task(1), Class::Change, "{}").await;
    store = store.crashed().await;
    store.fold().await;
    assert_eq!(store.journal().folded_through(), Seq(2));
}
