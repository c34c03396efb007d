//! The wakers of those who wait for a channel.
//!
//! Each watcher has a slot of its own for life, so that waiting costs no hashing and no allocation, however often it
//! is woken.

use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Waiting {
    /// A slot for a new watcher.
    pub(super) fn enter(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// Gives a slot back.
    pub(super) fn leave(&mut self, slot: usize) {
        if let Some(waiting) = self.slots.get_mut(slot) {
            *waiting = None;
            self.free.push(slot);
        }
    }

    /// The slot's watcher waits.
    pub(super) fn wait(&mut self, slot: usize, waker: &Waker) {
        match self.slots.get_mut(slot) {
            Some(Some(waiting)) => waiting.clone_from(waker),
            Some(waiting) => *waiting = Some(waker.clone()),
            None => {}
        }
    }

    /// Takes the wakers of all who wait; they are to be woken outside the channel's lock, lest they run into it.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}
