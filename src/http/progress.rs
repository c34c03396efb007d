//! Watching a task, and what all streams have in common.
//!
//! A browser's `EventSource` gives up for good on any status but 200. So a stream that cannot be served now is answered
//! with 200 and a stream that says why and when to try again, and ends. Only refusals that waiting does not change keep
//! their status.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use utoipa::{
    IntoParams, PartialSchema,
    openapi::{
        Required,
        path::{Parameter, ParameterIn},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::TaskId,
    negotiate::{EVENT_STREAM, accepts_stream, wants_page},
    problem::{Finds, Problem, close, kinds},
    refusals::{Refusals, refuses},
    urlencoded::Fields,
};
use crate::{
    channel::Join,
    event::Resume,
    stream::{Heartbeat, StreamBody, Style, jittered_retry},
    task::Entry,
    wire::{self, Dialect},
};

/// How long a client waits before it connects again, by default.
pub(super) const RETRY: Duration = Duration::from_secs(2);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const STREAM_EXAMPLE: &str =
    "retry: 2000\n\nevent: progress\ndata: {\"taskId\":\"…\",\"progress\":42.5}\nid: k3f90000-1841\n\n";

/// The route of a task's stream.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// Watches a task.
///
/// Server-Sent Events: first the current state, then each change, until the final one. Every event is named `progress`,
/// carries the whole state, and its id is the cursor from which a later stream resumes. `reset` says that a cursor
/// could not be used and that the current state follows; `refused` says why there is no stream now and when to try
/// again. Once a client has seen the end, 204 tells a browser to stop. A client that asks for `text/html`,
/// such as a browser in which the address is opened, is sent to the page of the task.
#[utoipa::path(
    get, path = "/api/tasks/{taskId}/progress", operation_id = "watchTask", tag = "streams",
    params(TaskId, LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!(STREAM_EXAMPLE)),
        (status = 204, description = "The client has seen the end"),
        (status = 303, description = "The page of the task, for a client that asks for `text/html`"),
        Refusals<(TaskId, AcceptsStream, Finds)>))]
async fn watch(
    State(app): State<App>,
    TaskId(id): TaskId,
    accepts: Result<AcceptsStream, Problem>,
    LastEventId(resume): LastEventId,
    headers: HeaderMap,
    method: Method,
) -> Result<Response, Problem> {
    if wants_page(&headers) {
        return Ok(Redirect::to(&format!("/tasks/{id}")).into_response());
    }
    accepts?;
    let found = match app.tracker.find(id).await {
        Ok(found) => found,
        Err(error) => return Ok(refused(&error.into())),
    };
    let entry = found.entry()?;
    if method == Method::HEAD {
        let joined = app.tracker.watch(&entry.channel(), resume).await;
        return Ok(head_of(joined.is_ok_and(|(join, _)| matches!(join, Join::Ended))));
    }
    Ok(stream(&app, &entry, resume).await)
}

/// A stream of this task.
pub(super) async fn stream(app: &App, entry: &Entry, resume: Resume) -> Response {
    let style = Style {
        dialect: Dialect::Progress,
        opening: vec![wire::retry(RETRY)],
        shows_state: true,
        heartbeat: Heartbeat::comment(app.config.streams.keep_alive),
    };
    match app.tracker.watch(&entry.channel(), resume).await {
        Ok((Join::Ended, _)) => StatusCode::NO_CONTENT.into_response(),
        Ok((join, subscriber)) => event_stream(StreamBody::new(&join, subscriber, style, app.metrics.clone())),
        Err(error) => refused(&error.into()),
    }
}

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
