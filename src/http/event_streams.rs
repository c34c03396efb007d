//! What all streams of events have in common: what is asked of one, its response, and its refusal.
//!
//! A browser's `EventSource` gives up for good on any status but 200. So a stream that cannot be served now is answered
//! with 200 and a stream that says why and when to try again, and ends. Only refusals that waiting does not change keep
//! their status.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use utoipa::{
    IntoParams, PartialSchema,
    openapi::{
        Required,
        path::{Parameter, ParameterIn},
    },
};

use super::{
    App,
    negotiate::{EVENT_STREAM, accepts_stream},
    problem::{Problem, close, kinds},
    refusals::refuses,
    urlencoded::Fields,
};
use crate::{event::Resume, stream::jittered_retry, wire};

/// How long a client waits before it connects again, by default.
pub(super) const RETRY: Duration = Duration::from_secs(2);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// From where a client wants to go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastEventId(pub(super) Resume);

impl FromRequestParts<App> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        Ok(Self(resume(&parts.headers, parts.uri.query().unwrap_or_default())))
    }
}

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [
            ("Last-Event-ID", ParameterIn::Header, "The cursor from which to resume"),
            ("lastEventId", ParameterIn::Query, "The same, for clients that cannot set headers"),
        ]
        .map(|(name, place, description)| {
            let parameter = Parameter::builder().name(name).parameter_in(place).required(Required::False);
            parameter.description(Some(description)).schema(Some(String::schema())).build()
        })
        .into()
    }
}

/// Reads it from the header, or from the query when there is no header.
pub(super) fn resume(headers: &HeaderMap, query: &str) -> Resume {
    let mut lines = headers.get_all(LAST_EVENT_ID).iter();
    let text = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().map(str::to_owned).ok(),
        (Some(_), Some(_)) => None,
        (None, _) => match Fields::of_query(query) {
            Ok(fields) => Some(fields.get("lastEventId").unwrap_or_default().to_owned()),
            Err(_) => None,
        },
    };
    match text {
        Some(text) if text.is_empty() => Resume::First,
        text => text.and_then(|text| text.parse().ok()).map_or(Resume::Unreadable, Resume::After),
    }
}

/// The client takes a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcceptsStream;

impl FromRequestParts<App> for AcceptsStream {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let refusal = || Problem::new(&kinds::NOT_ACCEPTABLE).with_detail("This route answers text/event-stream.");
        accepts_stream(&parts.headers).then_some(Self).ok_or_else(refusal)
    }
}

refuses!(AcceptsStream: kinds::NOT_ACCEPTABLE);

/// A response of events.
pub(super) fn event_stream<B>(body: B) -> Response
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform")),
        // nginx would hold events back to fill its buffer.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::new(body)).into_response()
}

/// What HEAD is answered where GET would get a stream, or is told to stop because the client has seen the end.
pub(super) fn head_of(has_ended: bool) -> Response {
    if has_ended { StatusCode::NO_CONTENT.into_response() } else { head() }
}

/// The head of a stream, for HEAD. Nobody watches.
pub(super) fn head() -> Response {
    // A body of unknown length, as a stream's is: an empty one would claim a length of 0.
    event_stream(Body::from_stream(futures_util::stream::empty::<Result<Bytes, std::io::Error>>()))
}

/// Refuses a stream. A passing problem is told on a stream, so that a browser tries again; any other keeps its status.
pub(super) fn refused(problem: &Problem) -> Response {
    if !problem.may_pass() {
        return problem.clone().into_response();
    }
    let retry = problem.wait().unwrap_or_default() + jittered_retry();
    let frame = wire::refused(problem.kind().code, problem.sentence(), retry);
    let mut response = event_stream(Body::from(frame));
    problem.annotate(&mut response);
    close(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], uri: &str) -> Resume {
        let headers = lines.iter().fold(HeaderMap::new(), |mut headers, line| {
            headers.append(LAST_EVENT_ID, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
            headers
        });
        resume(&headers, uri.strip_prefix("/?").unwrap_or_default())
    }

    #[test]
    fn the_header_wins_and_an_empty_cursor_is_none() {
        let known = |text: &str| Resume::After(text.parse().expect("a cursor"));
        assert_eq!(read(&[], "/"), Resume::First);
        assert_eq!(read(&[""], "/?lastEventId=k3f90000-7"), Resume::First);
        assert_eq!(read(&[], "/?lastEventId="), Resume::First);
        assert_eq!(read(&[], "/?token=x&lastEventId=k3f90000-7"), known("k3f90000-7"));
        assert_eq!(read(&["k3f90000-8"], "/?lastEventId=k3f90000-7"), known("k3f90000-8"));
    }

    #[test]
    fn what_cannot_be_read_is_a_cursor_of_no_use() {
        for (lines, uri) in [
            (&["x"][..], "/"),
            (&["k3f90000-7", "k3f90000-7"], "/"),
            (&["é"], "/"),
            (&[], "/?lastEventId=7"),
            (&[], "/?lastEventId=%ff"),
            (&[], "/?lastEventId=k3f90000-7&lastEventId=k3f90000-7"),
        ] {
            assert_eq!(read(lines, uri), Resume::Unreadable, "{lines:?} {uri}");
        }
    }
}
