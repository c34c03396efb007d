//! One task: submitting, reading, reporting, cancelling, forgetting.
//!
//! Handlers extract, call the tracker, and map its answer. What a task looks like is what its last event holds; only
//! what never changes and the cursor are added here.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Json, NewTaskId, TaskId, single},
    negotiate::{has, wants_stream},
    problem::{Problem, kinds},
    progress,
    report::ReportBody,
    wait,
};
use crate::{
    jobs::with_steps,
    task::{Entry, Intent, NewTask, Report, Status, Task},
    tracker::Answer,
    wire::with_members,
};

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LEASE_TOKEN: HeaderName = HeaderName::from_static("lease-token");

/// The routes of tasks.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(read, put, report, delete)).routes(routes!(cancel))
}

/// A task as this API answers it: its last event's state, and what never changes.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskDocument)]
pub(super) struct TaskDocument {
    #[serde(flatten)]
    task: Task,
    /// What the job or worker is to work on, as it was submitted.
    input: Option<serde_json::Value>,
    /// What the submitter wanted to find again.
    metadata: Option<serde_json::Value>,
    /// Where this state stands in the journal: the stream's `id` and the `ETag`.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
}

/// The answer to a report: the task, and what the worker is to do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReportAnswer {
    #[serde(flatten)]
    task: TaskDocument,
    /// `cancel` when the worker is asked to stop.
    directive: Directive,
    /// Reports that come more often than this are not all shown.
    #[schema(example = 50)]
    min_interval_ms: u64,
}

/// What a worker is to do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `report` puts together from stored bytes")]
enum Directive {
    Continue,
    Cancel,
}

/// Submits a task.
///
/// It is there, and can be watched, before this answers. With an `Idempotency-Key` the same request gives the same
/// task, however often it is sent. With `Accept: text/event-stream` the answer is the task's stream.
#[utoipa::path(post, path = "/api/tasks", operation_id = "createTask", tag = "tasks", request_body(content = NewTask, example = json!({ "kind": "import", "title": "Customers", "total": 1200, "unit": "rows" })),
    params(("Idempotency-Key" = Option<String>, Header, description = "1–256 visible ASCII characters")),
    responses(
        (status = 202, description = "Accepted", body = TaskDocument, headers(
            ("location" = String, description = "The task's URL"), ("etag" = String))),
        // Not as 200: tools that try a route accept what comes first here, and would wait for the end of the stream.
        (status = "2XX", description = "200 and the task's stream, where that was asked for", body = String,
            content_type = "text/event-stream")))]
async fn create(State(app): State<App>, headers: HeaderMap, Json(new): Json<NewTask>) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let answer = app.tracker.create(Uuid::now_v7(), with_steps(new), key).await?;
    submitted(&app, &headers, answer, |_| StatusCode::ACCEPTED).await
}

/// Submits a task with an id of the client's choice.
///
/// So it can be watched before it is sent. The same request again answers 200 and the task as it is; another request
/// with this id is refused.
#[utoipa::path(put, path = "/api/tasks/{taskId}", operation_id = "putTask", tag = "tasks", request_body(content = NewTask, example = json!({ "kind": "import", "title": "Customers", "total": 1200, "unit": "rows" })),
    params(("taskId" = Uuid, Path, description = "A UUID that the client made")),
    responses(
        (status = 202, description = "Accepted", body = TaskDocument, headers(
            ("location" = String, description = "The task's URL"), ("etag" = String))),
        (status = 200, description = "It was there already; or the task's stream, where that was asked for", content(
            (TaskDocument = "application/json"), (String = "text/event-stream")))))]
async fn put(
    State(app): State<App>,
    NewTaskId(id): NewTaskId,
    headers: HeaderMap,
    Json(new): Json<NewTask>,
) -> Result<Response, Problem> {
    let answer = app.tracker.create(id, with_steps(new), None).await?;
    submitted(&app, &headers, answer, |made| if made { StatusCode::ACCEPTED } else { StatusCode::OK }).await
}

/// Reads a task.
///
/// With `If-None-Match` and `Prefer: wait=30` it waits up to that long (60 s at most) for the next visible change, and
/// answers 304 where there was none.
#[utoipa::path(get, path = "/api/tasks/{taskId}", operation_id = "readTask", tag = "tasks",
    params(("taskId" = Uuid, Path, description = "The task's id"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the state that the client has"),
        ("Prefer" = Option<String>, Header, description = "`wait=` and seconds", example = "wait=30")),
    responses(
        (status = 200, description = "The task", body = TaskDocument, headers(
            ("etag" = String, description = "The cursor of this state"))),
        (status = 304, description = "Nothing has changed")))]
async fn read(State(app): State<App>, TaskId(id): TaskId, headers: HeaderMap) -> Result<Response, Problem> {
    let entry = app.tracker.find(id).await?.entry()?;
    if !has(&headers, &etag(&app, &entry)) {
        return Ok(task_response(&app, StatusCode::OK, &entry, &[]));
    }
    let (entry, waited) = wait::next_change(&app, entry, &headers).await?;
    let mut response = if has(&headers, &etag(&app, &entry)) {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(&app, &entry))]).into_response()
    } else {
        task_response(&app, StatusCode::OK, &entry, &[])
    };
    wait::note(&mut response, waited);
    Ok(response)
}

