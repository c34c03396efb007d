//! State, then every change: whatever comes between committing, publishing, loading and joining.

use std::sync::Mutex as StdMutex;

use proptest::prelude::*;
use tokio::{sync::Semaphore, task::JoinSet};

use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// An event becomes durable.
    Commit(Class),
    /// The oldest events that are durable and unpublished are published.
    Publish(usize),
    /// A watcher comes: for the first time, or with a cursor this many events behind the head.
    Open(Option<u64>),
    /// A load that is on its way reads the journal, or has read it and comes back.
    Load,
    /// Time passes, and everybody runs.
    Pass(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => prop_oneof![2 => Just(Class::Change), 3 => Just(Class::Tick), 1 => Just(Class::Hidden)].prop_map(Act::Commit),
        6 => (1usize..4).prop_map(Act::Publish),
        2 => prop::option::of(0u64..12).prop_map(Act::Open),
        4 => Just(Act::Load),
        4 => (0u64..70).prop_map(Act::Pass),
    ]
}

/// What one stream was, from its join to its end.
#[derive(Debug)]
struct Stream {
    cursor: Option<u64>,
    join: Join,
    /// The last seq that was published before it came.
    published_before: u64,
    seqs: Vec<u64>,
    end: Delivery,
}

#[derive(Clone)]
struct World {
    registry: Registry,
    journal: Arc<StdMutex<Vec<Event>>>,
    loads: Arc<Semaphore>,
}

impl World {
    fn head(&self) -> u64 {
        self.journal.lock().unwrap().len() as u64
    }

    fn commit(&self, class: Class) {
        let mut journal = self.journal.lock().unwrap();
        let seq = journal.len() as u64 + 1;
        journal.push(event_on(&task(1), seq, class));
    }

    /// A step of the load comes before it reads, another after.
    async fn load(&self) -> Result<History, Infallible> {
        self.loads.acquire().await.unwrap().forget();
        let visible = |event: &&Event| event.class().is_visible();
        let events = self.journal.lock().unwrap().iter().filter(visible).cloned().collect();
        self.loads.acquire().await.unwrap().forget();
        Ok(History { floor: Seq::ZERO, events })
    }

    async fn watch(self, from: Option<u64>, published_before: u64) -> Stream {
        let opened = self.registry.open(&task(1), from.map_or(Resume::First, cursor), async || self.load().await).await;
        let (join, mut subscriber) = opened.unwrap();
        let mut seqs = Vec::new();
        loop {
            match subscriber.next().await {
                Delivery::Frame(frame) => seqs.push(frame.seq().0),
                end => return Stream { cursor: from, join, published_before, seqs, end },
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn run(acts: Vec<Act>, bound: usize) -> (Vec<Event>, Vec<Stream>) {
    let limits =
        StreamLimits { history: bound.into(), tick_interval: INTERVAL, streams: 100, streams_per_channel: 100 };
    let world =
        World { registry: Registry::new(epoch(), limits), journal: Arc::default(), loads: Arc::new(Semaphore::new(0)) };
    let mut pacer = JoinSet::new();
    let paced = world.registry.clone();
    pacer.spawn(async move { paced.run().await });
    let mut watchers = JoinSet::new();
    let mut published = 0;
    let publish = |published: &mut u64, through: u64| {
        let events = world.journal.lock().unwrap()[*published as usize..through as usize].to_vec();
        for event in events {
            world.registry.advance(event.seq);
            world.registry.publish(&event, std::time::Instant::now());
        }
        *published = through;
    };
    world.commit(Class::Change);
    for act in acts {
        match act {
            Act::Commit(class) => world.commit(class),
            Act::Publish(count) => {
                let through = world.head().min(published + count as u64);
                publish(&mut published, through);
            }
            Act::Open(behind) => {
                let from = behind.map(|behind| published.saturating_sub(behind));
                watchers.spawn(world.clone().watch(from, published));
            }
            Act::Load => world.loads.add_permits(1),
            Act::Pass(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }
    world.loads.add_permits(1_000);
    tokio::time::sleep(INTERVAL).await;
    world.commit(Class::Final);
    publish(&mut published, world.head());
    let streams = tokio::time::timeout(Duration::from_secs(600), watchers.join_all()).await;
    let journal = world.journal.lock().unwrap().clone();
    (journal, streams.expect("each watcher is woken and sees the end"))
}

fn check(journal: &[Event], stream: &Stream, bound: usize) -> Result<(), TestCaseError> {
    let class = |seq: u64| journal[seq as usize - 1].class();
    let lasting = |seq: &u64| matches!(class(*seq), Class::Change | Class::Final);
    let head = journal.len() as u64;
    let lasting_after = |seq: u64| (seq + 1..=head).filter(lasting).collect::<Vec<_>>();
    let start = match (&stream.join, stream.cursor) {
        (Join::First(Some(state)), None) => {
            let published = (1..=stream.published_before).rfind(|seq| class(*seq).is_visible()).unwrap_or(0);
            prop_assert!(state.seq().0 >= published, "the state was old");
            state.seq().0
        }
        (Join::Reset(Some(state)), Some(cursor)) => {
            prop_assert!(lasting_after(cursor).len() > bound, "reset without need");
            state.seq().0
        }
        (Join::Resumed | Join::Ended, Some(cursor)) => cursor,
        (join, _) => return Err(TestCaseError::fail(format!("began with {join:?}"))),
    };
    prop_assert!(stream.seqs.is_sorted_by(|one, next| one < next), "out of order, or twice");
    prop_assert!(stream.seqs.iter().all(|seq| *seq > start && class(*seq).is_visible()));
    let got: Vec<u64> = stream.seqs.iter().copied().filter(lasting).collect();
    match stream.end {
        Delivery::Ended { .. } => {
            prop_assert_eq!(got, lasting_after(start), "a gap");
            let last_tick = (start + 1..=head).rfind(|seq| class(*seq) == Class::Tick);
            prop_assert!(last_tick.is_none_or(|tick| stream.seqs.contains(&tick)), "the last tick was lost");
        }
        Delivery::Lapsed => {
            let position = stream.seqs.last().copied().unwrap_or(start);
            prop_assert!(lasting_after(position).len() > bound, "lapsed without need");
            prop_assert_eq!(&got[..], &lasting_after(start)[..got.len()], "a gap");
        }
        _ => return Err(TestCaseError::fail(format!("ended with {:?}", stream.end))),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_watcher_gets_the_state_then_every_change(
        acts in prop::collection::vec(any_act(), 1..80),
        bound in prop_oneof![Just(2usize), Just(1_000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (journal, streams) = runtime.block_on(run(acts, bound));
        for stream in &streams {
            check(&journal, stream, bound)?;
        }
    }
}
