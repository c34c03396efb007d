//! Each request's id, span, log line and count. The outermost layer, so that it sees refusals and panics too.
//!
//! It names the route's pattern, never the path, query or headers of a client: they may hold tokens and names of users.

use std::{any::Any, panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method};
use tracing::Instrument;
use utoipa::openapi::path::Operation;
use uuid::Uuid;

use super::{
    App,
    problem::{Cause, Code, Problem, kinds},
    refusals,
};
use crate::telemetry::RequestLabels;

/// The header of a request's id, in both directions.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// The route of requests that no route matched.
const NO_ROUTE: &str = "none";

/// Gives the request an id and a span, and logs and counts its answer.
pub(super) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (id, id_value) = request_id(&request);
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let method = method_name(request.method());
    let span = tracing::info_span!("request", request.id = %id, http.method = method, http.route = %route);
    let mut response = caught(next.run(request)).instrument(span.clone()).await;
    let status = response.status();
    span.in_scope(|| tell(&response, started));
    app.metrics.count_request(&RequestLabels { route, method, status: status.as_u16() });
    response.headers_mut().insert(X_REQUEST_ID, id_value);
    response
}

/// Adds to the description of every route what this layer answers.
pub(super) fn describe(operation: &mut Operation) {
    refusals::add(&mut operation.responses.responses, &[&kinds::INTERNAL]);
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
    match response.extensions().get::<Cause>() {
        Some(Cause(cause)) => tracing::error!(http.status = status, latency_ms, code, cause, "the request failed"),
        None if response.status().is_server_error() => {
            tracing::warn!(http.status = status, latency_ms, code, "the request was turned away");
        }
        None => tracing::debug!(http.status = status, latency_ms, code, "the request was answered"),
    }
}

/// The id from the client if it is safe to log, otherwise a new one.
fn request_id(request: &Request) -> (String, HeaderValue) {
    let given = request.headers().get(X_REQUEST_ID).filter(|value| is_sane(value.as_bytes()));
    let given = given.and_then(|value| Some((value.to_str().ok()?.to_owned(), value.clone())));
    given.unwrap_or_else(|| {
        let id = Uuid::now_v7().simple().to_string();
        // Hexadecimal digits are a valid header value.
        let value = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static(""));
        (id, value)
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
