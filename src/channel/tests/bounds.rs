//! What a slow watcher costs, who is turned away, and that nothing is left behind.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;

const CHANGE: Class = Class::Change;
const TICK: Class = Class::Tick;

#[tokio::test]
async fn a_slow_watcher_gets_every_change_and_the_latest_tick() {
    let registry = registry(100);
    let (_, mut slow) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    for seq in 2..10_000 {
        publish(&registry, seq, if seq % 1_000 == 0 { CHANGE } else { TICK });
    }
    registry.drain();
    let (seqs, _) = poll_all(&mut slow);
    assert_eq!(seqs, [1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000, 9_999]);
}

/// Bounds that let a channel keep three changes: by their count, and by their bytes.
fn three_changes() -> [HistoryBounds; 2] {
    let bytes = event_on(&task(1), 1, CHANGE).size_bytes();
    [3.into(), HistoryBounds::from(100).of_bytes(3 * bytes + bytes - 1)]
}

#[tokio::test]
async fn changes_beyond_the_bound_are_trimmed_and_who_needs_them_is_let_go() {
    for bounds in three_changes() {
        let registry = registry(bounds);
        let (_, mut slow) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
        let (_, mut quick) = open(&registry, Resume::First, History::default()).await;
        for seq in 2..=4 {
            publish(&registry, seq, CHANGE);
        }
        assert_eq!(frames(&mut quick), [2, 3, 4]);
        publish(&registry, 5, CHANGE);
        assert!(matches!(poll_all(&mut slow), (seqs, Some(Delivery::Lapsed)) if seqs.is_empty()));
        assert_eq!(slow.position(), Seq(1));
        assert_eq!(frames(&mut quick), [5]);

        let (join, _) = open(&registry, cursor(1), History::default()).await;
        assert!(matches!(join, Join::Reset(_)), "its cursor leads to a reset: {join:?}");
        let (join, mut resumed) = open(&registry, cursor(2), History::default()).await;
        assert!(matches!(join, Join::Resumed), "at the floor it is exact: {join:?}");
        assert_eq!(frames(&mut resumed), [3, 4, 5]);
    }
}

#[tokio::test]
async fn what_is_published_while_a_channel_is_loaded_is_bounded_too() {
    for bounds in three_changes() {
        let registry = registry(bounds);
        let (loaded, wait) = tokio::sync::oneshot::channel();
        let name = task(1);
        let load = async || Ok::<_, Infallible>(wait.await.unwrap());
        let mut opening = Box::pin(registry.open(&name, cursor(1), load));
        assert!(futures_util::poll!(&mut opening).is_pending());
        let frame = event_on(&task(1), 2, CHANGE);
        for seq in 2..=20 {
            registry.publish(&Event { seq: Seq(seq), ..frame.clone() }, std::time::Instant::now());
        }
        loaded.send(history(0, &[(1, CHANGE)])).unwrap();
        let (join, _subscriber) = opening.await.unwrap();
        assert!(matches!(join, Join::Reset(_)), "2 to 17 are trimmed: {join:?}");
        let (_, mut resumed) = open(&registry, cursor(17), History::default()).await;
        assert_eq!(frames(&mut resumed), [18, 19, 20]);
    }
}

#[tokio::test]
async fn a_change_that_is_bigger_than_the_bound_is_kept_alone() {
    let registry = registry(HistoryBounds::from(100).of_bytes(1));
    let (_, mut watcher) = open(&registry, Resume::First, history(0, &[(1, CHANGE), (2, CHANGE)])).await;
    assert!(frames(&mut watcher).is_empty());
    publish(&registry, 3, TICK);
    publish(&registry, 4, CHANGE);
    assert_eq!(frames(&mut watcher), [3, 4]);
    let (join, _) = open(&registry, cursor(1), History::default()).await;
    assert!(matches!(join, Join::Reset(_)), "{join:?}");
    let (_, mut resumed) = open(&registry, cursor(2), History::default()).await;
    assert_eq!(frames(&mut resumed), [3, 4]);
}

fn small() -> Registry {
    let limits = StreamLimits { history: 3.into(), tick_interval: INTERVAL, streams: 3, streams_per_channel: 2 };
    Registry::new(epoch(), limits)
}

async fn try_open(registry: &Registry, nth: u128) -> Result<Subscriber, StreamRefused> {
    let load = async || Ok::<_, Infallible>(History::default());
    match registry.open(&task(nth), Resume::First, load).await {
        Ok((_, subscriber)) => Ok(subscriber),
        Err(WatchError::Refused(refused)) => Err(refused),
    }
}

