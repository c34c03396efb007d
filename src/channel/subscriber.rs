//! One watcher's place in a channel, with everything that its stream holds for its life.

use std::{
    any::Any,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{Channel, Join};
use crate::{
    event::{Class, Seq},
    wire::Frame,
};

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
    position: Seq,
    ended: bool,
    _permit: OwnedSemaphorePermit,
    held: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subscriber {
    pub(super) fn new(
        channel: Arc<Channel>,
        number: u64,
        position: Seq,
        join: &Join,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let shows_end = |frame: &Arc<Frame>| frame.class() == Class::Final;
        let ended = match join {
            Join::First(Some(frame)) | Join::Reset(Some(frame)) => shows_end(frame),
            Join::Ended => true,
            _ => false,
        };
        Self { channel, number, position, ended, _permit: permit, held: Vec::new() }
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
        if self.ended {
            return Poll::Ready(Delivery::Ended { watchers: state.subscribers });
        }
        if self.number < state.hung_up_below {
            return Poll::Ready(Delivery::HungUp);
        }
        if self.position < state.log.floor() {
            return Poll::Ready(Delivery::Lapsed);
        }
        if let Some(frame) = state.log.next(self.position, state.released) {
            self.position = frame.seq();
            self.ended = frame.class() == Class::Final;
            return Poll::Ready(Delivery::Frame(Arc::clone(frame)));
        }
        if state.draining {
            return Poll::Ready(Delivery::Draining);
        }
        match state.waiting.get_mut(&self.number) {
            Some(waker) => waker.clone_from(context.waker()),
            None => drop(state.waiting.insert(self.number, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.channel.leave(self.number);
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
