//! A timer for deadlines that move often and rarely pass.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is moved only when it fires too early.
///
/// A deadline on a client moves with each of its bytes. Moving the runtime's timer each time would cost more than the
/// byte; instead the timer stays where it was, and when it fires it looks at the deadline of that moment.
#[derive(Default)]
pub(super) struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// Ready once `deadline` has passed; otherwise the task is woken then at the latest.
    pub(super) fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if deadline <= sleep.deadline() {
                self.sleep = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }

    /// Gives the timer back if it has fired; called while there is no deadline.
    pub(super) fn rest(&mut self) {
        if self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed()) {
            self.sleep = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_both_ways() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = LazyTimer::default();
        poll_fn(|context| {
            assert!(timer.poll(at(10), context).is_pending());
            assert!(timer.poll(at(20), context).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|context| timer.poll(at(20), context)).await;
        assert_eq!(Instant::now(), at(20));
        poll_fn(|context| {
            assert!(timer.poll(at(90), context).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|context| timer.poll(at(30), context)).await;
        assert_eq!(Instant::now(), at(30));
    }
}
