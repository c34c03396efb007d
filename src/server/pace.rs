//! How long a connection waits for its client.
//!
//! hyper knows one time-out, from the end of a response to the end of the next request's head; that is too long for a
//! head that comes byte by byte, or too short for a connection that is kept, and it bounds no write. So its time-out
//! stays off, and this module keeps all of them: [`Pace`] is told by the connection's parts what happens (bytes come,
//! requests begin and end, writes block), and [`Pace::drive`] polls the connection until the client has kept it waiting
//! for too long.
//!
//! The state belongs to one connection. Nothing here knows HTTP.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::timer::LazyTimer;
use crate::config::ConnectionConfig;

/// What the connection waits for, shared by its parts.
pub(super) struct Pace {
    limits: Limits,
    state: Mutex<State>,
    /// Wakes the connection's task when another task has ended its last request.
    driver: AtomicWaker,
}

struct Limits {
    first_byte: Duration,
    header: Duration,
    idle: Duration,
    write: Duration,
}

struct State {
    waiting_for: Waiting,
    since: Instant,
    /// Requests whose response has not been taken whole.
    requests: usize,
    /// Since when a write waits for the client to take what it was sent.
    write_blocked_since: Option<Instant>,
    /// Requests run beside each other, in tasks of their own.
    is_multiplexed: bool,
}

/// What the client is to send next, as long as it has no request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    FirstByte,
    /// A head has begun.
    Header,
    NextRequest,
}

/// What the client did not do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimedOut {
    /// It connected and sent nothing.
    FirstByte,
    /// It began a head and did not end it.
    Header,
    /// It kept the connection and sent no further request.
    Idle,
    /// It took nothing of what was ready for it.
    Write,
}

impl TimedOut {
    /// A name for logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first-byte",
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Pace {
    /// The pace of a connection that begins now.
    pub(super) fn new(limits: &ConnectionConfig) -> Self {
        Self {
            limits: Limits {
                first_byte: limits.first_byte_timeout,
                header: limits.header_timeout,
                idle: limits.idle_timeout,
                write: limits.write_timeout,
            },
            state: Mutex::new(State {
                waiting_for: Waiting::FirstByte,
                since: Instant::now(),
                requests: 0,
                write_blocked_since: None,
                is_multiplexed: false,
            }),
            driver: AtomicWaker::new(),
        }
    }

    /// Polls `connection` until it ends, or until the client has kept it waiting for too long.
    pub(super) async fn drive<F: Future>(&self, connection: F) -> Result<F::Output, TimedOut> {
        let mut connection = pin!(connection);
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

    /// The client speaks a protocol in which requests run beside each other, and bytes also come between requests.
    pub(super) fn multiplex(&self) {
        let mut state = self.state();
        state.is_multiplexed = true;
        state.wait_for(Waiting::NextRequest);
    }

    /// Bytes came from the client.
    pub(super) fn bytes_came(&self) {
        let mut state = self.state();
        let begins_head = match state.waiting_for {
            Waiting::FirstByte => true,
            Waiting::NextRequest => state.requests == 0 && !state.is_multiplexed,
            Waiting::Header => false,
        };
        if begins_head {
            state.wait_for(Waiting::Header);
        }
    }

    /// A request's head is complete; its response has been handed over when the returned value is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.state().requests += 1;
        RequestGuard { pace: Arc::clone(self) }
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
        if let Some(since) = state.write_blocked_since {
            return Some((since + self.limits.write, TimedOut::Write));
        }
        if state.requests > 0 {
            return None;
        }
        let (limit, reason) = match state.waiting_for {
            Waiting::FirstByte => (self.limits.first_byte, TimedOut::FirstByte),
            Waiting::Header => (self.limits.header, TimedOut::Header),
            Waiting::NextRequest => (self.limits.idle, TimedOut::Idle),
        };
        Some((state.since + limit, reason))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain values, each valid by itself, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait_for(&mut self, what: Waiting) {
        self.waiting_for = what;
        self.since = Instant::now();
    }
}

/// A request under way.
pub(super) struct RequestGuard {
    pace: Arc<Pace>,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.wait_for(Waiting::NextRequest);
            if state.is_multiplexed {
                drop(state);
                self.pace.driver.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    fn pace() -> Arc<Pace> {
        Arc::new(Pace::new(&ConnectionConfig {
            first_byte_timeout: Duration::from_secs(1),
            header_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            ..ConnectionConfig::default()
        }))
    }

    /// Runs `script` and then nothing; gives what the client is blamed for, and after how many seconds.
    async fn blame(pace: &Arc<Pace>, script: impl Future<Output = ()>) -> (TimedOut, u64) {
        let start = Instant::now();
        let connection = async {
            script.await;
            pending::<()>().await;
        };
        let timed_out = pace.drive(connection).await.expect_err("the connection never ends by itself");
        (timed_out, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_bounded_from_the_start() {
        assert_eq!(blame(&pace(), async {}).await, (TimedOut::FirstByte, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_do_not_prolong_a_head() {
        let pace = pace();
        let script = async {
            for _ in 0..20 {
                pace.bytes_came();
                sleep(Duration::from_millis(500)).await;
            }
        };
        assert_eq!(blame(&pace, script).await, (TimedOut::Header, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_it_likes() {
        let pace = pace();
        let script = async {
            pace.bytes_came();
            let request = pace.begin_request();
            sleep(Duration::from_secs(1000)).await;
            drop(request);
        };
        assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 1060));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_head_has_its_own_bound() {
        let pace = pace();
        let script = async {
            pace.bytes_came();
            drop(pace.begin_request());
            sleep(Duration::from_secs(59)).await;
            pace.bytes_came();
        };
        assert_eq!(blame(&pace, script).await, (TimedOut::Header, 61));
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_write_is_bounded_also_within_a_request() {
        let pace = pace();
        let script = async {
            pace.bytes_came();
            let _request = pace.begin_request();
            pace.write_is_blocked(true);
            sleep(Duration::from_secs(29)).await;
            pace.write_is_blocked(false);
            pace.write_is_blocked(true);
            sleep(Duration::from_secs(10)).await;
            pace.write_is_blocked(true);
            pending::<()>().await;
        };
        assert_eq!(blame(&pace, script).await, (TimedOut::Write, 59));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_response_is_not_idleness() {
        let pace = pace();
        let script = async {
            pace.bytes_came();
            drop(pace.begin_request());
            for _ in 0..10 {
                pace.write_is_blocked(true);
                sleep(Duration::from_secs(20)).await;
                pace.write_is_blocked(false);
            }
            drop(pace.begin_request());
        };
        assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 260));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_between_multiplexed_requests_are_no_head() {
        let pace = pace();
        let script = async {
            pace.bytes_came();
            pace.multiplex();
            sleep(Duration::from_secs(30)).await;
            pace.bytes_came();
        };
        assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_ends_in_another_task_starts_the_idle_time() {
        let pace = pace();
        pace.bytes_came();
        pace.multiplex();
        let request = pace.begin_request();
        let other = tokio::task::JoinSet::from_iter([async move {
            sleep(Duration::from_secs(100)).await;
            drop(request);
        }]);
        assert_eq!(blame(&pace, async {}).await, (TimedOut::Idle, 160));
        drop(other);
    }
}
