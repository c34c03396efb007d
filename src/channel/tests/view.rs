//! Views, against a plain oracle: who reads everything knows the latest change of each thing, whatever happens when.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::{testing::SseParser, wire::Frame};

const THINGS: usize = 6;
const CLIENTS: usize = 3;
const BOUNDS: ViewBounds = ViewBounds { changes: 4, size_bytes: 100 };

#[derive(Clone, Debug)]
enum Act {
    /// A thing changes; the change has so many bytes.
    Change(usize, usize),
    Release,
    /// Something is released that has no place among the changes.
    ReleaseBeside,
    Read(usize),
    /// The connection is cut; the client comes back with its cursor.
    Cut(usize),
    /// Another comes back: one who had read everything up to this share of all seqs, in percent.
    Return(usize, u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..THINGS, 2usize..40).prop_map(|(thing, size)| Act::Change(thing, size)),
        5 => Just(Act::Release),
        1 => Just(Act::ReleaseBeside),
        5 => (0..CLIENTS).prop_map(Act::Read),
        1 => (0..CLIENTS).prop_map(Act::Cut),
        1 => (0..CLIENTS, 0u64..=110).prop_map(|(client, percent)| Act::Return(client, percent)),
    ]
}

/// What there is to be known: by a client, or in truth.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    changes: [Seq; THINGS],
    beside: usize,
}

struct Client {
    watcher: ViewWatcher,
    parser: SseParser,
    /// The last id that it was given.
    cursor: Seq,
    known: Known,
}

struct World {
    view: View,
    permits: Arc<Semaphore>,
    /// Thing and size of each change.
    journal: Vec<(usize, usize)>,
    truth: Known,
    /// Changes at or before it may have been let go of for want of room.
    floor: Seq,
    clients: Vec<Client>,
}

impl World {
    fn new() -> Self {
        let (view, permits) = (View::new(Seq::ZERO, BOUNDS), Arc::new(Semaphore::new(100)));
        let mut world =
            Self { view, permits, journal: Vec::new(), truth: Known::default(), floor: Seq::ZERO, clients: Vec::new() };
        world.clients = (0..CLIENTS).map(|_| world.join(None)).collect();
        world
    }

    fn through(&self) -> Seq {
        Seq(self.journal.len() as u64)
    }

    /// The latest change of each thing up to a seq.
    fn latest(&self, through: Seq) -> [Seq; THINGS] {
        let mut latest = [Seq::ZERO; THINGS];
        let changes = self.journal.iter().zip(1..).take_while(|(_, seq)| *seq <= through.0);
        changes.for_each(|((thing, _), seq)| latest[*thing] = Seq(seq));
        latest
    }

    /// A client that goes on after its cursor with what it knows, or begins anew, with a page.
    fn join(&self, resumes: Option<(Seq, Known)>) -> Client {
        let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
        let cursor = resumes.as_ref().map(|(cursor, _)| *cursor);
        let (resumed, watcher) = self.view.watch(cursor, self.through(), permit);
        let is_known = cursor.is_some_and(|cursor| (self.floor..=self.through()).contains(&cursor));
        assert_eq!(resumed, is_known, "{cursor:?} above {}, through {}", self.floor, self.through());
        let begins = || (watcher.position(), self.truth.clone());
        let (cursor, known) = resumes.filter(|_| resumed).unwrap_or_else(begins);
        Client { watcher, parser: SseParser::default(), cursor, known }
    }

    fn change(&mut self, thing: usize, size: usize) {
        self.journal.push((thing, size));
        let seq = self.through();
        let mut event = event_on(&task(thing as u128), seq.0, Class::Change);
        event.draft.data = format!("{{{}}}", " ".repeat(size - 2)).into();
        self.view.push(Uuid::from_u128(thing as u128), &Arc::new(Frame::new(epoch(), event, None)));
        self.truth.changes[thing] = seq;
        // What is kept is the latest change of each thing that did not have to go; the oldest goes first.
        let mut kept: Vec<_> = self.truth.changes.iter().filter(|seq| **seq > self.floor).copied().collect();
        kept.sort_unstable();
        let size = |kept: &[Seq]| kept.iter().map(|seq| self.journal[seq.0 as usize - 1].1).sum::<usize>();
        while kept.len() > BOUNDS.changes || size(&kept) > BOUNDS.size_bytes {
            self.floor = kept.remove(0);
        }
    }

