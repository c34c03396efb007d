//! The bodies of a connection's requests and responses, watched for their time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::client_wait::{ClientWait, RequestGuard};
use super::stream_pace::StreamPace;
use super::timer::LazyTimer;

/// What a client has to send in each second for which it is waited for, beyond one body time-out in all: a body that
/// comes byte by byte ends, and one over the slowest of lines does not.
const BODY_BYTES_PER_SECOND_MIN: u64 = 256;

/// The body of a request as it comes from the client. It fails with an [`io::Error`] of kind
/// [`io::ErrorKind::TimedOut`] when the client is silent for too long inside it or too slow; other errors are of other
/// kinds.
pub struct RequestBody {
    body: Incoming,
    wait: Arc<ClientWait>,
    silent_since: Option<Instant>,
    waits: Waits,
    timer: Option<LazyTimer>,
}

/// How long the client was waited for, and what came of it. The time in which nobody asked for the body does not count.
#[derive(Default)]
struct Waits {
    waited: Duration,
    received_bytes: u64,
}

impl Waits {
    /// For how long the client may be silent now.
    fn silence_max(&self, timeout: Duration) -> Duration {
        let earned = Duration::from_millis(self.received_bytes.saturating_mul(1000) / BODY_BYTES_PER_SECOND_MIN);
        timeout.min(timeout.saturating_add(earned).saturating_sub(self.waited))
    }
}

impl RequestBody {
    /// Bounds the silence inside `body`.
    pub(super) fn new(body: Incoming, wait: Arc<ClientWait>) -> Self {
        Self { body, wait, silent_since: None, waits: Waits::default(), timer: None }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.wait.body_is_unread();
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
            this.waits.waited += this.silent_since.take().map_or(Duration::ZERO, |since| since.elapsed());
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            this.waits.received_bytes += data.map_or(0, |data| data.len() as u64);
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let silent_since = *this.silent_since.get_or_insert_with(Instant::now);
        let Some(timer) = &mut this.timer else {
            // Most bodies came with their head, and hyper hands them over when it is polled again: they need no timer.
            this.timer = Some(LazyTimer::default());
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let silence_max = this.waits.silence_max(this.wait.body_timeout());
        timer.poll(silent_since + silence_max, context).map(|()| {
            let message = "the client was silent for too long inside the request's body, or too slow";
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

/// Most of a frame that is handed to HTTP/2 at once. That the next piece is asked for shows that the client takes
/// something, and what is left of a response when nobody watches it any more is never more than this.
const PIECE_BYTES: usize = 16 * 1024;

/// The body of a response; its request is under way until it is dropped.
pub(super) struct ResponseBody<B> {
    body: B,
    /// Of a response of HTTP/2.
    stream: Option<Arc<StreamPace>>,
    /// What is left of a large frame.
    rest: Bytes,
    _request: RequestGuard,
}

impl<B> ResponseBody<B> {
    /// Keeps `request` under way for as long as `body` lasts; `stream` is that of a response of HTTP/2.
    pub(super) fn new(body: B, stream: Option<Arc<StreamPace>>, request: RequestGuard) -> Self {
        Self { body, stream, rest: Bytes::new(), _request: request }
    }
}

/// The next piece of what is left. The last one is copied: it may wait in HTTP/2's buffer until the connection ends, and
/// would keep the whole frame in memory.
fn piece(rest: &mut Bytes) -> Bytes {
    if rest.len() > PIECE_BYTES {
        return rest.split_to(PIECE_BYTES);
    }
    Bytes::copy_from_slice(&std::mem::take(rest))
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let Some(stream) = &this.stream else { return Pin::new(&mut this.body).poll_frame(context) };
        // hyper asks only when it has handed over what it was given.
        stream.is_waiting(false);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.len() > PIECE_BYTES => this.rest = data,
                Some(Ok(Ok(data))) => {
                    stream.is_waiting(true);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        stream.is_waiting(true);
        Poll::Ready(Some(Ok(Frame::data(piece(&mut this.rest)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        body.upper().into_iter().for_each(|upper| hint.set_upper(upper + rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_earns_its_time() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let silence_max = |waited_s, received_bytes| {
            Waits { waited: Duration::from_secs(waited_s), received_bytes }.silence_max(TIMEOUT).as_secs()
        };
        assert_eq!(silence_max(0, 0), 60);
        assert_eq!(silence_max(59, 1), 1, "a byte a minute is too little");
        assert_eq!(silence_max(60, 0), 0);
        assert_eq!(silence_max(3_600, 256 * 3_600), 60);
        assert_eq!(silence_max(3_600, 256 * 3_550), 10);
        assert_eq!(silence_max(0, u64::MAX), 60, "what came fast allows no longer silence");
    }
}
