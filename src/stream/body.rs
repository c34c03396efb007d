//! The body of an SSE response.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::{CROWD, Heartbeat, Style, jittered_retry};
use crate::{
    channel::{Delivery, Join, Joined, Subscriber, Watch},
    event::Cursor,
    telemetry::Metrics,
    wire::{self, Dialect},
};

/// An endless body that ends with its task.
pub struct StreamBody<W = Subscriber> {
    watcher: Option<W>,
    dialect: Dialect,
    /// Where it stands once all that waits for it is delivered. Until then events have no id.
    stands_at: Option<Cursor>,
    ready: VecDeque<Bytes>,
    heartbeat: Heartbeat,
    beat_at: Instant,
    timer: Pin<Box<Sleep>>,
    metrics: Metrics,
}

impl StreamBody {
    /// A stream for this watcher of one channel.
    pub fn new(join: &Join, subscriber: Subscriber, style: Style, metrics: Metrics) -> Self {
        let opening = subscriber.channels().flat_map(|channel| style.opening(channel.name(), join)).collect();
        Self::opened(opening, subscriber, style, metrics)
    }
}

impl<W: Watch> StreamBody<W> {
    /// A stream for this watcher of several channels.
    pub fn of_several(joined: &Joined, watcher: W, style: Style, metrics: Metrics) -> Self {
        let (opening, stands_at) = style.opening_of_several(joined);
        let mut body = Self::opened(opening, watcher, style, metrics);
        body.stands_at = stands_at;
        body
    }

    /// A stream for this watcher, which begins with these bytes.
    pub fn opened(opening: Vec<Bytes>, watcher: W, style: Style, metrics: Metrics) -> Self {
        metrics.streams_open.inc();
        let beat_at = Instant::now() + style.heartbeat.every;
        Self {
            ready: opening.into(),
            watcher: Some(watcher),
            dialect: style.dialect,
            stands_at: None,
            heartbeat: style.heartbeat,
            beat_at,
            timer: Box::pin(tokio::time::sleep_until(beat_at)),
            metrics,
        }
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(watcher) = &mut self.watcher else { return Poll::Ready(None) };
        let polled = watcher.poll_next(context);
        if let Some(position) = self.stands_at {
            match &polled {
                Poll::Ready(Delivery::Frame(frame)) if frame.seq() <= position.seq => {
                    return Poll::Ready(Some(frame.snapshot(self.dialect, None)));
                }
                Poll::Ready(_) => self.stands_at = None,
                Poll::Pending => {
                    self.stands_at = None;
                    return Poll::Ready(Some(wire::position(position)));
                }
            }
        }
        let delivery = ready!(polled);
        if let Delivery::Bytes(bytes) = delivery {
            return Poll::Ready(Some(bytes));
        }
        if let Delivery::Frame(frame) = delivery {
            if let Some(age) = frame.age() {
                self.metrics.delivery_lag_seconds.observe(age.as_secs_f64());
            }
            return Poll::Ready(Some(frame.bytes(self.dialect)));
        }
        self.watcher = None;
        self.metrics.streams_open.dec();
        // A client that is told to come back is told when, so that not all come at once.
        let comes_back = match delivery {
            Delivery::Ended { watchers } => watchers > CROWD,
            Delivery::Lapsed | Delivery::Interrupted | Delivery::Draining => true,
            Delivery::HungUp | Delivery::Frame(_) | Delivery::Bytes(_) => false,
        };
        Poll::Ready(comes_back.then(|| wire::retry(jittered_retry())))
    }

    fn poll_heartbeat(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            let is_due = now >= self.beat_at;
            if is_due {
                self.beat_at = now + self.heartbeat.every;
            }
            // What was sent in between moved the beat; the timer is set anew only here, not with each event.
            self.timer.as_mut().reset(self.beat_at);
            if is_due {
                return Poll::Ready(self.heartbeat.bytes.clone());
            }
        }
    }
}

impl<W: Watch + Unpin> Body for StreamBody<W> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(bytes) = self.ready.pop_front() {
            self.metrics.frames_delivered.inc();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        // One that is promised comes first, lest a stream that is never quiet miss it.
        let is_promised = !self.heartbeat.when_quiet && self.watcher.is_some();
        if is_promised
            && Instant::now() >= self.beat_at
            && let Poll::Ready(bytes) = self.poll_heartbeat(context)
        {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Poll::Ready(bytes) = self.poll_delivery(context) {
            if self.heartbeat.when_quiet {
                self.beat_at = Instant::now() + self.heartbeat.every;
            }
            self.metrics.frames_delivered.inc_by(u64::from(bytes.is_some()));
            return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
        }
        self.poll_heartbeat(context).map(|bytes| Some(Ok(Frame::data(bytes))))
    }
}

impl<W> Drop for StreamBody<W> {
    fn drop(&mut self) {
        if self.watcher.take().is_some() {
            self.metrics.streams_open.dec();
        }
    }
}