    /// Reads all there is; a client that was let go begins anew.
    fn read(&mut self, nth: usize) {
        for _ in 0..BOUNDS.changes {
            let client = &mut self.clients[nth];
            match client.watcher.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Delivery::Bytes(bytes)) => {
                    assert!(!bytes.is_empty());
                    client.take(&bytes, &self.journal);
                }
                Poll::Ready(Delivery::Lapsed) => {
                    assert!(client.watcher.position() < self.floor, "let go without need");
                    let cursor = (client.cursor, client.known.clone());
                    self.clients[nth] = self.join(Some(cursor));
                }
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => return self.clients[nth].check(&self.truth),
            }
        }
        panic!("it does not come to an end");
    }

    fn run(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Change(thing, size) => self.change(thing, size),
                Act::Release => drop(self.view.release(None)),
                Act::ReleaseBeside => {
                    self.truth.beside += 1;
                    drop(self.view.release(Some(&Registry::beside("beside", &self.truth.beside.to_string()))));
                }
                Act::Read(nth) => self.read(nth),
                Act::Cut(nth) => {
                    let Client { cursor, known, .. } = &self.clients[nth];
                    self.clients[nth] = self.join(Some((*cursor, known.clone())));
                }
                Act::Return(nth, percent) => {
                    let cursor = Seq(self.through().0 * percent / 100);
                    let known = Known { changes: self.latest(cursor), beside: 0 };
                    self.clients[nth] = self.join(Some((cursor, known)));
                }
            }
        }
        drop(self.view.release(None));
        for nth in 0..CLIENTS {
            self.read(nth);
            assert_eq!(self.clients[nth].known, self.truth, "client {nth}");
        }
    }
}

impl Client {
    /// Where the cursor is at or past the latest change of a thing, that change is known.
    fn check(&self, truth: &Known) {
        for (latest, known) in truth.changes.iter().zip(self.known.changes) {
            assert!(*latest > self.cursor || *latest == known, "{latest} is passed by {}", self.cursor);
        }
    }

    fn take(&mut self, bytes: &[u8], journal: &[(usize, usize)]) {
        for event in self.parser.feed(bytes) {
            if event.event == "beside" {
                self.known.beside = event.data.parse().unwrap();
                continue;
            }
            let seq = event.id.parse::<Cursor>().unwrap().seq;
            assert!(seq > self.cursor, "{seq} after {}", self.cursor);
            self.cursor = seq;
            let (thing, _) = journal[seq.0 as usize - 1];
            assert!(seq >= self.known.changes[thing], "{seq} after {}", self.known.changes[thing]);
            self.known.changes[thing] = seq;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn who_reads_everything_knows_the_latest_of_each(acts in prop::collection::vec(any_act(), 1..80)) {
        World::new().run(acts);
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_is_kept_for_a_while_and_ends_in_order() {
    let mut world = World::new();
    let poll = |client: &mut Client| client.watcher.poll_next(&mut Context::from_waker(Waker::noop()));
    world.change(1, 2);
    let woken = world.view.drain();
    assert!(woken.is_empty(), "nobody waits");
    let mut leaving = world.clients.remove(0);
    assert!(matches!(poll(&mut leaving), Poll::Ready(Delivery::Bytes(_))), "what there is comes first");
    assert!(matches!(poll(&mut leaving), Poll::Ready(Delivery::Draining)));
    drop(world.view.end());
    assert!(matches!(poll(&mut world.clients[0]), Poll::Ready(Delivery::Lapsed)));
    world.clients.clear();
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!(world.view.is_watched(), "one is left");
    drop(leaving);
    assert!(world.view.is_watched(), "it may come back");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!world.view.is_watched());
}
