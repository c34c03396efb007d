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
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
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
    problem::{Problem, kinds},
    progress::{check_accept, cursor, event_stream, head, open, refused},
    tasks::{entry_of, location, task_response},
    wait,
};
use crate::{
    event::Timestamp,
    stream::{Heartbeat, StreamBody, Style},
    task::{Entry, NewTask, Payload, Status},
    wire::{self, Dialect},
};

/// Steps of the simulated task.
const ATTEMPTS: u32 = 10;
/// What is counted down before the object is sent.
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

/// What a caller who waited for the end is told.
#[derive(Serialize, ToSchema)]
struct Completion {
    /// `Task completed`.
    #[schema(example = "Task completed")]
    message: &'static str,
    /// Who completed it, and when.
    #[schema(example = "User 'alice' completed the task at: 2026-01-31T08:15:00.042Z.")]
    data: String,
}

/// What a caller who ended a user's streams is told.
#[derive(Serialize, ToSchema)]
struct Disconnection {
    /// Who is disconnected.
    #[schema(example = "User 'alice' disconnected")]
    message: String,
}

/// Runs the simulated task of ten steps, one a second, and waits for its end.
///
/// Each step sends the user `User '{userId}', attempt X / 10`. `Prefer: respond-async` answers at once. A caller who
/// hangs up does not stop it.
#[utoipa::path(method(get, post), path = "/sse/task/{userId}", operation_id = "runAttempts", tag = "compatibility",
    params(("userId" = String, Path, description = "The user who is told of it"),
        ("Prefer" = Option<String>, Header, description = "`respond-async` for an answer at once")),
    responses(
        (status = 200, description = "It has completed", body = Completion, headers(
            ("location" = String, description = "The task's URL"))),
        (status = 202, description = "It has begun", body = super::tasks::TaskDocument)))]
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
/// `Prefer: respond-async` answers at once. A caller who hangs up does not stop it.
#[utoipa::path(method(get, post), path = "/sse/task-with-obj/{userId}", operation_id = "runObject", tag = "compatibility",
    params(("userId" = String, Path, description = "The user who is told of it"),
        ("Prefer" = Option<String>, Header, description = "`respond-async` for an answer at once")),
    responses(
        (status = 200, description = "It has completed", body = Completion, headers(
            ("location" = String, description = "The task's URL"))),
        (status = 202, description = "It has begun", body = super::tasks::TaskDocument)))]
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
        let ended = wait::end(app, entry).await;
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
            Err(Problem::new(&kinds::TASK_FAILED).with_detail(detail.unwrap_or_else(|| "It says no more.".into())))
        }
    }
}

/// Listens to what is sent to a user, who is connected as long as this stream is open.
///
/// First `User '{userId}' connected`, then `<3: Keep alive` at once and every five seconds, and every message to the user.
#[utoipa::path(get, path = "/sse/connect/{userId}", operation_id = "connectUser", tag = "compatibility",
    params(("userId" = String, Path, description = "The user"),
        ("Last-Event-ID" = Option<String>, Header, description = "A cursor from which to resume")),
    responses((status = 200, description = "The stream", body = String, content_type = "text/event-stream",
        example = json!("data: User 'alice' connected\n\ndata: <3: Keep alive\n\n"))))]
async fn connect(
    State(app): State<App>,
    _effect: HasEffect,
    user: User,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_accept(&headers)?;
    let (join, mut subscriber) = match open(&app, &user.0, cursor(&headers, &uri)).await {
        Ok(opened) => opened,
        Err(problem) => return Ok(refused(&problem)),
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

/// Ends a user's streams; the user is disconnected at once.
#[utoipa::path(get, path = "/sse/disconnect/{userId}", operation_id = "disconnectUser", tag = "compatibility",
    params(("userId" = String, Path, description = "The user")),
    responses((status = 200, description = "They are disconnected", body = Disconnection)))]
async fn disconnect(State(app): State<App>, _effect: HasEffect, user: User) -> axum::Json<Disconnection> {
    app.presence.disconnect(&user.0);
    axum::Json(Disconnection { message: format!("User '{}' disconnected", user.id()) })
}

/// Ten messages, one a second.
#[utoipa::path(get, path = "/sse", operation_id = "tenMessages", tag = "compatibility",
    responses((status = 200, description = "The stream", body = String, content_type = "text/event-stream",
        example = json!("data: Message 0 à 2026-01-31T08:15:00.042Z\n\n"))))]
async fn messages(State(app): State<App>, method: Method, headers: HeaderMap) -> Result<Response, Problem> {
    check_accept(&headers)?;
    if method == Method::HEAD {
        return Ok(head());
    }
    let messages = stream::unfold((app, interval(STEP), 0), next_message);
    Ok(event_stream(Body::from_stream(messages)))
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
