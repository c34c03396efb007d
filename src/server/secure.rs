//! How an encrypted connection begins: the handshake, or the refusal of a client that does not encrypt.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::client_wait::{ClientWait, TimedOut};
use super::connection::ConnectionEnd;
use super::head_refusal::{self, RefuseHead, UnreadHead};
use super::preface::Protocol;
use super::socket::ClientSocket;
use super::timed_io::TimedIo;
use super::tls::Tls;
use super::watched_io::WatchedIo;

/// Begins TLS; gives what is spoken under it, or how the connection has ended.
pub(super) async fn open<S: ClientSocket>(
    socket: S,
    tls: &Tls,
    wait: &Arc<ClientWait>,
    refuse_head: RefuseHead,
    shutdown: &CancellationToken,
) -> Result<(TlsStream<WatchedIo<S>>, Protocol), ConnectionEnd> {
    wait.begin_handshake();
    let opening = async {
        // TLS begins with a byte 22, HTTP with a method or a preface.
        let is_plain = socket.first_byte().await?.is_ascii_uppercase();
        let io = WatchedIo::new(socket, Arc::clone(wait));
        Ok::<_, io::Error>(if is_plain { Err(io) } else { Ok(tls.handshake(io).await?) })
    };
    match wait.drive(pin!(shutdown.run_until_cancelled(opening))).await {
        Ok(Some(Ok(Ok(opened)))) => {
            wait.end_handshake();
            Ok(opened)
        }
        Ok(Some(Ok(Err(io)))) => Err(refuse_plaintext(io, wait, refuse_head).await),
        Ok(Some(Err(error))) => Err(ConnectionEnd::Client(error.into())),
        Ok(None) => Err(ConnectionEnd::Closed),
        Err(timed_out) => Err(ConnectionEnd::TimedOut(timed_out)),
    }
}

/// Tells a client that does not speak TLS that it should.
async fn refuse_plaintext<I>(io: WatchedIo<I>, wait: &Arc<ClientWait>, refuse_head: RefuseHead) -> ConnectionEnd
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    wait.end_handshake();
    // Its head is not read to the end, so it is heard out before the connection closes.
    wait.bytes_came();
    let mut io = TimedIo::new(io, Arc::clone(wait), refuse_head);
    let answer = head_refusal::answer(&refuse_head(UnreadHead::NotEncrypted));
    let refusing = async {
        io.write_all(&answer).await?;
        io.shutdown().await
    };
    match wait.drive(pin!(refusing)).await {
        Ok(Ok(())) | Err(TimedOut::Linger) => ConnectionEnd::Closed,
        Ok(Err(error)) => ConnectionEnd::Client(error.into()),
        Err(timed_out) => ConnectionEnd::TimedOut(timed_out),
    }
}
