//! The service on a journal in memory.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use futures_util::FutureExt;
use http::{HeaderName, Method, Request, Response, header};
use progressd::{
    config::Config,
    event::{Event, Seq},
    journal::{Journal, Tail},
    server::Peer,
    service::{Clock, Service, history_bounds},
    testing::MemoryJournal,
};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::{Answer, Events, described, leaks};

/// A running service; it ends with the test.
pub(crate) struct TestApp {
    pub(crate) service: Service,
    pub(crate) journal: MemoryJournal,
    socket: Option<(SocketAddr, AbortOnDropHandle<Option<()>>)>,
    _data: TempDir,
}

impl TestApp {
    /// With small bounds, in process only: time may be paused.
    pub(crate) async fn in_process() -> Self {
        Self::with(|_| {}).await
    }

    /// In process, with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        leaks::search_log();
        let mut config = Config::default();
        config.streams.tick_interval = Duration::from_millis(1);
        change(&mut config);
        let journal = MemoryJournal::with_bounds(history_bounds(&config), 65_536);
        Self::on(journal, config).await
    }

    /// Another node of the same store. Neither hears of what the other writes before it writes something
    /// itself, or is shown a cursor that tells of it.
    pub(crate) async fn beside(&self) -> Self {
        Self::on(self.journal.clone(), (*self.service.app.config).clone()).await
    }

    /// On a store that it may share with others.
    pub(crate) async fn on(journal: MemoryJournal, mut config: Config) -> Self {
        let data = tempfile::tempdir().unwrap();
        config.data_dir = data.path().to_owned();
        let service = Service::start(config, Arc::new(journal.clone()), Clock::runtime()).await.unwrap();
        Self { service, journal, socket: None, _data: data }
    }

    /// With small bounds, on a socket.
    pub(crate) async fn on_socket() -> Self {
        Self::in_process().await.listening().await
    }

    /// Listens on a free port of loopback as well.
    pub(crate) async fn listening(mut self) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.socket = Some((address, AbortOnDropHandle::new(self.service.serve(listener))));
        self
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.as_ref().unwrap().0
    }

    /// The URL of a path on the socket.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// A request to the router.
    pub(crate) fn request(&self, method: &str, path: &str) -> Asking {
        Asking::of(self.service.router.clone(), method, path)
    }

    pub(crate) fn get(&self, path: &str) -> Asking {
        self.request("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Asking {
        self.request("POST", path)
    }

    pub(crate) fn patch(&self, path: &str) -> Asking {
        self.request("PATCH", path)
    }

    /// Submits a task and gives its path.
    pub(crate) async fn submit(&self, task: serde_json::Value) -> String {
        let answer = self.post("/api/tasks").json(&task).send().await;
        assert_eq!(answer.status(), 202, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Reports on a task, by its path.
    pub(crate) async fn report(&self, path: &str, report: serde_json::Value) -> Answer {
        let answer = self.patch(path).json(&report).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        leaks::search("a metric", self.service.app.metrics.encode().as_bytes());
        leaks::search_files(&self.service.app.config.data_dir);
        if let Some(Ok(Tail::Events(events))) = self.journal.tail(Seq::ZERO, usize::MAX).now_or_never() {
            for Event { draft, .. } in events {
                for part in [Some(draft.data), draft.memo, draft.origin].into_iter().flatten() {
                    leaks::search("an event", &part);
                }
            }
        }
    }
}

/// A request in the making.
pub(crate) struct Asking {
    router: Router,
    request: http::request::Builder,
    body: Body,
    named: bool,
}

impl Asking {
    /// A request to a router.
    pub(crate) fn of(router: Router, method: &str, path: &str) -> Self {
        let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        Self { router, request, body: Body::empty(), named: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.named |= name == header::HOST;
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.request = self.request.header(name, value);
        self
    }

    /// As if it came through a connection from this address.
    pub(crate) fn from(mut self, address: &str) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), 9);
        self.request = self.request.extension(Peer { address, is_https: false });
        self
    }

    pub(crate) fn json(self, body: &serde_json::Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn form(self, body: &str) -> Self {
        self.body("application/x-www-form-urlencoded", body.to_owned())
    }

    pub(crate) fn body(self, content_type: &str, body: impl Into<Body>) -> Self {
        let mut asking = self.header("content-type", content_type);
        asking.body = body.into();
        asking
    }

    /// Asks without a `Host`.
    pub(crate) fn nameless(mut self) -> Self {
        self.named = true;
        self
    }

    /// The answer's head, and its body to be read.
    pub(crate) async fn open(self) -> Response<Body> {
        let asking = if self.named { self } else { self.header("host", "localhost") };
        asking.router.oneshot(asking.request.body(asking.body).unwrap()).await.unwrap()
    }

    /// The whole answer.
    pub(crate) async fn send(self) -> Answer {
        let (method, uri) = (self.request.method_ref().cloned(), self.request.uri_ref().map(ToString::to_string));
        let answer = Answer::read(self.open().await).await;
        described::check(&method.unwrap(), &uri.unwrap(), &answer);
        answer
    }

    /// The answer as a stream.
    pub(crate) async fn events(self) -> Events {
        Events::new(self.open().await)
    }
}
