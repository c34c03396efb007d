//! How long a response of HTTP/2 waits for its client.
//!
//! Many responses share one connection, and the client's windows say how much of each may be sent. A response whose
//! window stays closed blocks no write, so [`super::client_wait`] cannot see it. Here it is seen from the other side: hyper
//! takes the next piece of a body only when it could hand over the one before.
//!
//! The state belongs to one response. Nothing here knows HTTP.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::timer::LazyTimer;

tokio::task_local! {
    /// Of the response that this task sends.
    static CURRENT: Arc<StreamPace>;
}

/// Since when a response waits for its client.
#[derive(Default)]
pub(super) struct StreamPace {
    waiting_since: Mutex<Option<Instant>>,
}

impl StreamPace {
    /// Polls the `response` until it ends; false means that the client took nothing of it for `write_timeout`.
    pub(super) async fn drive(response: impl Future, write_timeout: Duration) -> bool {
        let pace = Arc::new(Self::default());
        let mut response = pin!(CURRENT.scope(Arc::clone(&pace), response));
        let mut timer = LazyTimer::default();
        poll_fn(|context| {
            if response.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            match *pace.lock() {
                Some(since) => timer.poll(since + write_timeout, context).map(|()| false),
                None => {
                    timer.rest();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// That of the running task, if its response is one of many on its connection.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// A piece waits for the client, or does not any more.
    pub(super) fn is_waiting(&self, is_waiting: bool) {
        *self.lock() = is_waiting.then(Instant::now);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    /// Sends pieces, the client taking each after so many seconds, then waits for more to send; gives when it was given
    /// up.
    async fn given_up_after(takes: &[u64]) -> Option<u64> {
        let start = Instant::now();
        let response = async {
            let pace = StreamPace::current().expect("a response");
            for seconds in takes {
                pace.is_waiting(true);
                sleep(Duration::from_secs(*seconds)).await;
                pace.is_waiting(false);
            }
            sleep(Duration::from_secs(1000)).await;
        };
        (!StreamPace::drive(response, WRITE_TIMEOUT).await).then(|| start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_waits_for_each_piece_and_not_for_all() {
        assert_eq!(given_up_after(&[29, 29, 29, 29]).await, None);
        assert_eq!(given_up_after(&[]).await, None);
        assert_eq!(given_up_after(&[29, 31, 1]).await, Some(29 + 30));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_nothing_to_send_waits_for_nobody() {
        let quiet = tokio::time::timeout(WRITE_TIMEOUT * 100, StreamPace::drive(pending::<()>(), WRITE_TIMEOUT));
        assert!(quiet.await.is_err());
        assert!(StreamPace::current().is_none());
    }
}
