//! How long a connection waits for its client.
//!
//! hyper knows one time-out, from the end of a response to the end of the next request's head; that is too long for a
//! head that comes byte by byte, or too short for a connection that is kept, and it bounds no write. So its time-out
//! stays off, and this module keeps all of them: [`ClientWait`] is told by the connection's parts what happens (bytes come,
//! requests begin and end, writes block), and [`ClientWait::drive`] polls the connection until the client has kept it waiting
//! for too long.
//!
//! The state belongs to one connection. Nothing here knows HTTP.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::timer::LazyTimer;
use crate::config::ConnectionConfig;

/// How long a client that was refused in the middle of its request may go on sending before the connection is cut, and
/// how long it may be silent meanwhile.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(2);

/// How long a multiplexed connection is kept after a response that asked for its end, unless another request comes.
const LET_GO: Duration = Duration::from_secs(1);

/// What the connection waits for, shared by its parts.
pub(super) struct ClientWait {
    limits: TimeOuts,
    state: Mutex<WaitState>,
    /// Wakes the connection's task when another task has ended its last request.
    driver: AtomicWaker,
}

struct TimeOuts {
    handshake: Duration,
    first_byte: Duration,
    header: Duration,
    body: Duration,
    idle: Duration,
    write: Duration,
}

struct WaitState {
    waiting_for: Awaited,
    since: Instant,
    /// Requests whose response has not been taken whole.
    requests: usize,
    /// Whether the body of the last request was not read to its end.
    is_body_unread: bool,
    /// Since when a write waits for the client to take what it was sent.
    write_blocked_since: Option<Instant>,
    lingering: Option<Lingering>,
    /// Requests run beside each other, in tasks of their own.
    is_multiplexed: bool,
    /// The last response asked for the connection's end.
    is_let_go: bool,
}

/// What the client is to send next, as long as it has no request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The end of the handshake of TLS.
    Handshake,
    FirstByte,
    /// A head has begun.
    Header,
    NextRequest,
}

/// The time after our last byte in which we still take what the client was sending.
struct Lingering {
    since: Instant,
    last_byte: Instant,
}

/// What the client did not do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimedOut {
    /// It began TLS and did not end its handshake.
    Handshake,
    /// It connected and sent nothing.
    FirstByte,
    /// It began a head and did not end it.
    Header,
    /// It kept the connection and sent no further request.
    Idle,
    /// It took nothing of what was ready for it.
    Write,
    /// It took nothing of one response beside others, which was reset.
    Stream,
    /// It had our last byte and did not hang up.
    Linger,
}

