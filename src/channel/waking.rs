//! The wakers of those who wait for a channel, and waking them without standing in anybody's way.
//!
//! Each watcher has a slot of its own for life, so that waiting costs no hashing and no allocation, however often it is
//! woken.
//!
//! To wake ten thousand watchers takes milliseconds, and the runtime then has ten thousand tasks to run before anything
//! that comes later. So a crowd is woken in slices, crowd by crowd in turn, by a task of its own that lets others run in
//! between; a few are woken at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::sync::Notify;

/// Woken at once; of more, so many at a time.
const SLICE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Waking {
    crowds: Mutex<VecDeque<Vec<Waker>>>,
    come: Notify,
}

/// Watchers who are to be told that there is something new; they are told when this is dropped.
#[derive(Debug)]
pub struct Wake {
    wakers: Vec<Waker>,
    waking: Option<Arc<Waking>>,
}

impl Wake {
    /// Nobody.
    pub(super) fn none() -> Self {
        Self { wakers: Vec::new(), waking: None }
    }

    /// These and the others.
    pub(super) fn and(mut self, mut other: Self) -> Self {
        self.wakers.append(&mut other.wakers);
        self.waking = self.waking.take().or(other.waking.take());
        self
    }

    /// These; a crowd of them by [`Waking::run`], where there is one.
    pub(super) fn new(wakers: Vec<Waker>, waking: Option<Arc<Waking>>) -> Self {
        Self { wakers, waking }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        let wakers = std::mem::take(&mut self.wakers);
        match self.waking.take().filter(|_| wakers.len() > SLICE) {
            Some(waking) => {
                waking.lock().push_back(wakers);
                waking.come.notify_one();
            }
            None => wakers.into_iter().for_each(Waker::wake),
        }
    }
}

impl Waking {
    /// Runs for ever.
    ///
    /// # Cancel safety
    /// Crowds that are not woken yet wait for the next run.
    pub(super) async fn run(&self) {
        loop {
            let crowd = self.lock().pop_front();
            match crowd {
                Some(mut crowd) => {
                    crowd.drain(..SLICE.min(crowd.len())).for_each(Waker::wake);
                    if !crowd.is_empty() {
                        self.lock().push_back(crowd);
                    }
                    tokio::task::yield_now().await;
                }
                None => self.come.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<Waker>>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wakers of those who wait for one thing, each in a slot of its own.
#[derive(Debug, Default)]
pub struct WakerSlots {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl WakerSlots {
    /// A slot for a new watcher.
    pub fn enter(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// Gives a slot back.
    pub fn leave(&mut self, slot: usize) {
        if let Some(waiting) = self.slots.get_mut(slot) {
            *waiting = None;
            self.free.push(slot);
        }
    }

    /// The slot's watcher waits.
    pub fn wait(&mut self, slot: usize, waker: &Waker) {
        match self.slots.get_mut(slot) {
            Some(Some(waiting)) => waiting.clone_from(waker),
            Some(waiting) => *waiting = Some(waker.clone()),
            None => {}
        }
    }

    /// Takes the wakers of all who wait; they are to be woken outside the channel's lock, lest they run into it.
    pub fn take(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn crowd(of: usize) -> (Arc<Woken>, Vec<Waker>) {
        let woken = Arc::<Woken>::default();
        let wakers = vec![Waker::from(Arc::clone(&woken)); of];
        (woken, wakers)
    }

    #[tokio::test]
    async fn a_crowd_lets_others_run_in_between() {
        let waking = Arc::<Waking>::default();
        let ((large, wakers), (small, few)) = (crowd(10 * SLICE), crowd(SLICE + 1));
        drop(Wake::new(wakers, Some(Arc::clone(&waking))));
        drop(Wake::new(few, Some(Arc::clone(&waking))));
        let count = |woken: &Woken| woken.0.load(Ordering::Relaxed);
        assert_eq!((count(&large), count(&small)), (0, 0));
        let runs = tokio::task::JoinSet::from_iter([async move { waking.run().await }]);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(count(&large) < 5 * SLICE && count(&small) == SLICE + 1, "crowds take turns");
        while count(&large) < 10 * SLICE {
            tokio::task::yield_now().await;
        }
        drop(runs);
    }

    #[test]
    fn a_slot_that_was_left_is_given_to_the_next() {
        let (mut slots, (woken, wakers)) = (WakerSlots::default(), crowd(2));
        let (one, two) = (slots.enter(), slots.enter());
        slots.wait(one, &wakers[0]);
        slots.wait(two, &wakers[1]);
        slots.leave(one);
        assert_eq!(slots.enter(), one);
        slots.take().into_iter().for_each(Waker::wake);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "nobody waits there any more");
    }

    #[test]
    fn a_few_are_woken_at_once() {
        let (woken, wakers) = crowd(SLICE);
        drop(Wake::new(wakers, Some(Arc::default())));
        assert_eq!(woken.0.load(Ordering::Relaxed), SLICE);
        let (woken, wakers) = crowd(SLICE * 2);
        drop(Wake::new(wakers, None));
        assert_eq!(woken.0.load(Ordering::Relaxed), SLICE * 2, "also where nobody else would");
    }
}
