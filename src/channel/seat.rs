//! A watcher's place in one channel: how far it has read the shared log.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Channel, Delivery, Place};
use crate::{
    event::{Class, Seq},
    wire::Frame,
};

/// A place in one channel. Dropping it leaves the channel.
pub struct Seat {
    channel: Arc<Channel>,
    number: u64,
    slot: usize,
    position: Seq,
}

/// What a place has not been given yet, looked at and not taken.
#[derive(Default)]
pub(super) struct Undelivered {
    /// In seq order, the latest tick too, held or not.
    pub(super) frames: Vec<Arc<Frame>>,
    /// Whether there are events beyond those that may be looked at now.
    pub(super) has_more: bool,
    /// No more events will come.
    pub(super) is_over: bool,
    pub(super) is_draining: bool,
    pub(super) end: Option<Delivery>,
}

impl Seat {
    pub(super) fn new(channel: Arc<Channel>, place: &Place) -> Self {
        let Place { number, slot, position, .. } = *place;
        Self { channel, number, slot, position }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Everything at or before it has been given.
    pub(super) fn position(&self) -> Seq {
        self.position
    }

    /// Everything at or before `position` has been given.
    pub(super) fn move_to(&mut self, position: Seq) {
        self.position = self.position.max(position);
    }

    /// The next delivery of this channel alone, or the context's waker is kept for it.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
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

    /// Keeps the waker for the next event.
    pub(super) fn wait(&self, waker: &Waker) {
        self.channel.lock().waiting.wait(self.slot, waker);
    }

    /// What waits here, at or before `through`.
    pub(super) fn look(&self, through: Seq) -> Undelivered {
        let state = self.channel.lock();
        let mut waiting = Undelivered { is_draining: state.draining, ..Undelivered::default() };
        if self.number < state.hung_up_below {
            waiting.end = Some(Delivery::HungUp);
        } else if state.interrupted {
            waiting.end = Some(Delivery::Interrupted);
        } else if self.position < state.log.floor() && !state.log.has_ended_at(self.position) {
            waiting.end = Some(Delivery::Lapsed);
        }
        let held = state.held.iter().cloned();
        waiting.frames = state.log.after(self.position).cloned().chain(held).collect();
        waiting.frames.retain(|frame| frame.seq() > self.position);
        waiting.is_over = waiting.frames.is_empty() && (state.closed || state.log.has_ended_at(self.position));
        waiting.has_more = waiting.frames.last().is_some_and(|last| last.seq() > through);
        waiting.frames.retain(|frame| frame.seq() <= through);
        // A tick that a newer one replaces before it was given is given no more.
        let latest_tick = waiting.frames.iter().rposition(|frame| frame.class() == Class::Tick);
        let mut nth = 0..;
        waiting.frames.retain(|frame| {
            let nth = nth.next();
            frame.class() != Class::Tick || nth == latest_tick
        });
        waiting
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.channel.leave(self.slot);
    }
}
