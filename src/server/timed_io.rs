//! A client's bytes as hyper sees them: tells the connection's [`ClientWait`] when bytes come, hears out a client that was
//! refused in the middle of what it sent, and gives words to hyper's own refusals.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client_wait::ClientWait;
use super::head_refusal::{self, RefuseHead, UnreadHead};

/// Reads and writes of one client.
pub(super) struct TimedIo<I> {
    io: I,
    wait: Arc<ClientWait>,
    /// Bytes that were read to look at them, and are to be read again.
    put_back: Bytes,
    refuse_head: RefuseHead,
    /// What is still to be written in place of a refusal by hyper.
    replaced: Bytes,
    /// We have sent our last byte, and discard so much at most of what the client still sends.
    discards_left: Option<usize>,
}

/// Reads at once of what is discarded, so that a client that never stops does not keep the task from others.
const DISCARDS_AT_ONCE: usize = 16;

/// What is discarded of the request of a client that was refused in the middle of it. One that sends more is cut off,
/// and may then miss the refusal.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

impl<I> TimedIo<I> {
    /// Watches `io`.
    pub(super) fn new(io: I, wait: Arc<ClientWait>, refuse_head: RefuseHead) -> Self {
        Self { io, wait, put_back: Bytes::new(), refuse_head, replaced: Bytes::new(), discards_left: None }
    }

    /// The next reads give `bytes` first.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.put_back = bytes;
    }
}

impl<I: AsyncRead + Unpin> TimedIo<I> {
    /// Ready once the client has hung up, or has sent more than is discarded.
    fn poll_discard(&mut self, left: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut left = left;
        let mut bytes = [MaybeUninit::uninit(); 4096];
        for _ in 0..DISCARDS_AT_ONCE {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer)) {
                Ok(()) if (1..=left).contains(&buffer.filled().len()) => {
                    self.wait.bytes_came();
                    left -= buffer.filled().len();
                    self.discards_left = Some(left);
                }
                // A reset is a way to hang up, too.
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for TimedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let put_back = self.put_back.len().min(buffer.remaining());
        if put_back > 0 {
            buffer.put_slice(&self.put_back[..put_back]);
            self.put_back.advance(put_back);
        }
        // What follows is read at once with what was put back: for a second read of the same head hyper would double
        // its buffer, and keep it so for the connection's life.
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.wait.bytes_came();
        }
        // Should the connection have failed, the next read tells, too.
        if put_back > 0 { Poll::Ready(Ok(())) } else { outcome }
    }
}

impl<I: AsyncWrite + Unpin> TimedIo<I> {
    /// Keeps our own words for a refusal by hyper, which counts as written.
    fn replace(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let status = Some(slices).filter(|_| self.wait.is_in_head()).and_then(head_refusal::bare_status)?;
        self.replaced = head_refusal::answer(&(self.refuse_head)(UnreadHead::Unreadable(status)));
        slices.first().map(|head| head.len())
    }

    fn poll_replaced(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replaced.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(context, &self.replaced))?;
            self.replaced.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(count) = self.replace(&[IoSlice::new(bytes)]) {
            return Poll::Ready(Ok(count));
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(count) = self.replace(slices) {
            return Poll::Ready(Ok(count));
        }
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replaced(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let left = self.discards_left.unwrap_or(DISCARDED_BYTES_MAX);
        if self.discards_left.is_none() {
            ready!(self.poll_replaced(context))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            if !self.wait.begin_linger() {
                return Poll::Ready(Ok(()));
            }
            self.discards_left = Some(left);
        }
        self.poll_discard(left, context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::config::ConnectionConfig;

    #[tokio::test]
    async fn bytes_that_were_put_back_come_first() {
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(b"world").await.expect("room");
        drop(theirs);
        let wait = Arc::new(ClientWait::new(&ConnectionConfig::default()));
        let mut io = TimedIo::new(ours, wait, |_| Response::default());
        io.put_back(Bytes::from_static(b"hello "));
        let mut small = [0; 4];
        io.read_exact(&mut small).await.expect("four bytes");
        let mut rest = String::new();
        io.read_to_string(&mut rest).await.expect("text");
        assert_eq!((&small, rest.as_str()), (b"hell", "o world"));
    }
}
