//! Ticks: the first at once, the next after the interval, the last never lost.

use tokio::{sync::mpsc, task::JoinSet};

use super::*;

const CHANGE: Class = Class::Change;
const TICK: Class = Class::Tick;

/// A registry with its pacer, and the times in milliseconds at which watchers get frames.
struct Clocked {
    registry: Registry,
    tasks: JoinSet<()>,
    started: Instant,
}

impl Clocked {
    fn start() -> Self {
        let registry = registry(100);
        let mut tasks = JoinSet::new();
        let paced = registry.clone();
        tasks.spawn(async move { paced.run().await });
        Self { registry, tasks, started: Instant::now() }
    }

    async fn watch(&mut self, nth: u128) -> mpsc::Receiver<(u64, u128)> {
        let load = async || Ok::<_, Infallible>(History::default());
        let (_, mut subscriber) = self.registry.open(&task(nth), Resume::First, load).await.unwrap();
        let (sender, receiver) = mpsc::channel(100);
        let started = self.started;
        self.tasks.spawn(async move {
            while let Delivery::Frame(frame) = subscriber.next().await {
                sender.send((frame.seq().0, started.elapsed().as_millis())).await.unwrap();
            }
        });
        receiver
    }

    async fn at(&self, millis: u64) {
        tokio::time::sleep_until(self.started + Duration::from_millis(millis)).await;
    }

    fn publish(&self, nth: u128, seq: u64, class: Class) {
        publish_on(&self.registry, &task(nth), seq, class);
    }
}

async fn drained(clocked: &Clocked, received: &mut mpsc::Receiver<(u64, u128)>) -> Vec<(u64, u128)> {
    clocked.at(1_000).await;
    std::iter::from_fn(|| received.try_recv().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_tick_leaves_at_once_and_the_last_is_never_lost() {
    let mut clocked = Clocked::start();
    let mut received = clocked.watch(1).await;
    for (at, seq) in [(0, 1), (10, 2), (20, 3), (60, 4), (105, 5), (300, 6)] {
        clocked.at(at).await;
        clocked.publish(1, seq, TICK);
    }
    assert_eq!(drained(&clocked, &mut received).await, [(1, 0), (3, 50), (4, 100), (5, 150), (6, 300)]);
}

#[tokio::test(start_paused = true)]
async fn channels_whose_ticks_are_due_together_all_get_them() {
    let mut clocked = Clocked::start();
    let mut received = [clocked.watch(1).await, clocked.watch(2).await, clocked.watch(3).await];
    for (at, seq) in [(0, 1), (10, 4)] {
        clocked.at(at).await;
        (1..=3).for_each(|nth| clocked.publish(nth, seq + nth as u64 - 1, TICK));
    }
    for (nth, received) in (1..).zip(&mut received) {
        assert_eq!(drained(&clocked, received).await, [(nth, 0), (nth + 3, 50)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_tick_leaves_before_any_later_event() {
    let mut clocked = Clocked::start();
    let mut received = clocked.watch(1).await;
    for (at, seq, class) in [(0, 1, TICK), (10, 2, TICK), (20, 3, CHANGE), (30, 4, TICK), (40, 5, Class::Final)] {
        clocked.at(at).await;
        clocked.publish(1, seq, class);
    }
    assert_eq!(drained(&clocked, &mut received).await, [(1, 0), (2, 20), (3, 20), (4, 40), (5, 40)]);
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_went_along_with_a_change_counts_for_the_pace() {
    let mut clocked = Clocked::start();
    let mut received = clocked.watch(1).await;
    for (at, seq, class) in [(0, 1, TICK), (10, 2, TICK), (40, 3, CHANGE), (45, 4, TICK)] {
        clocked.at(at).await;
        clocked.publish(1, seq, class);
    }
    assert_eq!(drained(&clocked, &mut received).await, [(1, 0), (2, 40), (3, 40), (4, 90)]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_does_not_wait_for_anothers_tick() {
    let mut clocked = Clocked::start();
    let (mut one, mut two) = (clocked.watch(1).await, clocked.watch(2).await);
    for (at, nth, seq) in [(0, 1, 1), (30, 2, 2), (31, 2, 3), (40, 1, 4)] {
        clocked.at(at).await;
        clocked.publish(nth, seq, TICK);
    }
    assert_eq!(drained(&clocked, &mut one).await, [(1, 0), (4, 50)]);
    assert_eq!(drained(&clocked, &mut two).await, [(2, 30), (3, 80)]);
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_a_tick_is_held_sees_it_once() {
    let mut clocked = Clocked::start();
    let mut first = clocked.watch(1).await;
    clocked.publish(1, 1, TICK);
    clocked.publish(1, 2, TICK);
    let (join, mut joiner) = open(&clocked.registry, Resume::First, History::default()).await;
    assert_eq!(state_of(&join), Some(2), "the newest state");
    let (_, mut resumed) = open(&clocked.registry, cursor(1), History::default()).await;
    assert_eq!(frames(&mut resumed), [0u64; 0], "it is still held");
    assert_eq!(drained(&clocked, &mut first).await, [(1, 0), (2, 50)]);
    assert_eq!(frames(&mut joiner), [0u64; 0], "not the tick again");
    assert_eq!(frames(&mut resumed), [2]);
}

#[tokio::test(start_paused = true)]
async fn draining_lets_held_ticks_go() {
    let registry = registry(100);
    let (_, mut subscriber) = open(&registry, Resume::First, History::default()).await;
    publish(&registry, 1, TICK);
    publish(&registry, 2, TICK);
    assert_eq!(frames(&mut subscriber), [1], "the second is held");
    registry.drain();
    let (seqs, end) = poll_all(&mut subscriber);
    assert_eq!(seqs, [2]);
    assert!(matches!(end, Some(Delivery::Draining)));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_loaded_already_does_not_count_when_it_is_published() {
    let registry = registry(100);
    let (_, mut subscriber) = open(&registry, Resume::First, history(0, &[(1, CHANGE), (3, TICK)])).await;
    publish(&registry, 2, TICK);
    publish(&registry, 3, TICK);
    publish(&registry, 4, TICK);
    assert_eq!(frames(&mut subscriber), [4], "the first tick leaves at once");
}