#[tokio::test]
async fn the_bounds_turn_watchers_away_and_their_places_come_back() {
    let registry = small();
    let first = try_open(&registry, 1).await.unwrap();
    let second = try_open(&registry, 1).await.unwrap();
    assert_eq!(try_open(&registry, 1).await.unwrap_err(), StreamRefused::TooManyOnChannel);
    assert_eq!(registry.streams(), 2, "who was turned away holds no place");
    let third = try_open(&registry, 2).await.unwrap();
    assert_eq!(try_open(&registry, 3).await.unwrap_err(), StreamRefused::TooManyStreams);
    assert_eq!(registry.streams(), 3);

    drop((second, third));
    assert_eq!((registry.streams(), first.channels().map(Channel::subscribers).sum::<usize>()), (1, 1));
    assert!(try_open(&registry, 1).await.is_ok());
}

#[tokio::test]
async fn nobody_is_let_in_while_draining() {
    let registry = small();
    let watching = try_open(&registry, 1).await.unwrap();
    let (loaded, wait) = tokio::sync::oneshot::channel();
    let name = task(2);
    let load = async || Ok::<_, Infallible>(wait.await.unwrap());
    let mut opening = Box::pin(registry.open(&name, Resume::First, load));
    assert!(futures_util::poll!(&mut opening).is_pending());
    registry.drain();
    loaded.send(History::default()).unwrap();
    assert_eq!(opening.await.unwrap_err(), WatchError::Refused(StreamRefused::Draining), "it was on its way in");
    assert_eq!(try_open(&registry, 1).await.unwrap_err(), StreamRefused::Draining);
    drop(watching);
    assert_eq!(registry.streams(), 0);
}

#[tokio::test]
async fn a_channel_leaves_with_its_last_watcher() {
    let registry = small();
    let first = try_open(&registry, 1).await.unwrap();
    let second = try_open(&registry, 1).await.unwrap();
    drop(first);
    assert!(registry.find(&task(1)).is_some());
    drop(second);
    assert!(registry.find(&task(1)).is_none());
    assert_eq!(registry.channels(), 0, "not even its name is kept");
}

#[tokio::test]
async fn a_load_that_fails_or_is_given_up_leaves_nothing_behind() {
    let registry = small();
    let failed = registry.open(&task(1), Resume::First, async || Err::<History, _>("no store")).await;
    assert_eq!(failed.unwrap_err(), WatchError::Load("no store"));
    {
        let name = task(1);
        let mut given_up =
            Box::pin(registry.open(&name, Resume::First, async || std::future::pending::<Result<_, ()>>().await));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        assert_eq!(registry.streams(), 1);
    }
    assert_eq!(registry.streams(), 0);
    assert_eq!(registry.channels(), 0);
    let (join, _subscriber) = open(&registry, Resume::First, history(0, &[(1, CHANGE)])).await;
    assert_eq!(state_of(&join), Some(1), "the next loads again");
}

#[tokio::test]
async fn who_waits_for_a_load_that_fails_loads_itself() {
    let registry = registry(3);
    let (fail, wait) = tokio::sync::oneshot::channel::<()>();
    let name = task(1);
    let mut failing = Box::pin(registry.open(&name, Resume::First, async || wait.await.map(|()| History::default())));
    assert!(futures_util::poll!(&mut failing).is_pending());
    let mut waiting = Box::pin(open(&registry, Resume::First, history(0, &[(1, CHANGE)])));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    publish(&registry, 2, CHANGE);
    drop(fail);
    assert!(failing.await.is_err());
    let (join, _subscriber) = waiting.await;
    assert_eq!(state_of(&join), Some(2), "nor is what was published meanwhile lost");
}

#[tokio::test]
async fn the_log_keeps_neither_memo_nor_origin() {
    let registry = registry(3);
    let (_, mut subscriber) = open(&registry, Resume::First, History::default()).await;
    publish(&registry, 1, CHANGE);
    let Delivery::Frame(frame) = subscriber.next().await else { panic!("no frame") };
    assert_eq!(frame.event().draft.memo, None);
}

/// Watchers come and go on all threads while events are published and streams are hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coming_and_going_while_publishing_neither_locks_up_nor_leaks() {
    let registry = registry(3);
    let done = Arc::new(AtomicBool::new(false));
    let mut watchers = JoinSet::new();
    for _ in 0..8 {
        let (registry, done) = (registry.clone(), Arc::clone(&done));
        watchers.spawn(async move {
            while !done.load(Ordering::Acquire) {
                let (_, mut subscriber) = open(&registry, Resume::First, History::default()).await;
                for _ in 0..3 {
                    // Whatever comes: the last to leave drops the channel while it is published to.
                    let _delivered = poll_all(&mut subscriber);
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let publisher = registry.clone();
    let published = tokio::task::spawn_blocking(move || {
        for seq in 1..20_000 {
            let class = if seq % 97 == 0 { Class::Tombstone } else { TICK };
            publish(&publisher, seq, class);
            if seq % 1_000 == 0 {
                publisher.begin_anew(Seq(seq));
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(60), published).await.expect("publishing is locked up").unwrap();
    done.store(true, Ordering::Release);
    tokio::time::timeout(Duration::from_secs(60), watchers.join_all()).await.expect("a watcher is locked up");
    assert_eq!(registry.streams(), 0);
    assert_eq!(registry.channels(), 0);
}
