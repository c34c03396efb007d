//! The layer around all routes: each request's id, span, log line and count, and the headers of every answer. It sees
//! refusals and panics too.
//!
//! It names the route's pattern, never the path, query or headers of a client: they may hold tokens and names of users.
//! It is one layer of its own kind, since each of axum's costs every request several allocations.

use std::{
    any::Any,
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
};
use futures_util::{
    FutureExt,
    future::{Either, ready},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower::{Layer, Service};
use tracing::Instrument;
use utoipa::openapi::path::Operation;
use uuid::Uuid;

use super::{
    App, admission,
    client::Client,
    guard,
    problem::{Cause, Code, LimitReached, Problem, kinds},
    refusals,
};
use crate::telemetry::RequestLabels;

/// The header of a request's id, in both directions.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// How often the log tells that the store turns requests away.
const AWAY_TOLD_EVERY: Duration = Duration::from_secs(10);
/// The route of requests that no route matched.
const NO_ROUTE: &str = "none";
/// What answers have, also refusals, unless their route has set another value, as the page does.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    // No page of another origin may show or run what is here.
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Puts [`Observed`] around a route.
#[derive(Clone)]
pub(super) struct Observe {
    pub(super) app: App,
    /// The methods of each route.
    pub(super) methods: Arc<HashMap<String, HeaderValue>>,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, route: S) -> Observed<S> {
        Observed { app: self.app.clone(), methods: Arc::clone(&self.methods), route }
    }
}

/// A route, behind the guard, observed.
#[derive(Clone)]
pub(super) struct Observed<S> {
    app: App,
    methods: Arc<HashMap<String, HeaderValue>>,
    route: S,
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let (app, methods) = (self.app.clone(), Arc::clone(&self.methods));
        let id = request_id(request.headers());
        let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
        let method = method_name(request.method());
        let shown_id = id.to_str().unwrap_or_default();
        let (client, proxies) = Client::of(request.headers(), request.extensions(), &app.config.http.trusted_proxies);
        let span = tracing::info_span!(
            "request",
            request.id = shown_id,
            client.address = %client.address,
            http.method = method,
            http.route = route
        );
        let checked = guard::check(&request, &client, &app.config.http);
        request.extensions_mut().insert(client);
        let head = guard::check_head(&request, app.config.connections.max_header_bytes);
        let refusal = proxies.err().or(checked.refusal).or(head.err());
        let answer = match refusal {
            // A refused request reaches no handler and no body.
            Some(problem) => Either::Left(ready(problem.into_response())),
            None => Either::Right(admission::admit(app.clone(), self.route.clone(), request)),
        };
        let answered = async move {
            let mut response = caught(answer).await;
            let headers = response.headers_mut();
            guard::allow(headers, checked.reader, methods.get(&route), &app.config.http);
            for (name, value) in DEFAULT_HEADERS {
                headers.entry(name).or_insert(value);
            }
            headers.insert(X_REQUEST_ID, id);
            tell(&response, started);
            if let Some(LimitReached(setting)) = response.extensions().get() {
                app.metrics.count_refusal(setting);
            }
            app.metrics.count_request(&RequestLabels { route, method, status: response.status().as_u16() });
            Ok(response)
        };
        Box::pin(answered.instrument(span))
    }
}

/// Adds to the description of every route what this layer answers.
pub(super) fn describe(operation: &mut Operation) {
    refusals::add(&mut operation.responses.responses, &[&kinds::INTERNAL, &kinds::NEWER_VERSION]);
}

/// A panic is one request's error, never the connection's.
async fn caught(answer: impl Future<Output = Response>) -> Response {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => Problem::internal(format!("panic: {}", panic_text(panic.as_ref()))).into_response(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}

/// The one place where the outcome of a request is logged.
fn tell(response: &Response, started: Instant) {
    let status = response.status().as_u16();
    let latency_ms = started.elapsed().as_secs_f64() * 1000.0;
    let code = response.extensions().get::<Code>().map_or("", |code| code.0);
    let is_of_user = status == 507 && response.extensions().get::<LimitReached>().is_some();
    match response.extensions().get::<Cause>() {
        // A stream is refused with 200 and an event.
        Some(Cause(cause)) if code == kinds::STORE_UNAVAILABLE.code => {
            if is_to_be_told() {
                tracing::warn!(http.status = status, latency_ms, code, cause, "requests are turned away");
            } else {
                tracing::debug!(http.status = status, latency_ms, code, cause, "the request was turned away");
            }
        }
        Some(Cause(cause)) => tracing::error!(http.status = status, latency_ms, code, cause, "the request failed"),
        // That a user has used up their room is nothing to see to.
        None if response.status().is_server_error() && !is_of_user => {
            tracing::warn!(http.status = status, latency_ms, code, "the request was turned away");
        }
        None => tracing::debug!(http.status = status, latency_ms, code, "the request was answered"),
    }
}

/// Whether it is time to tell anew that the store is away: it turns away thousands in a second.
fn is_to_be_told() -> bool {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = told.is_none_or(|told| told.elapsed() >= AWAY_TOLD_EVERY);
    if is_due {
        *told = Some(Instant::now());
    }
    is_due
}

/// The id from the client if it is safe to log, otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(X_REQUEST_ID).filter(|value| is_sane(value.as_bytes()));
    given.cloned().unwrap_or_else(|| {
        // Hexadecimal digits are a valid header value.
        let id = Uuid::now_v7().simple();
        HeaderValue::from_str(id.encode_lower(&mut Uuid::encode_buffer())).unwrap_or(HeaderValue::from_static(""))
    })
}

fn is_sane(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(allowed)
}

/// A bounded set of names: a client may invent methods.
fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_of_which_only_the_log_is_told() {
        let response = caught(async { panic!("secret {}", 1) }).await;
        assert_eq!(response.status().as_u16(), 500);
        assert!(response.extensions().get::<Cause>().is_some_and(|cause| cause.0 == "panic: secret 1"));
        let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[test]
    fn invented_methods_share_a_name() {
        assert_eq!(method_name(&Method::PATCH), "PATCH");
        assert_eq!(method_name(&Method::from_bytes(b"BREW").expect("a method")), "other");
    }
}
