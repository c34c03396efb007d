//! Routes of earlier systems, byte for byte as their clients know them. This file can be deleted whole.
//!
//! Their streams are of the plain dialect. Their tasks are ordinary ones of kind `simulate`.

use std::time::Duration;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Interval, interval};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::User,
    guard::HasEffect,
    negotiate::{PREFERENCE_APPLIED, prefers_async},
    problem::{Problem, Writes, kinds},
    progress::{AcceptsStream, LastEventId, event_stream, head, refused},
    refusals::{Refusals, refusals},
    tasks::{TaskDocument, entry_of, location, task_response},
};
use crate::{
    event::Timestamp,
    stream::{Heartbeat, StreamBody, Style},
    task::{Entry, NewTask, Payload, Status},
    wire::{self, Dialect},
};

/// Steps of the simulated task.
const ATTEMPTS: u32 = 10;
/// The countdown before the object is sent.
const COUNT_DOWN: u32 = 5;
/// Time between two steps, and between two messages of `/sse`.
const STEP: Duration = Duration::from_secs(1);
/// What keeps a user's stream alive …
const KEEP_ALIVE: &str = "<3: Keep alive";
/// … and how often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Messages of `/sse`.
const MESSAGES: u32 = 10;
/// The object, as its clients read it.
const OBJECT: &str = r#"{"Name":"Victor","Age":30,"Country":"Spain","IsActive":true}"#;

/// The routes.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(messages))
        .routes(routes!(connect))
        .routes(routes!(disconnect))
        .routes(routes!(run_attempts))
        .routes(routes!(run_object))
}

/// The answer to a caller who waited for the end.
#[derive(Serialize, ToSchema)]
struct Completion {
    /// `Task completed`.
    #[schema(example = "Task completed")]
    message: &'static str,
    /// Whose task was completed, and when.
    #[schema(example = "User 'alice' completed the task at: 2026-01-31T08:15:00.042Z.")]
    data: String,
}

/// The answer to a caller who ended the streams of a user.
#[derive(Serialize, ToSchema)]
struct Disconnection {
    /// Who was disconnected.
    #[schema(example = "User 'alice' disconnected")]
    message: String,
}

refusals!(
    /// A caller who waits for the end may be told of a bad one.
    Waits: kinds::TASK_GONE, kinds::TASK_CANCELLED, kinds::TASK_FAILED, kinds::TOO_MANY_STREAMS
);

/// Runs the simulated task of ten steps, one a second, and waits for its end.
///
/// Each step sends the user `User '{userId}', attempt X / 10`. With `Prefer: respond-async` this answers at once. The
/// task goes on if the caller hangs up.
#[utoipa::path(
    method(get, post), path = "/sse/task/{userId}", operation_id = "runAttempts", tag = "compatibility",
    params(User, ("Prefer" = Option<String>, Header, description = "`respond-async` for an answer at once")),
    responses(
        (status = 200, description = "The task has completed", body = Completion, headers(
            ("location" = String, description = "The URL of the task"))),
        (status = 202, description = "The task was accepted", body = TaskDocument),
        Refusals<(HasEffect, User, Writes, Waits)>))]
async fn run_attempts(
    State(app): State<App>,
    _effect: HasEffect,
    user: User,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let messages =
        (1..=ATTEMPTS).map(|attempt| format!("User '{}', attempt {attempt} / {ATTEMPTS}", user.id())).collect();
    run(&app, &user, ATTEMPTS, messages, &headers).await
}

/// Counts down from five, one a second, then sends the user an object, and waits for the end.
///
/// With `Prefer: respond-async` this answers at once. The task goes on if the caller hangs up.
#[utoipa::path(
    method(get, post), path = "/sse/task-with-obj/{userId}", operation_id = "runObject", tag = "compatibility",
    params(User, ("Prefer" = Option<String>, Header, description = "`respond-async` for an answer at once")),
    responses(
        (status = 200, description = "The task has completed", body = Completion, headers(
            ("location" = String, description = "The URL of the task"))),
        (status = 202, description = "The task was accepted", body = TaskDocument),
        Refusals<(HasEffect, User, Writes, Waits)>))]
async fn run_object(
    State(app): State<App>,
    _effect: HasEffect,
    user: User,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let count_down = (1..=COUNT_DOWN).rev().map(|left| format!("Object sent to user '{}' in {left}...", user.id()));
    let messages = count_down.chain([OBJECT.to_owned()]).collect();
    run(&app, &user, COUNT_DOWN, messages, &headers).await
}

