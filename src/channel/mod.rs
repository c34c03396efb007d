//! The fan-out: a channel that is being watched, with its last state and a bounded log in memory.
//!
//! Channels are there only while somebody watches: the registry loads one from the journal for its first watcher and
//! drops it with the last. The log is shared, and each [`Subscriber`] only remembers where it stands in it. So a slow
//! watcher costs no more memory than a quick one: ticks that it has not fetched are replaced in the log by later ones,
//! and one that falls below the log's floor is let go, to resume from its cursor.
//!
//! Ticks are paced here, once for all watchers: the first is released at once, the next after the interval, and a held
//! tick is always released before a later event. This module must not know what an event says.

mod log;
mod registry;
mod subscriber;

pub use log::{History, Join};
pub use registry::{Limits, OpenError, Registry};
pub use subscriber::{Delivery, Subscriber};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Waker,
};

use tokio::{sync::OnceCell, time::Instant};

use crate::{
    event::ChannelName,
    event::{Class, Cursor, Seq},
    wire::Frame,
};
use log::Log;

/// A channel that is being watched.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    registry: Weak<registry::Shared>,
    loaded: OnceCell<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    /// What was published while the history was being loaded.
    early: Option<Vec<Arc<Frame>>>,
    /// Watchers may read up to here; what is later is a held tick.
    released: Seq,
    last_tick_released: Option<Instant>,
    release_is_due: bool,
    /// The waker of each subscriber that waits.
    waiting: HashMap<u64, Waker>,
    subscribers: usize,
    next_subscriber: u64,
    /// Subscribers with a smaller number are to end.
    hung_up_below: u64,
    draining: bool,
}

impl Channel {
    fn new(name: ChannelName, registry: Weak<registry::Shared>, history_max: usize) -> Self {
        Self {
            name,
            registry,
            loaded: OnceCell::new(),
            state: Mutex::new(State {
                log: Log::new(history_max),
                early: Some(Vec::new()),
                released: Seq::ZERO,
                last_tick_released: None,
                release_is_due: false,
                waiting: HashMap::new(),
                subscribers: 0,
                next_subscriber: 0,
                hung_up_below: 0,
                draining: false,
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// How many watch it.
    pub fn subscribers(&self) -> usize {
        self.lock().subscribers
    }

    /// Ends the streams of all who watch it now; those who come later are not touched.
    pub fn hang_up(&self) {
        let mut state = self.lock();
        state.hung_up_below = state.next_subscriber;
        state.wake();
    }

    /// Joins history and live tail at one place, under one lock.
    ///
    /// `head` is the last seq of the store that this node knows of: a cursor beyond it is from the future.
    fn join(&self, cursor: Option<Option<Cursor>>, epoch: crate::event::Epoch, head: Seq) -> (Join, Seq, u64, usize) {
        let mut state = self.lock();
        let (join, position) = state.log.join(cursor, epoch, head);
        let number = state.next_subscriber;
        state.next_subscriber += 1;
        state.subscribers += 1;
        (join, position, number, state.subscribers)
    }

    fn leave(&self, number: u64) {
        let mut state = self.lock();
        state.waiting.remove(&number);
        state.subscribers -= 1;
    }

    /// Takes in what the journal holds, and what was published meanwhile.
    fn fill(&self, history: History) {
        let mut state = self.lock();
        state.log.fill(history);
        for frame in state.early.take().unwrap_or_default() {
            state.log.push(frame);
        }
        state.released = state.log.last();
    }

    /// Adds a frame; answers the time at which a held tick is to be released, if that has not been asked for yet.
    fn publish(&self, frame: Arc<Frame>, pace: std::time::Duration) -> Option<Instant> {
        let mut state = self.lock();
        if let Some(early) = &mut state.early {
            early.push(frame);
            return None;
        }
        if frame.seq() <= state.log.last() {
            return None;
        }
        let is_tick = frame.class() == Class::Tick;
        let seq = frame.seq();
        state.log.push(frame);
        if is_tick {
            let now = Instant::now();
            if let Some(due) = state.last_tick_released.map(|at| at + pace).filter(|due| *due > now) {
                return (!std::mem::replace(&mut state.release_is_due, true)).then_some(due);
            }
            state.last_tick_released = Some(now);
        }
        state.released = seq;
        state.wake();
        None
    }

    /// Lets the held tick go.
    fn release(&self) {
        let mut state = self.lock();
        state.release_is_due = false;
        let last = state.log.last();
        if state.released < last {
            state.released = last;
            state.last_tick_released = Some(Instant::now());
            state.wake();
        }
    }

    /// Ends all streams, now and later.
    fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        state.released = state.log.last();
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        for (_, waker) in self.waiting.drain() {
            waker.wake();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(&self.name);
        }
    }
}

#[cfg(test)]
mod tests;
