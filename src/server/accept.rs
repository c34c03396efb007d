//! The accept loop: connections come in within a bound, and all of them end before it does.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::answer_room::AnswerRoom;
use super::connection::{self, Common, Handler, HttpService};
use super::head_refusal::RefuseHead;
use super::peer::Peer;
use super::socket::{ClientSocket, tune};
use super::tls::Tls;
use crate::config::ConnectionConfig;
use crate::telemetry::Metrics;

/// How long to wait when the system cannot give us another connection (too many open files, no memory): time for some
/// to end. Those who connect meanwhile wait in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How connections are served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// What answers a head that nobody reads.
    pub refuse_head: RefuseHead,
    /// How long clients are waited for, and how many.
    pub limits: ConnectionConfig,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Accepts connections and lets `app` answer their requests until `shutdown` is cancelled. Then the listener is closed
/// at once, requests under way are still answered, and this returns when the last connection has ended; dropping it
/// earlier drops those that are left.
pub async fn serve<A: HttpService>(listener: TcpListener, app: A, options: ServeOptions, shutdown: CancellationToken) {
    let listener = TunedListener { listener, write_timeout: options.limits.write_timeout };
    serve_on(listener, app, options, shutdown).await;
}

/// Where connections come from.
trait Listener: Send {
    /// The bytes of a connection.
    type Io: ClientSocket;

    /// The next connection. Cancel safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

/// TCP connections with our options.
struct TunedListener {
    listener: TcpListener,
    write_timeout: Duration,
}

impl Listener for TunedListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        if let Err(error) = tune(&stream, self.write_timeout) {
            // Options fail on a connection that has ended already; the connection's own reads will find out.
            tracing::debug!(%error, peer.address = %peer, "cannot set socket options");
        }
        Ok((stream, peer))
    }
}

async fn serve_on<L: Listener, A: HttpService>(
    mut listener: L,
    app: A,
    ServeOptions { refuse_head, limits, tls, metrics }: ServeOptions,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let common = Common { limits: Arc::new(limits), tls, metrics };
    let room = AnswerRoom::default();
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // The permit comes first, so that a connection beyond the bound stays in the kernel's backlog.
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                note_panic(ended);
                continue;
            }
            // The semaphore is never closed, so a permit always comes.
            (Ok(permit), accepted) = next => (permit, accepted),
        };
        match accepted {
            Ok((io, peer)) => {
                let peer = Peer { address: peer, is_https: common.tls.is_some() };
                let handler = Handler::new((app.clone(), refuse_head), peer, room.of_connection(), &common.limits);
                // A token of its own, since waiting on a shared one takes its lock at every step of every connection.
                let shutdown = shutdown.child_token();
                connections.spawn(connection::serve(io, handler, common.clone(), shutdown, permit));
            }
            Err(error) if concerns_one_connection(&error) => {
                tracing::debug!(%error, "connection closed before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections; retrying");
                shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note_panic(ended);
    }
}

/// Whether an error of `accept` concerns only the connection that was about to be accepted (accept(2)).
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

/// A panic in a request handler ends its connection and nothing else.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "connection handler panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::future::pending;

    use http_body_util::Empty;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::server::RequestBody;

    /// Gives the listed outcomes, and then nothing.
    struct Scripted(VecDeque<io::Result<DuplexStream>>);

    impl Listener for Scripted {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.0.pop_front() {
                Some(outcome) => outcome.map(|io| (io, SocketAddr::from(([127, 0, 0, 1], 9)))),
                None => pending().await,
            }
        }
    }

    impl ClientSocket for DuplexStream {
        async fn first_byte(&self) -> io::Result<u8> {
            pending().await
        }
    }

    /// Serves the outcomes of `accept`, the last of which is a connection, and asks on it; gives how long the answer
    /// took.
    async fn answered_after(errors: Vec<io::Error>) -> Duration {
        let (ours, mut theirs) = duplex(1024);
        let outcomes = errors.into_iter().map(Err).chain([Ok(ours)]).collect();
        let app = tower::service_fn(async |_: Request<RequestBody>| {
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        });
        let shutdown = CancellationToken::new();
        let serving = serve_on(
            Scripted(outcomes),
            app,
            ServeOptions {
                refuse_head: |_| Response::default(),
                limits: ConnectionConfig::default(),
                tls: None,
                metrics: Metrics::new(),
            },
            shutdown.clone(),
        );
        let start = Instant::now();
        let asking = async {
            theirs.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("room");
            let mut answer = String::new();
            theirs.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            shutdown.cancel();
            start.elapsed()
        };
        tokio::join!(serving, asking).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_lack_of_files_pauses_the_loop_and_does_not_end_it() {
        const EMFILE: i32 = 24;
        let errors = (0..3).map(|_| io::Error::from_raw_os_error(EMFILE)).collect();
        assert_eq!(answered_after(errors).await, ACCEPT_PAUSE * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_given_up_delays_nobody() {
        let errors = vec![io::ErrorKind::ConnectionAborted.into(), io::ErrorKind::ConnectionReset.into()];
        assert_eq!(answered_after(errors).await, Duration::ZERO);
    }
}
