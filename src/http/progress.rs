//! Watching a task.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, Method, StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    event_streams::{AcceptsStream, LastEventId, RETRY, event_stream, head_of, refused},
    extract::TaskId,
    negotiate::wants_page,
    problem::{Finds, Problem},
    refusals::Refusals,
};
use crate::{
    channel::Join,
    event::Resume,
    stream::{Heartbeat, StreamBody, Style},
    task::Entry,
    wire::{self, Dialect},
};

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
