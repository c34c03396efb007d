//! The writes of a connection, watched where they leave the process: below TLS, which takes bytes that nobody has taken
//! from it yet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client_wait::ClientWait;

/// Tells a connection's [`ClientWait`] when the client takes nothing of what it is sent.
pub(super) struct WatchedIo<I> {
    io: I,
    wait: Arc<ClientWait>,
}

impl<I> WatchedIo<I> {
    /// Watches `io`.
    pub(super) fn new(io: I, wait: Arc<ClientWait>) -> Self {
        Self { io, wait }
    }

    /// A write that is pending waits for the client; any other outcome is progress, or an end.
    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.wait.write_is_blocked(outcome.is_pending());
        outcome
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WatchedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for WatchedIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(context);
        if outcome.is_pending() { self.note(outcome) } else { outcome }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(context);
        self.note(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::config::ConnectionConfig;
    use crate::server::client_wait::TimedOut;

    fn wait() -> Arc<ClientWait> {
        Arc::new(ClientWait::new(&ConnectionConfig {
            write_timeout: Duration::from_secs(30),
            ..ConnectionConfig::default()
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let wait = wait();
        let _request = wait.begin_request();
        let (ours, _theirs) = duplex(1024);
        let mut io = WatchedIo::new(ours, Arc::clone(&wait));
        let start = Instant::now();
        let writing = pin!(io.write_all(&[0; 1025]));
        // An hour of paused time: what never comes fails instead of hanging.
        let outcome = tokio::time::timeout(Duration::from_secs(3600), wait.drive(writing)).await;
        assert_eq!(outcome.expect("a time-out passes").expect_err("nobody reads"), TimedOut::Write);
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_little_is_served() {
        let wait = wait();
        let _request = wait.begin_request();
        let (ours, mut theirs) = duplex(8);
        let mut io = WatchedIo::new(ours, Arc::clone(&wait));
        let slow = async {
            let mut byte = [0];
            for _ in 0..64 {
                sleep(Duration::from_secs(29)).await;
                theirs.read_exact(&mut byte).await.expect("a byte");
            }
        };
        let mut writing = pin!(io.write_all(&[0; 64]));
        let writing = wait.drive(writing.as_mut());
        let (outcome, ()) = tokio::join!(writing, slow);
        outcome.expect("the client takes a byte in time").expect("the write succeeds");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_pending_means_no_time_out() {
        let wait = wait();
        let _request = wait.begin_request();
        let (ours, mut theirs) = duplex(1024);
        let mut io = WatchedIo::new(ours, Arc::clone(&wait));
        let quiet = async {
            io.write_all(b"a").await.expect("room");
            io.flush().await.expect("room");
            sleep(Duration::from_secs(3600)).await;
            io.write_all(b"b").await.expect("room");
        };
        wait.drive(pin!(quiet)).await.expect("a quiet stream is fine");
        let mut both = [0; 2];
        theirs.read_exact(&mut both).await.expect("two bytes");
        assert_eq!(&both, b"ab");
    }
}
