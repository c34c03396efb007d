//! The end of a stream by the credential that it was opened with.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use crate::{event::Timestamp, wire};

/// How long before the end its watcher is told.
const NOTICE: Duration = Duration::from_secs(60);

/// A body that ends when a credential does, at the latest.
pub struct Leash<B> {
    body: B,
    notice: Option<(Pin<Box<Sleep>>, Bytes)>,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<B> Leash<B> {
    /// Ends `body` with `end`, which comes at `expires_at`, as seen from `now`, if not earlier.
    pub fn new(
        body: B,
        now: Timestamp,
        expires_at: Option<Timestamp>,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let notice = expires_at.map(|end| {
            let data = format!("{{\"expiresAt\":\"{end}\"}}");
            let frame = wire::event(Some("auth-expiring"), data.as_bytes(), None);
            (Box::pin(sleep(end.since(now).saturating_sub(NOTICE))), frame)
        });
        Self { body, notice, end: Box::pin(end) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Leash<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Some((due, frame)) = &mut self.notice
            && due.as_mut().poll(context).is_ready()
        {
            let frame = std::mem::take(frame);
            self.notice = None;
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
