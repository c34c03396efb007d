//! How a watcher begins: with the state, with what it missed, with a reset, or not at all.

use super::*;

const CHANGE: Class = Class::Change;
const TICK: Class = Class::Tick;
const FINAL: Class = Class::Final;

/// What a watcher with this cursor begins with, and the seqs that follow at once.
async fn begin(floor: u64, events: &[(u64, Class)], cursor: Resume) -> String {
    let registry = registry(100);
    registry.advance(Seq(50));
    let (join, mut subscriber) = open(&registry, cursor, history(floor, events)).await;
    let state = state_of(&join).map_or("nothing".to_owned(), |seq| seq.to_string());
    let kind = match join {
        Join::First(_) => format!("first {state}"),
        Join::Reset(_) => format!("reset {state}"),
        Join::Waiting => "waiting".to_owned(),
        Join::Resumed => "resumed".to_owned(),
        Join::Ended => "ended".to_owned(),
    };
    let (seqs, end) = poll_all(&mut subscriber);
    let end = match end {
        Some(Delivery::Ended { .. }) => " end",
        Some(_) => " other end",
        None => "",
    };
    format!("{kind} {seqs:?}{end}")
}

#[tokio::test]
async fn a_cursor_resumes_exactly_or_is_declared_void() {
    let live = [(11, CHANGE), (14, CHANGE), (17, TICK)];
    let ended = [(11, CHANGE), (12, TICK), (20, FINAL)];
    let other = Resume::After(Cursor { epoch: "aaaaaaaa".parse().unwrap(), seq: Seq(14) });
    for (floor, events, cursor, expected) in [
        (0, &live[..], Resume::First, "first 17 []"),
        (0, &[], Resume::First, "first nothing []"),
        (0, &live, cursor(0), "resumed [11, 14, 17]"),
        (0, &live, cursor(11), "resumed [14, 17]"),
        (0, &live, cursor(13), "resumed [14, 17]"),
        (0, &live, cursor(17), "resumed []"),
        (0, &live, cursor(50), "resumed []"),
        (10, &live, cursor(10), "resumed [11, 14, 17]"),
        (10, &live, cursor(9), "reset 17 []"),
        (0, &live, cursor(51), "reset 17 []"),
        (0, &live, other, "reset 17 []"),
        (0, &live, Resume::Unreadable, "reset 17 []"),
        (0, &[], cursor(7), "resumed []"),
        (0, &[], cursor(51), "reset nothing []"),
        (0, &ended, Resume::First, "first 20 [] end"),
        (0, &ended, cursor(11), "resumed [12, 20] end"),
        (0, &ended, cursor(20), "ended [] end"),
        (0, &ended, cursor(30), "ended [] end"),
        (0, &ended, other, "reset 20 [] end"),
        (15, &ended, cursor(11), "reset 20 [] end"),
        // All that there was is gone: whoever comes with a cursor from before hears of it.
        (15, &[], Resume::First, "first nothing []"),
        (15, &[], cursor(14), "reset nothing []"),
        (15, &[], cursor(15), "resumed []"),
    ] {
        assert_eq!(begin(floor, events, cursor).await, expected, "floor {floor}, {events:?}, {cursor:?}");
    }
}

#[tokio::test]
async fn a_cursor_beyond_this_nodes_head_but_within_the_channels_is_not_from_the_future() {
    let registry = registry(100);
    let (join, _subscriber) = open(&registry, cursor(9), history(0, &[(9, CHANGE)])).await;
    assert!(matches!(join, Join::Resumed), "{join:?}");
}

#[tokio::test]
async fn a_watcher_that_knows_the_end_before_this_node_does_ends_with_it() {
    // It has seen the end at another node.
    let registry = registry(100);
    registry.advance(Seq(30));
    let (_, mut subscriber) = open(&registry, cursor(30), history(0, &[(1, CHANGE)])).await;
    assert_eq!(frames(&mut subscriber), [0u64; 0]);
    publish(&registry, 20, FINAL);
    assert!(matches!(poll_all(&mut subscriber), (seqs, Some(Delivery::Ended { .. })) if seqs.is_empty()));
}

