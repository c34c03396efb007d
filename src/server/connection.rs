//! One connection, from its first byte to its last.
//!
//! The task that runs [`serve`] owns everything of the connection: dropping it frees all of it, the requests under way
//! included. hyper's connection types are driven directly, since its ready-made servers keep silent clients for ever.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use super::answer_room::AnswerRoom;
use super::body::{RequestBody, ResponseBody};
use super::client_wait::{ClientWait, TimedOut};
use super::head_refusal::RefuseHead;
use super::peer::Peer;
use super::preface::{Protocol, detect};
use super::secure;
use super::socket::ClientSocket;
use super::stream_pace::StreamPace;
use super::timed_io::TimedIo;
use super::tls::Tls;
use super::watched_io::WatchedIo;
use crate::config::ConnectionConfig;
use crate::limits::Slot;
use crate::telemetry::Metrics;

/// The most that is read at once of an upload, or queued for a slow client by HTTP/1 beside its last buffer. hyper
/// starts at 8 KiB and grows only while reads fill the buffer, so connections without uploads never get there.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection; a browser's page needs some tens.
const MAX_CONCURRENT_REQUESTS: u32 = 256;
/// A head over HTTP/2 that is larger than allowed is read if it is not so many times as large: then the application says
/// what is wrong with it. One that is still larger gets a status alone.
const READABLE_HEADS: usize = 8;

/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What answers requests: an axum `Router`, or any service like it. The [`Peer`] and the connection's [`AnswerRoom`] are
/// among the request's extensions.
pub trait HttpService:
    Service<Request<RequestBody>, Response = Response<Self::ResponseBody>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    type ResponseBody = B;
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// In order: the client hung up between two requests, or the service shuts down.
    Closed,
    /// The client kept the connection waiting for too long.
    TimedOut(TimedOut),
    /// The client broke off or broke the rules, which clients do all the time.
    Client(Box<dyn Error + Send + Sync>),
    /// A response's body failed.
    Response(hyper::Error),
}

/// What the connections of a server share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) limits: Arc<ConnectionConfig>,
    pub(super) tls: Option<Tls>,
    pub(super) metrics: Metrics,
}

/// Serves a connection to its end, with the places that it was accepted with, and logs how it ended. Once `shutdown` is
/// cancelled the requests under way are still answered, and no more.
pub(super) async fn serve<S, A>(
    socket: S,
    handler: Handler<A>,
    common: Common,
    shutdown: CancellationToken,
    _places: (OwnedSemaphorePermit, Option<Slot>),
) where
    S: ClientSocket,
    A: HttpService,
{
    let Common { limits, tls, metrics } = common;
    let _open = OpenConnection::new(&metrics);
    let (peer, wait, refuse_head) = (handler.peer.address, Arc::clone(&handler.wait), handler.refuse_head);
    let end = match tls {
        None => run(WatchedIo::new(socket, wait), None, handler, &limits, shutdown, &metrics).await,
        // Boxed, so that connections without TLS need not have room for it.
        Some(tls) => match Box::pin(secure::open(socket, &tls, &wait, refuse_head, &shutdown)).await {
            Ok((io, agreed)) => Box::pin(run(io, Some(agreed), handler, &limits, shutdown, &metrics)).await,
            Err(end) => end,
        },
    };
    note_end(&end, peer, &metrics);
}

/// Counts a connection for as long as it lives.
struct OpenConnection<'a>(&'a Metrics);

impl<'a> OpenConnection<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.connections_open.inc();
        Self(metrics)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections_open.dec();
    }
}

/// Logs how a connection ended. What clients do is no error of ours.
fn note_end(end: &ConnectionEnd, peer: SocketAddr, metrics: &Metrics) {
    match end {
        ConnectionEnd::Closed => tracing::trace!(peer.address = %peer, "the connection was closed"),
        ConnectionEnd::TimedOut(reason) => {
            metrics.count_time_out(reason.as_str());
            tracing::debug!(peer.address = %peer, %reason, "closed: client timed out");
        }
        ConnectionEnd::Client(error) => {
            tracing::debug!(peer.address = %peer, error = %error, "client closed the connection");
        }
        ConnectionEnd::Response(error) => tracing::warn!(peer.address = %peer, %error, "response failed"),
    }
}

