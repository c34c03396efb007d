//! A watcher who is also told something at intervals.

use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::channel::{Delivery, Watch};

/// Tells its watcher something at intervals, beside what the watcher is given.
pub(super) struct Periodic<W> {
    watcher: W,
    interval: Interval,
    tell: Box<dyn FnMut() -> Bytes + Send>,
}

impl<W> Periodic<W> {
    /// First after one interval.
    pub(super) fn after(every: Duration, watcher: W, tell: impl FnMut() -> Bytes + Send + 'static) -> Self {
        let mut interval = interval_at(Instant::now() + every, every);
        // Who could not take it in time is told the latest only.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watcher, interval, tell: Box::new(tell) }
    }
}

impl<W: Watch> Watch for Periodic<W> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        if self.interval.poll_tick(context).is_ready() {
            return Poll::Ready(Delivery::Bytes((self.tell)()));
        }
        self.watcher.poll_next(context)
    }
}

/// A watcher who is given nothing until the service stops.
pub(super) struct Waiting {
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: Box<dyn Any + Send>,
}

impl Waiting {
    /// Holds `permit` meanwhile.
    pub(super) fn new(draining: CancellationToken, permit: impl Any + Send) -> Self {
        Self { stopping: Box::pin(draining.cancelled_owned()), _permit: Box::new(permit) }
    }
}

impl Watch for Waiting {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        self.stopping.as_mut().poll(context).map(|()| Delivery::Draining)
    }
}