#[tokio::test]
async fn the_final_event_is_the_last() {
    let registry = registry(100);
    let (_, mut subscriber) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    publish(&registry, 2, TICK);
    publish(&registry, 3, FINAL);
    let (seqs, end) = poll_all(&mut subscriber);
    assert_eq!(seqs, [2, 3]);
    assert!(matches!(end, Some(Delivery::Ended { watchers: 1 })), "{end:?}");
}

#[tokio::test]
async fn a_hidden_event_has_no_frame() {
    let registry = registry(100);
    let (_, mut subscriber) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    publish(&registry, 2, Class::Hidden);
    publish(&registry, 3, CHANGE);
    assert_eq!(frames(&mut subscriber), [3]);
}

#[tokio::test]
async fn what_is_deleted_ends_its_streams_and_is_loaded_anew_for_the_next() {
    let registry = registry(100);
    let (_, mut before) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    publish(&registry, 2, FINAL);
    publish(&registry, 3, Class::Tombstone);
    let (seqs, end) = poll_all(&mut before);
    assert_eq!(seqs, [2], "what happened before is delivered");
    assert!(matches!(end, Some(Delivery::Ended { .. })), "{end:?}");

    let (join, mut after) = open(&registry, Resume::First, history(3, &[])).await;
    assert_eq!(state_of(&join), None, "the deleted state is not shown");
    publish(&registry, 4, CHANGE);
    assert_eq!(frames(&mut after), [4], "a new life is watched");
}

#[tokio::test]
async fn after_a_gap_all_streams_end_and_channels_are_loaded_anew() {
    let registry = registry(100);
    let (_, mut before) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    // This one is still being loaded when the gap is met: what it reads may be older than the gap.
    let (loaded, wait) = tokio::sync::oneshot::channel();
    let load = async || Ok::<_, Infallible>(wait.await.unwrap());
    let other = task(2);
    let mut opening = Box::pin(registry.open(&other, Resume::First, load));
    assert!(futures_util::poll!(&mut opening).is_pending());

    registry.begin_anew(Seq(7));
    assert!(matches!(poll_all(&mut before), (_, Some(Delivery::Interrupted))));
    loaded.send(history(0, &[(1, CHANGE)])).unwrap();
    let (_, mut late) = opening.await.unwrap();
    assert!(matches!(poll_all(&mut late), (_, Some(Delivery::Interrupted))));

    // The gap was 2 to 7. The old channels leave after their successor has come.
    let (join, mut after) = open(&registry, cursor(1), history(0, &[(1, CHANGE), (5, CHANGE)])).await;
    drop((before, late));
    publish(&registry, 8, CHANGE);
    assert!(matches!(join, Join::Resumed));
    assert_eq!(frames(&mut after), [5, 8]);
}

#[tokio::test]
async fn hanging_up_touches_those_who_watch_now() {
    let registry = registry(100);
    let (_, mut before) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    drop(registry.find(&task(1)).unwrap().hang_up());
    let (_, mut after) = open(&registry, Resume::First, History::default()).await;
    publish(&registry, 2, CHANGE);
    assert!(matches!(poll_all(&mut before), (_, Some(Delivery::HungUp))));
    assert_eq!(frames(&mut after), [2]);
}

#[tokio::test]
async fn a_notice_is_replayed_but_never_shown_as_the_state() {
    let registry = registry(10);
    let loaded = || history(0, &[(1, Class::Notice), (2, Class::Change), (3, Class::Notice)]);
    let (first, _) = open(&registry, Resume::First, loaded()).await;
    assert_eq!(state_of(&first), Some(2));
    let (_, mut resumed) = open(&registry, cursor(1), loaded()).await;
    publish(&registry, 4, Class::Notice);
    assert_eq!(frames(&mut resumed), [2, 3, 4]);
    let (only_notices, _) = open(&self::registry(10), Resume::First, history(0, &[(1, Class::Notice)])).await;
    assert_eq!(state_of(&only_notices), None);
}
