//! The fan-out: a channel that is being watched, with its last state and a bounded log in memory.
//!
//! Channels are there only while somebody watches: the registry loads one from the journal for its first watcher and
//! drops it with the last. The log is shared, and each [`Subscriber`] only remembers where it stands in it. So a slow
//! watcher costs no more memory than a quick one: ticks that it has not fetched are replaced in the log by later ones,
//! and one that falls below the log's floor is let go, to resume from its cursor.
//!
//! Ticks are paced here, once for all watchers: the first is released at once, the next after the interval, and a held
//! tick is always released before a later event. This module must not know what an event says.

mod backlog;
mod join;
mod pacer;
mod registry;
mod rounds;
mod subscriber;
mod view;
mod waking;

pub use join::{Join, Joined, WaitingSince, Wanted};
pub use registry::{Registry, StreamLimits, StreamRefused, WatchError};
pub use rounds::Version;

pub use subscriber::{Delivery, Subscriber, Watch};
pub use view::{View, ViewBounds, ViewWatcher};
pub use waking::{Wake, WakerSlots};

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use crate::{
    event::{ChannelName, Class, Epochs, History, HistorySize, Resume, Seq},
    wire::Frame,
};
use backlog::Backlog;

/// A channel that is being watched.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    registry: Weak<registry::Channels>,
    loaded: OnceCell<()>,
    // A std mutex: it is never held across an await, and nothing long is done under it.
    state: Mutex<ChannelState>,
}

#[derive(Debug)]
struct ChannelState {
    /// Until the history is loaded, only what was published meanwhile.
    log: Backlog,
    is_loaded: bool,
    /// A tick that came too soon after another: the newest state, but not in the log before its time.
    held: Option<Arc<Frame>>,
    last_tick_released: Option<Instant>,
    /// Whether the pacer knows that a tick is held.
    release_is_due: bool,
    waiting: WakerSlots,
    subscribers: usize,
    next_subscriber: u64,
    /// Subscribers with a smaller number are to end.
    hung_up_below: u64,
    /// It gets no more events: whoever watches it, now or later, is to end after those that it has.
    closed: bool,
    /// It is closed because events may be missing here.
    interrupted: bool,
    draining: bool,
}

/// A watcher's place in one channel: how far it has read the shared log. Dropping it leaves the channel.
pub struct Seat {
    channel: Arc<Channel>,
    number: u64,
    slot: usize,
    position: Seq,
}

impl Channel {
    fn new(name: ChannelName, registry: Weak<registry::Channels>, bound: HistorySize) -> Self {
        let state = ChannelState {
            log: Backlog::new(bound),
            is_loaded: false,
            held: None,
            last_tick_released: None,
            release_is_due: false,
            waiting: WakerSlots::default(),
            subscribers: 0,
            next_subscriber: 0,
            hung_up_below: 0,
            closed: false,
            interrupted: false,
            draining: false,
        };
        Self { name, registry, loaded: OnceCell::new(), state: Mutex::new(state) }
    }

    /// Its name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Seq of its newest state.
    fn last(&self) -> Seq {
        self.lock().last()
    }

    /// How many watch it.
    pub fn subscribers(&self) -> usize {
        self.lock().subscribers
    }

    /// Ends the streams of all who watch it now; those who come later are not touched.
    pub fn hang_up(&self) -> Wake {
        let mut state = self.lock();
        state.hung_up_below = state.next_subscriber;
        self.wake(state)
    }

    /// Joins history and live tail at one place, under one lock, unless there are as many watchers as allowed.
    ///
    /// `head` is the last seq of the store that this node knows of: a cursor beyond it is from the future.
    fn join(
        self: &Arc<Self>,
        waiting: Option<&WaitingSince>,
        resume: Resume,
        epochs: &Epochs,
        head: Seq,
        subscribers_max: usize,
    ) -> Result<(Join, Seat), StreamRefused> {
        let mut state = self.lock();
        if state.subscribers >= subscribers_max {
            return Err(StreamRefused::TooManyOnChannel);
        }
        let (join, position) = match waiting {
            Some(waiting) => state.log.join_waiting(waiting, resume, epochs, head),
            None => state.log.join(resume, epochs, head, state.held.as_ref()),
        };
        // Many topics have no state in common.
        let join = if self.name == *ChannelName::all_topics() { join.without_state() } else { join };
        let number = state.next_subscriber;
        state.next_subscriber += 1;
        state.subscribers += 1;
        let slot = state.waiting.enter();
        Ok((join, Seat { channel: Arc::clone(self), number, slot, position }))
    }

