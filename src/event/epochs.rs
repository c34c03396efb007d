//! The lives of a store, so that a seq that was given in a life that is lost is told from the same seq of another.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Cursor, Epoch, Seq};

/// The epochs of one store, each with its first seq. Cheap to clone: clones share what is known, so that all of them know
/// an epoch that began while they were in use.
///
/// Each seq belongs to one epoch, the one that gave it or will, so that the cursor of a place is the same for ever; all
/// before the first epoch that is kept belongs to the store's own name.
#[derive(Clone, Debug)]
pub struct Epochs {
    store: Epoch,
    begun: Arc<RwLock<Begun>>,
}

type Begun = Arc<[(Seq, Epoch)]>;

impl Epochs {
    /// Epochs that are kept. Older ones become part of what was before.
    pub const KEPT_MAX: usize = 4_096;

    /// The epochs of a store, with their first seqs; `None` where these do not rise.
    pub fn new(store: Epoch, begun: Vec<(Seq, Epoch)>) -> Option<Self> {
        let rises = begun.is_sorted_by(|one, next| one.0 < next.0);
        rises.then(|| Self::of_begun(store, begun.into()))
    }

    fn of_begun(store: Epoch, begun: Begun) -> Self {
        Self { store, begun: Arc::new(RwLock::new(begun)) }
    }

    /// Knows from now on, as do all its clones, what others know of the same store.
    pub fn learn(&self, others: &Self) {
        let begun = others.begun();
        *self.begun.write().unwrap_or_else(PoisonError::into_inner) = begun;
    }

    /// The name of the store, which never changes.
    pub fn store(&self) -> Epoch {
        self.store
    }

    /// The epochs with their first seqs, oldest first.
    pub fn begun(&self) -> Arc<[(Seq, Epoch)]> {
        Arc::clone(&self.begun.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a store that had `begun` only these epochs may have lost what it had then, through `head`.
    pub fn may_have_lost(&self, begun: &[(Seq, Epoch)], head: Seq) -> bool {
        self.begun().iter().any(|life| life.0 <= head && !begun.contains(life))
    }

    /// The same with a new epoch for what comes after `head`. One that has given no seq makes room for it.
    #[must_use]
    pub fn begin_after(&self, head: Seq) -> Self {
        let begun = self.begun();
        let given = begun.partition_point(|(first, _)| *first <= head);
        let kept = &begun[given.saturating_sub(Self::KEPT_MAX - 1)..given];
        Self::of_begun(self.store, kept.iter().copied().chain([(head.next(), Epoch::random())]).collect())
    }

    /// The epoch that gave a seq, or would give it.
    pub fn of(&self, seq: Seq) -> Epoch {
        let begun = self.begun();
        let begun_before = begun.partition_point(|(first, _)| *first <= seq);
        begun_before.checked_sub(1).map_or(self.store, |last| begun[last].1)
    }

    /// The cursor of a place in this store.
    pub fn cursor(&self, seq: Seq) -> Cursor {
        Cursor { epoch: self.of(seq), seq }
    }

    /// Whether this store has given such a cursor, or may give it yet.
    pub fn know(&self, cursor: Cursor) -> bool {
        self.of(cursor.seq) == cursor.epoch
    }
}

/// A store of one epoch.
impl From<Epoch> for Epochs {
    fn from(store: Epoch) -> Self {
        Self::of_begun(store, Arc::default())
    }
}

impl PartialEq for Epochs {
    fn eq(&self, other: &Self) -> bool {
        self.store == other.store && self.begun() == other.begun()
    }
}

impl Eq for Epochs {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a store.
    #[derive(Clone, Debug)]
    enum Step {
        Append(u64),
        Start,
        Copy,
        PutBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..4_u64).prop_map(Step::Append),
            3 => Just(Step::Start),
            1 => Just(Step::Copy),
            1 => Just(Step::PutBack),
        ]
    }

    /// A store, and its events: the numbers tell equal seqs of different lives apart.
    #[derive(Clone)]
    struct Store {
        epochs: Epochs,
        events: Vec<u64>,
    }

    proptest! {
        #[test]
        fn a_cursor_is_good_while_its_event_is_there(steps in prop::collection::vec(step(), 1..60)) {
            let mut store = Store { epochs: Epochs::from(Epoch::random()).begin_after(Seq::ZERO), events: Vec::new() };
            let mut copy = store.clone();
            let mut given = vec![(store.epochs.cursor(Seq::ZERO), 0)];
            let mut number = 0;
            for step in steps {
                match step {
                    Step::Append(count) => for _ in 0..count {
                        number += 1;
                        store.events.push(number);
                        given.push((store.epochs.cursor(Seq(store.events.len() as u64)), number));
                    },
                    Step::Start => store.epochs = store.epochs.begin_after(Seq(store.events.len() as u64)),
                    Step::Copy => copy = store.clone(),
                    Step::PutBack => {
                        store = copy.clone();
                        store.epochs = store.epochs.begin_after(Seq(store.events.len() as u64));
                    }
                }
                for (cursor, number) in &given {
                    let place = usize::try_from(cursor.seq.0).unwrap();
                    let is_there = place == 0 || store.events.get(place - 1) == Some(number);
                    prop_assert_eq!(store.epochs.know(*cursor), is_there, "{} is {}", cursor, number);
                    // It stays the same, too.
                    prop_assert!(!is_there || store.epochs.cursor(cursor.seq) == *cursor);
                }
            }
        }
    }

    #[test]
    fn they_are_bounded_and_only_the_oldest_go() {
        let mut epochs = Epochs::from(Epoch::random());
        let first = epochs.begin_after(Seq::ZERO).cursor(Seq(1));
        let mut given = Vec::new();
        for head in 0..Epochs::KEPT_MAX as u64 + 10 {
            epochs = epochs.begin_after(Seq(head));
            given.push(epochs.cursor(Seq(head + 1)));
        }
        assert_eq!(epochs.begun().len(), Epochs::KEPT_MAX);
        assert!(!epochs.know(first) && !epochs.know(given[9]) && epochs.know(given[10]));
        assert_eq!(epochs.cursor(Seq(10)), Cursor { epoch: epochs.store(), seq: Seq(10) });
    }

    #[test]
    fn what_does_not_rise_is_none() {
        let begun = |firsts: &[u64]| firsts.iter().map(|first| (Seq(*first), Epoch::random())).collect();
        assert!(Epochs::new(Epoch::random(), begun(&[1, 4, 9])).is_some());
        assert!(Epochs::new(Epoch::random(), begun(&[1, 4, 4])).is_none());
    }
}
