//! Sockets and what the kernel is asked to do for them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait in the kernel until they are accepted, also those beyond the bound of connections. The
/// kernel lowers it to its own maximum (`net.core.somaxconn`), by default the same.
const BACKLOG: i32 = 4_096;

/// How long a connection is quiet before the kernel asks whether the peer is still there, how often it asks again, and
/// how many unanswered questions end the connection: a dead peer is noticed within about a minute.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBE_COUNT: u32 = 3;

/// Bytes that the kernel may hold unsent for a client before a write blocks. Ticks that wait in the kernel cannot be
/// merged any more, so a slow watcher would see an old state, and thousands of slow watchers would fill the memory.
const UNSENT_BYTES: u32 = 16 * 1024;

/// Listens on `address`. A port that was just given up can be taken again at once.
///
/// # Errors
///
/// When the address cannot be had, mostly because another process has it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Asks the kernel to send each frame at once, and to notice peers that are gone. Bytes that a peer does not
/// acknowledge within `write_timeout` end the connection.
///
/// # Errors
///
/// When the connection has ended already.
pub(super) fn tune(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBE_COUNT);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(write_timeout))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    }
    Ok(())
}

/// The bytes of a connection, before anything has read them.
pub(super) trait ClientSocket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The first byte that the client sends, which is read again afterwards; zero if it hangs up.
    fn first_byte(&self) -> impl Future<Output = io::Result<u8>> + Send;
}

impl ClientSocket for TcpStream {
    async fn first_byte(&self) -> io::Result<u8> {
        let mut byte = [0];
        self.peek(&mut byte).await?;
        Ok(byte[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_connection_notices_a_dead_peer_and_holds_little_for_a_slow_one() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (_client, (stream, _)) = (client.expect("connected"), accepted.expect("accepted"));
        tune(&stream, Duration::from_secs(30)).expect("options");

        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().expect("option"));
        assert!(socket.keepalive().expect("option"));
        assert_eq!(socket.tcp_keepalive_time().expect("option"), PROBE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().expect("option"), PROBE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("option"), PROBE_COUNT);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().expect("option"), Some(Duration::from_secs(30)));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_notsent_lowat().expect("option"), 16 * 1024);
    }
}
