//! The bodies of a connection's requests and responses, watched for their time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::pace::{ClientPace, RequestGuard};
use super::timer::LazyTimer;

/// The body of a request as it comes from the client. It fails with an [`io::Error`] of kind
/// [`io::ErrorKind::TimedOut`] when the client is silent for too long inside it; other errors are of other kinds.
pub struct RequestBody {
    body: Incoming,
    pace: Arc<ClientPace>,
    silent_since: Option<Instant>,
    timer: LazyTimer,
}

impl RequestBody {
    /// Bounds the silence inside `body`.
    pub(super) fn new(body: Incoming, pace: Arc<ClientPace>) -> Self {
        Self { body, pace, silent_since: None, timer: LazyTimer::default() }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.pace.body_is_unread();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.silent_since = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let silent_since = *this.silent_since.get_or_insert_with(Instant::now);
        this.timer.poll(silent_since + this.pace.body_timeout(), context).map(|()| {
            let message = "the client was silent for too long inside the request's body";
            Some(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response; its request is under way until it is dropped.
pub(super) struct ResponseBody<B> {
    body: B,
    _request: RequestGuard,
}

impl<B> ResponseBody<B> {
    /// Keeps `request` under way for as long as `body` lasts.
    pub(super) fn new(body: B, request: RequestGuard) -> Self {
        Self { body, _request: request }
    }
}

impl<B: Body + Unpin> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