/// Reports on a task.
///
/// JSON or form fields, so that `curl -X PATCH -d progress=40 -d message=half` works. On a pending task it starts it.
/// `status` `completed`, `error` or `cancelled` ends it. The answer says what the worker is to do next.
#[utoipa::path(patch, path = "/api/tasks/{taskId}", operation_id = "reportOnTask", tag = "tasks",
    request_body(content(
        (Report = "application/json", example = json!({ "progress": 40, "message": "half" })),
        (Report = "application/x-www-form-urlencoded", example = json!({ "progress": 40, "message": "half" })))),
    params(("taskId" = Uuid, Path, description = "The task's id"),
        ("Lease-Token" = Option<Uuid>, Header, description = "Proves the right to report on a leased task")),
    responses((status = 200, description = "The task after the report", body = ReportAnswer)))]
async fn report(
    State(app): State<App>,
    TaskId(id): TaskId,
    headers: HeaderMap,
    ReportBody(report): ReportBody,
) -> Result<Response, Problem> {
    let token = lease_token(&headers)?;
    let entry = entry_of(app.tracker.submit(id, Intent::Report { report, token }).await?)?;
    let directive: &[u8] = if entry.task.status == Status::Cancelling { b"\"cancel\"" } else { b"\"continue\"" };
    let interval_ms = app.config.streams.tick_interval.as_millis().to_string();
    let extra = [("directive", directive), ("minIntervalMs", interval_ms.as_bytes())];
    Ok(task_response(&app, StatusCode::OK, &entry, &extra))
}

/// Asks that a task stop.
///
/// A pending task is cancelled at once; one that is being worked on is `cancelling` until its worker has stopped. Asking
/// again changes nothing.
#[utoipa::path(post, path = "/api/tasks/{taskId}/cancel", operation_id = "cancelTask", tag = "tasks",
    params(("taskId" = Uuid, Path, description = "The task's id")),
    responses((status = 200, description = "The task", body = TaskDocument)))]
async fn cancel(State(app): State<App>, TaskId(id): TaskId) -> Result<Response, Problem> {
    let entry = entry_of(app.tracker.submit(id, Intent::Cancel).await?)?;
    Ok(task_response(&app, StatusCode::OK, &entry, &[]))
}

/// Forgets a task that has ended, and its file.
#[utoipa::path(delete, path = "/api/tasks/{taskId}", operation_id = "deleteTask", tag = "tasks",
    params(("taskId" = Uuid, Path, description = "The task's id")),
    responses((status = 204, description = "It is forgotten")))]
async fn delete(State(app): State<App>, TaskId(id): TaskId) -> Result<StatusCode, Problem> {
    app.tracker.submit(id, Intent::Delete).await?;
    app.jobs.forget_file(id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The answer to whoever submitted a task: the task, or its stream.
async fn submitted(
    app: &App,
    headers: &HeaderMap,
    answer: Answer,
    status: impl FnOnce(bool) -> StatusCode,
) -> Result<Response, Problem> {
    let made = answer.changed;
    let entry = entry_of(answer)?;
    let mut response = if wants_stream(headers) {
        progress::stream(app, &entry, None).await
    } else {
        task_response(app, status(made), &entry, &[])
    };
    response.headers_mut().insert(header::LOCATION, location(&entry));
    Ok(response)
}

/// The task that a request was about.
pub(super) fn entry_of(answer: Answer) -> Result<std::sync::Arc<Entry>, Problem> {
    answer.entry.ok_or_else(|| Problem::new(&kinds::TASK_GONE))
}

/// Where the task is.
pub(super) fn location(entry: &Entry) -> HeaderValue {
    // A UUID's text is a valid header value.
    HeaderValue::from_str(&format!("/api/tasks/{}", entry.task.task_id)).unwrap_or(HeaderValue::from_static("/"))
}

/// An answer whose body is a task.
pub(super) fn task_response(app: &App, status: StatusCode, entry: &Entry, extra: &[(&str, &[u8])]) -> Response {
    let mut response = json_response(status, document(app, entry, extra));
    // A cursor is letters, digits and a hyphen.
    if let Ok(etag) = HeaderValue::from_str(&etag(app, entry)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    // It may be kept, but is to be asked for each time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

pub(super) fn json_response(status: StatusCode, json: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(json)).into_response()
}

/// The stored state with what never changes, its cursor, and more members.
pub(super) fn document(app: &App, entry: &Entry, extra: &[(&str, &[u8])]) -> Bytes {
    let cursor = format!("\"{}\"", app.tracker.cursor(entry.visible));
    let kept = [("input", &entry.origin.input), ("metadata", &entry.origin.metadata)];
    let kept = kept.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.as_str().as_bytes())));
    let members: Vec<_> = kept.chain([("cursor", cursor.as_bytes())]).chain(extra.iter().copied()).collect();
    with_members(&entry.data, &members)
}

fn etag(app: &App, entry: &Entry) -> String {
    format!("\"{}\"", app.tracker.cursor(entry.visible))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = single(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let is_good =
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let bad =
        || Problem::new(&kinds::MALFORMED).with_error(IDEMPOTENCY_KEY.as_str(), "is 1 to 256 visible ASCII characters");
    is_good.then_some(Some(key)).ok_or_else(bad)
}

fn lease_token(headers: &HeaderMap) -> Result<Option<Uuid>, Problem> {
    let bad =
        |_| Problem::new(&kinds::MALFORMED).with_error(LEASE_TOKEN.as_str(), "is the UUID that came with the lease");
    single(headers, &LEASE_TOKEN)?.map(|token| token.parse().map_err(bad)).transpose()
}