/// Runs a simulated task that sends the user these messages.
async fn run(
    app: &App,
    user: &User,
    steps: u32,
    messages: Vec<String>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let input = json!({ "steps": steps, "intervalMs": STEP.as_millis() as u64, "messages": messages });
    let new = NewTask {
        kind: Some("simulate".into()),
        user_id: Some(user.id().into_owned()),
        input: Payload::of(&input),
        ..NewTask::default()
    };
    let entry = entry_of(app.tracker.create(Uuid::now_v7(), new, None).await?)?;
    let location = location(&entry);
    let mut response = if prefers_async(headers) {
        let mut response = task_response(app, StatusCode::ACCEPTED, &entry, &[]);
        response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        response
    } else {
        let ended = app.tracker.ended_state(entry).await.map_err(Problem::from);
        ended.and_then(|ended| completion(user, &ended)).into_response()
    };
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn completion(user: &User, ended: &Entry) -> Result<axum::Json<Completion>, Problem> {
    match ended.task.status {
        Status::Completed => {
            let at = ended.task.finished_at.unwrap_or(ended.task.updated_at);
            let data = format!("User '{}' completed the task at: {at}.", user.id());
            Ok(axum::Json(Completion { message: "Task completed", data }))
        }
        Status::Cancelled => Err(Problem::new(&kinds::TASK_CANCELLED)),
        _ => {
            let detail = ended.task.error.as_ref().and_then(|error| error.detail.clone());
            Err(Problem::new(&kinds::TASK_FAILED)
                .with_detail(detail.unwrap_or_else(|| "The task gave no reason.".into())))
        }
    }
}

/// Listens to the messages to a user, who is connected as long as this stream is open.
///
/// First `User '{userId}' connected`, then `<3: Keep alive` at once and every five seconds, and every message to the
/// user.
#[utoipa::path(
    get, path = "/sse/connect/{userId}", operation_id = "connectUser", tag = "compatibility",
    params(User, LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("data: User 'alice' connected\n\ndata: <3: Keep alive\n\n")),
        Refusals<(HasEffect, User, AcceptsStream)>))]
async fn connect(
    State(app): State<App>,
    _effect: HasEffect,
    user: User,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
) -> Result<Response, Problem> {
    let (join, mut subscriber) = match app.tracker.watch(&user.0, resume).await {
        Ok(opened) => opened,
        Err(error) => return Ok(refused(&error.into())),
    };
    subscriber.hold(app.presence.connect(&user.0));
    let keep_alive = wire::text(KEEP_ALIVE.as_bytes());
    let style = Style {
        dialect: Dialect::Plain,
        opening: vec![wire::text(format!("User '{}' connected", user.id()).as_bytes()), keep_alive.clone()],
        shows_state: false,
        heartbeat: Heartbeat { every: KEEP_ALIVE_INTERVAL, bytes: keep_alive, when_quiet: false },
    };
    Ok(event_stream(StreamBody::new(&join, subscriber, style, app.metrics.clone())))
}

/// Ends the streams of a user, who is disconnected at once.
#[utoipa::path(
    get, path = "/sse/disconnect/{userId}", operation_id = "disconnectUser", tag = "compatibility", params(User),
    responses(
        (status = 200, description = "The user is disconnected", body = Disconnection),
        Refusals<(HasEffect, User)>))]
async fn disconnect(State(app): State<App>, _effect: HasEffect, user: User) -> axum::Json<Disconnection> {
    app.presence.disconnect(&user.0);
    axum::Json(Disconnection { message: format!("User '{}' disconnected", user.id()) })
}

/// Sends ten messages, one a second.
#[utoipa::path(
    get, path = "/sse", operation_id = "tenMessages", tag = "compatibility",
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("data: Message 0 à 2026-01-31T08:15:00.042Z\n\n")),
        Refusals<AcceptsStream>))]
async fn messages(State(app): State<App>, _accepts: AcceptsStream, method: Method) -> Response {
    if method == Method::HEAD {
        return head();
    }
    let messages = stream::unfold((app, interval(STEP), 0), next_message);
    event_stream(Body::from_stream(messages))
}

async fn next_message(
    (app, mut interval, index): (App, Interval, u32),
) -> Option<(Result<Bytes, std::io::Error>, (App, Interval, u32))> {
    if index == MESSAGES {
        return None;
    }
    app.draining.run_until_cancelled(interval.tick()).await?;
    let now: Timestamp = app.tracker.clock().now();
    Some((Ok(wire::text(format!("Message {index} à {now}").as_bytes())), (app, interval, index + 1)))
}
