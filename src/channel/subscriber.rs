//! One watcher's place in a channel, with everything that its stream holds for its life.

use std::{
    any::Any,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{Channel, Place};
use crate::{event::Seq, wire::Frame};

/// What a watcher gets next.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Frame(Arc<Frame>),
    /// The final event has been delivered; there were so many watchers.
    Ended {
        /// How many watched to the end.
        watchers: usize,
    },
    /// What comes next has been trimmed: the watcher was too slow, and its cursor leads to a reset.
    Lapsed,
    /// The stream was asked to end.
    HungUp,
    /// The service is stopping.
    Draining,
}

/// A watcher. Dropping it leaves the channel.
pub struct Subscriber {
    channel: Arc<Channel>,
    number: u64,
    slot: usize,
    position: Seq,
    _permit: OwnedSemaphorePermit,
    held: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subscriber {
    pub(super) fn new(channel: Arc<Channel>, place: &Place, permit: OwnedSemaphorePermit) -> Self {
        let Place { number, slot, position, .. } = *place;
        Self { channel, number, slot, position, _permit: permit, held: Vec::new() }
    }

    /// The channel that is watched.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Everything at or before it has been delivered.
    pub fn position(&self) -> Seq {
        self.position
    }

    /// Keeps something until the watcher leaves: a gauge, a mark of presence.
    pub fn hold(&mut self, guard: impl Any + Send + Sync) {
        self.held.push(Box::new(guard));
    }

    /// The next delivery.
    ///
    /// # Cancel safety
    /// A frame counts as delivered when this returns it; nothing is lost by not polling again.
    pub async fn next(&mut self) -> Delivery {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The next delivery, or the context's waker is kept for it.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
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
            return Poll::Ready(Delivery::HungUp);
        }
        state.waiting.wait(self.slot, context.waker());
        Poll::Pending
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.channel.leave(self.slot);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("channel", self.channel.name())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
