//! A server whose routes the test holds the strings of, and a client of raw bytes.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Extension;
use axum::routing::{get, post};
use http::{Response, StatusCode};
use http_body::Frame;
use progressd::config::ConnectionConfig;
use progressd::server::{self, Peer, ServeOptions, Tls, UnreadHead};
use progressd::telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A time-out that is to pass.
pub(super) const SHORT: Duration = Duration::from_millis(100);

/// How long a test waits for what must happen. It only passes where something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives what `future` gives, which must not take long.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this must not take long")
}

/// Limits under which no time-out passes.
pub(super) fn patient() -> ConnectionConfig {
    ConnectionConfig {
        max_connections: 64,
        first_byte_timeout: PATIENCE * 2,
        header_timeout: PATIENCE * 2,
        body_timeout: PATIENCE * 2,
        idle_timeout: PATIENCE * 2,
        write_timeout: PATIENCE * 2,
        ..ConnectionConfig::default()
    }
}

/// A server on a port of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
    /// Ends when the server has ended.
    pub(super) serving: JoinHandle<()>,
    /// Sends a frame on the one stream of `/frames`.
    pub(super) frames: mpsc::Sender<&'static str>,
    pub(super) signals: Signals,
}

/// What the routes and the test tell each other.
#[derive(Clone, Default)]
pub(super) struct Signals {
    /// Lets `/slow` answer.
    pub(super) release: Arc<Notify>,
    /// `/slow` has begun.
    pub(super) began: Arc<Notify>,
    /// The body of a response was dropped.
    pub(super) ended: Arc<Notify>,
}

impl Server {
    pub(super) async fn start(limits: ConnectionConfig) -> Self {
        Self::start_with(limits, None).await
    }

    pub(super) async fn start_with(limits: ConnectionConfig, tls: Option<Tls>) -> Self {
        let listener = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (metrics, shutdown, signals) = (Metrics::new(), CancellationToken::new(), Signals::default());
        let (frames, receiver) = mpsc::channel(16);
        let app = routes(receiver, &signals);
        let options = ServeOptions { refuse_head, limits, tls, metrics: metrics.clone() };
        let serving = tokio::spawn(server::serve(listener, app, options, shutdown.clone()));
        Self { address, metrics, shutdown, serving, frames, signals }
    }

    pub(super) async fn connect(&self) -> Client {
        Client(soon(TcpStream::connect(self.address)).await.expect("connected"))
    }

    /// A connection that has sent `bytes`.
    pub(super) async fn send(&self, bytes: &[u8]) -> Client {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client
    }

    /// That the server has given up a connection for `reason`, and still answers others.
    pub(super) async fn assert_timed_out(&self, reason: &str) {
        let answer = self.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let line = format!("progressd_connections_timed_out_total{{reason=\"{reason}\"}} 1");
        let metrics = self.metrics.encode();
        assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
    }
}

fn refuse_head(head: UnreadHead) -> Response<Bytes> {
    let status = match head {
        UnreadHead::Unreadable(status) => status,
        UnreadHead::NotEncrypted => StatusCode::BAD_REQUEST,
    };
    let mut response = Response::new(Bytes::from_static(b"unreadable"));
    *response.status_mut() = status;
    response.headers_mut().insert("x-why", "head".parse().expect("a value"));
    response
}

fn routes(receiver: mpsc::Receiver<&'static str>, signals: &Signals) -> Router {
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let (slow, ended, endless_ended) = (signals.clone(), Arc::clone(&signals.ended), Arc::clone(&signals.ended));
    Router::new()
        .route("/hello", get(|Extension(peer): Extension<Peer>| async move { format!("hello {}", peer.address.ip()) }))
        .route("/panic", get(panics))
        .route("/refuse", post(|| async { (StatusCode::PAYLOAD_TOO_LARGE, "refused") }))
        .route("/echo", post(echo))
        .route(
            "/slow",
            get(move || async move {
                slow.began.notify_one();
                slow.release.notified().await;
                "slow"
            }),
        )
        .route(
            "/frames",
            get(move || async move {
                let receiver = receiver.lock().expect("no panic").take().expect("one request only");
                Body::new(Frames { receiver, _ended: TellEnd(ended) })
            }),
        )
        .route(
            "/endless",
            get(move || async move {
                let (sender, receiver) = mpsc::channel(1);
                let told = TellEnd(endless_ended);
                let frame: &'static str = "endless ".repeat(8192).leak();
                tokio::spawn(async move { while sender.send(frame).await.is_ok() {} });
                Body::new(Frames { receiver, _ended: told })
            }),
        )
}

async fn panics() -> &'static str {
    panic!("a handler that panics")
}

/// Answers with the body that was sent, or with what went wrong.
async fn echo(body: Body) -> (StatusCode, Bytes) {
    match to_bytes(body, 1 << 20).await {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(error) => {
            let is_time_out = std::iter::successors(error.source(), |error| (*error).source())
                .filter_map(|error| error.downcast_ref::<std::io::Error>())
                .any(|error| error.kind() == std::io::ErrorKind::TimedOut);
            let status = if is_time_out { StatusCode::REQUEST_TIMEOUT } else { StatusCode::BAD_REQUEST };
            (status, Bytes::new())
        }
    }
}

/// A body of frames that come when they come.
struct Frames {
    receiver: mpsc::Receiver<&'static str>,
    _ended: TellEnd,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.receiver.poll_recv(context);
        frame.map(|frame| frame.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

struct TellEnd(Arc<Notify>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A client of raw bytes.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.expect("the server takes it");
    }

    /// Reads until `end` has come; gives all that was read.
    pub(super) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let count = soon(self.0.read_buf(&mut read)).await.expect("bytes");
            assert!(count > 0, "the end came before {end:?}: {}", String::from_utf8_lossy(&read));
        }
        String::from_utf8(read).expect("text")
    }

    /// Reads until the server closes the connection, in order or not.
    pub(super) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        // A reset is an end too: the kernel sends it when we had sent what the server did not read.
        if let Err(error) = soon(self.0.read_to_end(&mut read)).await {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        String::from_utf8(read).expect("text")
    }

    /// That the server has sent nothing so far.
    pub(super) fn assert_unanswered(&self) {
        let error = self.0.try_read(&mut [0]).expect_err("nothing to read");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
