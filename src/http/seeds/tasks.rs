//! Simulated tasks, whose callers wait for the end.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        App,
        extract::User,
        guard::HasEffect,
        negotiate::{PREFERENCE_APPLIED, prefers_async},
        problem::{Problem, Writes, kinds},
        refusals::{Refusals, refusals},
        tasks::{TaskDocument, entry_of, location, task_response},
    },
    STEP,
};
use crate::task::{Entry, NewTask, Payload, Status};

/// Steps of the simulated task.
const ATTEMPTS: u32 = 10;
/// The countdown before the object is sent.
const COUNT_DOWN: u32 = 5;
/// The object, as its clients read it.
const OBJECT: &str = r#"{"Name":"Victor","Age":30,"Country":"Spain","IsActive":true}"#;

/// The answer to a caller who waited for the end.
#[derive(Serialize, ToSchema)]
pub(super) struct Completion {
    /// `Task completed`.
    #[schema(example = "Task completed")]
    message: &'static str,
    /// Whose task was completed, and when.
    #[schema(example = "User 'alice' completed the task at: 2026-01-31T08:15:00.042Z.")]
    data: String,
}

refusals!(
    /// A caller who waits for the end may be told of a bad one.
    Waits: kinds::TASK_GONE, kinds::TASK_CANCELLED, kinds::TASK_FAILED, kinds::TOO_MANY_STREAMS,
        kinds::TOO_MANY_TASKS
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
pub(super) async fn run_attempts(
    State(app): State<App>,
    effect: HasEffect,
    user: User,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if effect.is_head {
        return Ok(head(&headers));
    }
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
pub(super) async fn run_object(
    State(app): State<App>,
    effect: HasEffect,
    user: User,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if effect.is_head {
        return Ok(head(&headers));
    }
    let count_down = (1..=COUNT_DOWN).rev().map(|left| format!("Object sent to user '{}' in {left}...", user.id()));
    let messages = count_down.chain([OBJECT.to_owned()]).collect();
    run(&app, &user, COUNT_DOWN, messages, &headers).await
}

/// The head of the answer, whose length nobody knows yet.
fn head(headers: &HeaderMap) -> Response {
    let status = if prefers_async(headers) { StatusCode::ACCEPTED } else { StatusCode::OK };
    let body = Body::from_stream(futures_util::stream::empty::<Result<Bytes, std::io::Error>>());
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
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