impl TimedOut {
    /// A name for logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::FirstByte => "first-byte",
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Write => "write",
            Self::Stream => "stream",
            Self::Linger => "linger",
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ClientWait {
    /// The waits of a connection that begins now.
    pub(super) fn new(limits: &ConnectionConfig) -> Self {
        Self {
            limits: TimeOuts {
                handshake: limits.handshake_timeout,
                first_byte: limits.first_byte_timeout,
                header: limits.header_timeout,
                body: limits.body_timeout,
                idle: limits.idle_timeout,
                write: limits.write_timeout,
            },
            state: Mutex::new(WaitState {
                waiting_for: Awaited::FirstByte,
                since: Instant::now(),
                requests: 0,
                is_body_unread: false,
                write_blocked_since: None,
                lingering: None,
                is_multiplexed: false,
                is_let_go: false,
            }),
            driver: AtomicWaker::new(),
        }
    }

    /// Polls `connection` until it ends, or until the client has kept it waiting for too long.
    /// The future comes pinned, since by value it would take its room twice in each connection's task.
    pub(super) async fn drive<F: Future>(&self, mut connection: Pin<&mut F>) -> Result<F::Output, TimedOut> {
        let mut timer = LazyTimer::default();
        poll_fn(|context| {
            self.driver.register(context.waker());
            if let Poll::Ready(output) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            match self.deadline() {
                Some((deadline, reason)) => timer.poll(deadline, context).map(|()| Err(reason)),
                None => {
                    timer.rest();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A handshake comes before the first byte of a request.
    pub(super) fn begin_handshake(&self) {
        self.state().wait_for(Awaited::Handshake);
    }

    /// The handshake is done.
    pub(super) fn end_handshake(&self) {
        self.state().wait_for(Awaited::FirstByte);
    }

    /// The client speaks a protocol in which requests run beside each other, and bytes also come between requests.
    pub(super) fn multiplex(&self) {
        let mut state = self.state();
        state.is_multiplexed = true;
        state.wait_for(Awaited::NextRequest);
    }

    /// Bytes came from the client.
    pub(super) fn bytes_came(&self) {
        let mut state = self.state();
        if let Some(lingering) = &mut state.lingering {
            lingering.last_byte = Instant::now();
            return;
        }
        let begins_head = match state.waiting_for {
            Awaited::FirstByte | Awaited::Handshake => true,
            Awaited::NextRequest => state.requests == 0 && !state.is_multiplexed,
            Awaited::Header => false,
        };
        if begins_head {
            state.wait_for(Awaited::Header);
        }
    }

    /// A request's head is complete; its response has been handed over when the returned value is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        let mut state = self.state();
        state.requests += 1;
        state.is_body_unread = false;
        state.is_let_go = false;
        drop(state);
        RequestGuard { wait: Arc::clone(self) }
    }

    /// A response asks for the connection's end; hyper heeds that in HTTP/1, and HTTP/2 has no word for it.
    pub(super) fn let_go(&self) {
        self.state().is_let_go = true;
    }

    /// How long the client may be silent inside a body.
    pub(super) fn body_timeout(&self) -> Duration {
        self.limits.body
    }

    /// The last request's body was given up before its end.
    pub(super) fn body_is_unread(&self) {
        self.state().is_body_unread = true;
    }

    /// Our last byte is sent. True means that the client may still be sending what nobody reads: were the connection
    /// closed now, the kernel would answer with a reset, and many clients would drop our last words on it.
    pub(super) fn begin_linger(&self) -> bool {
        let mut state = self.state();
        if state.is_multiplexed || !(state.is_in_head() || state.is_body_unread) {
            return false;
        }
        let now = Instant::now();
        state.lingering = Some(Lingering { since: now, last_byte: now });
        true
    }

    /// Whether a head has begun and no request is under way.
    pub(super) fn is_in_head(&self) -> bool {
        self.state().is_in_head()
    }

    /// A write waits for the client, or does not any more.
    pub(super) fn write_is_blocked(&self, is_blocked: bool) {
        let mut state = self.state();
        if !is_blocked {
            state.write_blocked_since = None;
        } else if state.write_blocked_since.is_none() {
            state.write_blocked_since = Some(Instant::now());
        }
    }

    /// When the client will have kept the connection waiting for too long, and with what.
    fn deadline(&self) -> Option<(Instant, TimedOut)> {
        let state = self.state();
        // What is not taken of a handshake is a part of its time.
        if let Some(since) = state.write_blocked_since.filter(|_| state.waiting_for != Awaited::Handshake) {
            return Some((since + self.limits.write, TimedOut::Write));
        }
        if let Some(Lingering { since, last_byte }) = state.lingering {
            return Some(((since + LINGER).min(last_byte + LINGER_SILENCE), TimedOut::Linger));
        }
        if state.requests > 0 {
            return None;
        }
        let (limit, reason) = match state.waiting_for {
            Awaited::Handshake => (self.limits.handshake, TimedOut::Handshake),
            Awaited::FirstByte => (self.limits.first_byte, TimedOut::FirstByte),
            Awaited::Header => (self.limits.header, TimedOut::Header),
            Awaited::NextRequest if state.is_let_go => (self.limits.idle.min(LET_GO), TimedOut::Idle),
            Awaited::NextRequest => (self.limits.idle, TimedOut::Idle),
        };
        Some((state.since + limit, reason))
    }

    fn state(&self) -> MutexGuard<'_, WaitState> {
        // The state is plain values, each valid by itself, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitState {
    fn is_in_head(&self) -> bool {
        self.waiting_for == Awaited::Header && self.requests == 0
    }

    fn wait_for(&mut self, what: Awaited) {
        self.waiting_for = what;
        self.since = Instant::now();
    }
}

/// A request under way.
pub(super) struct RequestGuard {
    wait: Arc<ClientWait>,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.wait.state();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.wait_for(Awaited::NextRequest);
            if state.is_multiplexed {
                drop(state);
                self.wait.driver.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests;