    /// Takes in what the journal holds, beside what was published.
    fn fill(&self, history: History, epochs: &Epochs) -> Wake {
        let mut state = self.lock();
        // A later event takes it along.
        state.let_go();
        state.log.fill(history, epochs);
        state.is_loaded = true;
        self.wake(state)
    }

    /// Adds a frame; answers whom to wake, and the time at which a held tick is to be released, if that has not been
    /// asked for yet.
    fn publish(&self, frame: Arc<Frame>, interval: Duration) -> (Wake, Option<Instant>) {
        let mut state = self.lock();
        if !state.is_loaded {
            state.log.push(frame);
            return (Wake::none(), None);
        }
        if frame.seq() <= state.last() {
            return (Wake::none(), None);
        }
        let is_tick = frame.class() == Class::Tick;
        if is_tick && let Some(due) = state.tick_due(interval) {
            state.held = Some(frame);
            let is_news = !std::mem::replace(&mut state.release_is_due, true);
            return (Wake::none(), is_news.then_some(due));
        }
        // A later event takes a held tick along.
        if state.let_go() || is_tick {
            state.last_tick_released = Some(Instant::now());
        }
        state.log.push(frame);
        (self.wake(state), None)
    }

    /// Lets the held tick go; where one went along with a later event, a newer one may have to wait on, until then.
    fn release(&self, interval: Duration) -> Option<Instant> {
        let mut state = self.lock();
        if state.held.is_some()
            && let Some(due) = state.tick_due(interval)
        {
            return Some(due);
        }
        state.release_is_due = false;
        if state.let_go() {
            state.last_tick_released = Some(Instant::now());
            drop(self.wake(state));
        }
        None
    }

    /// Ends all streams, now and later, after what there is: no more events will come.
    fn close(&self) -> Wake {
        let mut state = self.lock();
        state.closed = true;
        state.let_go();
        self.wake(state)
    }

    /// The same, because events may be missing here: watchers resume by their cursors.
    fn interrupt(&self) -> Wake {
        self.lock().interrupted = true;
        self.close()
    }

    /// The same, because the service is stopping.
    fn drain(&self) -> Wake {
        let mut state = self.lock();
        state.draining = true;
        state.let_go();
        self.wake(state)
    }

    /// All who wait; they are woken once the lock is free for them.
    fn wake(&self, mut state: MutexGuard<'_, ChannelState>) -> Wake {
        let wakers = state.waiting.take();
        drop(state);
        Wake::new(wakers, self.registry.upgrade().map(|registry| Arc::clone(&registry.waking)))
    }

    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        // Nothing in here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChannelState {
    /// Seq of the newest state.
    fn last(&self) -> Seq {
        self.held.as_ref().map_or(self.log.last(), |held| held.seq())
    }

    /// Puts a held tick into the log, if there is one.
    fn let_go(&mut self) -> bool {
        let held = self.held.take();
        let was_held = held.is_some();
        held.into_iter().for_each(|held| self.log.push(held));
        was_held
    }

    /// When the next tick may be released, where that is not now.
    fn tick_due(&self, interval: Duration) -> Option<Instant> {
        self.last_tick_released.map(|at| at + interval).filter(|due| *due > Instant::now())
    }
}

impl Seat {
    /// Everything at or before `position` has been given.
    fn move_to(&mut self, position: Seq) {
        self.position = self.position.max(position);
    }

    /// The next delivery of this channel alone, or the context's waker is kept for it.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        let mut state = self.channel.lock();
        if state.log.has_ended_at(self.position) {
            return Poll::Ready(Delivery::Ended { watchers: state.subscribers });
        }
        if self.number < state.hung_up_below {
            return Poll::Ready(Delivery::HungUp);
        }
        if self.position < state.log.floor() {
            return Poll::Ready(Delivery::Lapsed);
        }
        if let Some(frame) = state.log.next(self.position) {
            self.position = frame.seq();
            return Poll::Ready(Delivery::Frame(Arc::clone(frame)));
        }
        if state.draining {
            return Poll::Ready(Delivery::Draining);
        }
        if state.closed {
            return Poll::Ready(if state.interrupted { Delivery::Interrupted } else { Delivery::HungUp });
        }
        state.waiting.wait(self.slot, context.waker());
        Poll::Pending
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.waiting.leave(self.slot);
        state.subscribers -= 1;
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