/// Answers the requests on a connection. The protocol is `agreed` on, or told from the first bytes.
async fn run<I, A>(
    io: I,
    agreed: Option<Protocol>,
    handler: Handler<A>,
    limits: &ConnectionConfig,
    shutdown: CancellationToken,
    metrics: &Metrics,
) -> ConnectionEnd
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: HttpService,
{
    let wait = Arc::clone(&handler.wait);
    let mut io = TimedIo::new(io, Arc::clone(&wait), handler.refuse_head);
    let begun = wait.drive(pin!(shutdown.run_until_cancelled(detect(&mut io)))).await;
    let protocol = match begun {
        // A client that has said nothing clear yet has nothing to lose.
        Ok(None) => return ConnectionEnd::Closed,
        Ok(Some(Ok((_, bytes)))) if bytes.is_empty() => return ConnectionEnd::Closed,
        Ok(Some(Ok((protocol, bytes)))) => {
            io.put_back(bytes.into());
            protocol
        }
        Ok(Some(Err(error))) => return ConnectionEnd::Client(error.into()),
        Err(timed_out) => return ConnectionEnd::TimedOut(timed_out),
    };
    let outcome = match agreed.unwrap_or(protocol) {
        Protocol::Http1 => wait.drive(pin!(run_http1(io, handler, limits, shutdown))).await,
        Protocol::Http2 => {
            wait.multiplex();
            // Boxed, so that the many connections of HTTP/1 need not have room for it.
            wait.drive(Box::pin(run_http2(io, handler, limits, shutdown, metrics)).as_mut()).await
        }
    };
    match outcome {
        Ok(Ok(())) | Err(TimedOut::Linger) => ConnectionEnd::Closed,
        Ok(Err(error)) if error.is_user() => ConnectionEnd::Response(error),
        Ok(Err(error)) => ConnectionEnd::Client(error.into()),
        Err(timed_out) => ConnectionEnd::TimedOut(timed_out),
    }
}

async fn run_http1<I, A>(
    io: TimedIo<I>,
    handler: Handler<A>,
    limits: &ConnectionConfig,
    shutdown: CancellationToken,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: HttpService,
{
    // Frames are queued as they are and written with one system call as soon as the response's body has no more
    // ready: hyper chooses vectored writes by itself on a socket.
    //
    // An idle stream costs about 11 KiB of resident memory, 9 of them in the two buffers of 8 KiB that hyper keeps for
    // each connection and lets nobody lower, 1.4 in this task.
    let mut connection = pin!(
        http1::Builder::new()
            // `ClientWait` bounds the head, and tells it from the time between two requests.
            .header_read_timeout(None)
            // The number of header lines stays at hyper's own bound of 100: with any other it allocates each time.
            .max_header_size(limits.max_header_bytes)
            .max_buf_size(MAX_BUFFER_BYTES.max(limits.max_header_bytes))
            .serve_connection(TokioIo::new(io), handler)
    );
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn run_http2<I, A>(
    io: TimedIo<I>,
    handler: Handler<A>,
    limits: &ConnectionConfig,
    shutdown: CancellationToken,
    metrics: &Metrics,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: HttpService,
{
    let cut = CancellationToken::new();
    let _cut_requests_at_the_end = cut.clone().drop_guard();
    let (write_timeout, metrics) = (limits.write_timeout, metrics.clone());
    let header_list_max = limits.max_header_bytes.saturating_mul(READABLE_HEADS);
    let mut connection = pin!(
        http2::Builder::new(RequestTasks { tasks: TaskTracker::new(), cut, write_timeout, metrics })
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(header_list_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_CONCURRENT_REQUESTS)
            .max_send_buf_size(MAX_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(io), handler)
    );
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Runs the requests of one HTTP/2 connection, each in a task, none longer than the connection. A request that is
/// dropped before its end is reset.
#[derive(Clone)]
struct RequestTasks {
    tasks: TaskTracker,
    cut: CancellationToken,
    write_timeout: Duration,
    metrics: Metrics,
}

impl<F> hyper::rt::Executor<F> for RequestTasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let (write_timeout, metrics) = (self.write_timeout, self.metrics.clone());
        let answer = async move {
            if !StreamPace::drive(request, write_timeout).await {
                metrics.count_time_out(TimedOut::Stream.as_str());
            }
        };
        self.tasks.spawn(self.cut.clone().run_until_cancelled_owned(answer));
    }
}

/// Hands the requests of one connection to the application.
pub(super) struct Handler<A> {
    app: A,
    refuse_head: RefuseHead,
    peer: Peer,
    room: Arc<AnswerRoom>,
    wait: Arc<ClientWait>,
}

impl<A> Handler<A> {
    /// A handler of the requests of a connection that begins now.
    pub(super) fn new(
        (app, refuse_head): (A, RefuseHead),
        peer: Peer,
        room: Arc<AnswerRoom>,
        limits: &ConnectionConfig,
    ) -> Self {
        Self { app, refuse_head, peer, room, wait: Arc::new(ClientWait::new(limits)) }
    }
}

impl<A: HttpService> hyper::service::Service<Request<Incoming>> for Handler<A> {
    type Response = Response<ResponseBody<A::ResponseBody>>;
    type Error = Infallible;
    // Boxed, so that it is gone while the response's body is sent: hyper keeps room for the future in each connection.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let under_way = self.wait.begin_request();
        let is_one_of_many = request.version() == Version::HTTP_2;
        let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&self.wait)));
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(Arc::clone(&self.room));
        let (answer, wait) = (self.app.clone().oneshot(request), Arc::clone(&self.wait));
        Box::pin(async move {
            let response = answer.await?;
            if response.headers().get(CONNECTION).is_some_and(|value| value == "close") {
                wait.let_go();
            }
            let stream = if is_one_of_many { StreamPace::current() } else { None };
            Ok(response.map(|body| ResponseBody::new(body, stream, under_way)))
        })
    }
}
