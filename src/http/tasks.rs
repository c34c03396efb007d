//! One task: submitting, reading, reporting, cancelling, forgetting.
//!
//! Handlers extract, call the tracker, and map its answer. A task is answered as its last event has it; only what never
//! changes and the cursor are added here.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App, event_streams,
    extract::{BodyType, IdempotencyKey, Json, LeaseToken, NewTaskId, TaskId, body_type, read_body, read_json, valid},
    negotiate::{PREFERENCE_APPLIED, etag_matches, known_cursors, preferred_wait, wants_stream},
    problem::{Finds, Problem, Reads, Writes, kinds},
    progress,
    refusals::{Refusals, refusals, refuses},
    urlencoded::read_form,
};
use crate::{
    access::Principal,
    event::Resume,
    task::{Entry, Intent, NewTask, Report, Status, Task},
    tracker::{Answer, TrackerError},
    wire::with_members,
};

/// Room for the headers of an answer: those of the route, and those that every answer has.
const ANSWER_HEADERS: usize = 10;

/// The routes of tasks.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(read, put, report, delete)).routes(routes!(cancel))
}

/// A task: its last state, and what never changes.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskDocument)]
pub(super) struct TaskDocument {
    #[serde(flatten)]
    task: Task,
    /// The input of the work, as submitted.
    input: Option<serde_json::Value>,
    /// What else belongs to the task, as submitted.
    metadata: Option<serde_json::Value>,
    /// The position of this state in the journal: the `id` on the stream, and the `ETag`.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
}

/// The answer to a report: the task, and what the worker should do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReportAnswer {
    #[serde(flatten)]
    task: TaskDocument,
    /// `cancel` if the worker should stop.
    directive: Directive,
    /// The shortest useful interval between reports, in milliseconds: watchers do not see more of them.
    #[schema(example = 50)]
    min_interval_ms: u64,
}

/// What a worker should do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Directive {
    Continue,
    Cancel,
}

impl Directive {
    fn json(&self) -> &'static [u8] {
        match self {
            Self::Continue => b"\"continue\"",
            Self::Cancel => b"\"cancel\"",
        }
    }
}

/// Submits a task.
///
/// The task exists, and can be watched, before this answers. The same request with the same `Idempotency-Key` gives the
/// same task, however often it is sent. With `Accept: text/event-stream` the answer is the stream of the task.
#[utoipa::path(
    post, path = "/api/tasks", operation_id = "createTask", tag = "tasks", params(IdempotencyKey),
    request_body(content = NewTask, example = json!({ "kind": "import", "total": 1200, "unit": "rows" })),
    responses(
        (status = 202, description = "The task was accepted", body = TaskDocument, headers(
            ("location" = String, description = "The URL of the task"), ("etag" = String))),
        // Not as 200: tools that try a route accept what comes first here, and would wait for the end of the stream.
        (status = "2XX", description = "200 and the stream of the task, if that was asked for",
            content_type = "text/event-stream"),
        Refusals<(IdempotencyKey, Json<NewTask>, Writes, Creates)>))]
async fn create(
    State(app): State<App>,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    headers: HeaderMap,
    Json(new): Json<NewTask>,
) -> Result<Response, Problem> {
    let (new, key) = (prepared(&app, &principal, new)?, principal.idempotency_key(key));
    let answer = app.tracker.create(Uuid::now_v7(), new, key.as_deref()).await;
    submitted(&app, &headers, answer, |_| StatusCode::ACCEPTED).await
}

/// Submits a task with an id that the client chose.
///
/// So a client can watch a task before it sends it. The same request again answers 200 and the task as it is; a
/// different request with the same id is refused.
#[utoipa::path(
    put, path = "/api/tasks/{taskId}", operation_id = "putTask", tag = "tasks", params(NewTaskId),
    request_body(content = NewTask, example = json!({ "kind": "import", "total": 1200, "unit": "rows" })),
    responses(
        (status = 202, description = "The task was accepted", body = TaskDocument, headers(
            ("location" = String, description = "The URL of the task"), ("etag" = String))),
        (status = 200, description = "The task existed already; or its stream, if that was asked for", content(
            (TaskDocument = "application/json"), ("text/event-stream"))),
        Refusals<(NewTaskId, Json<NewTask>, Writes, Creates)>))]
async fn put(
    State(app): State<App>,
    principal: Principal,
    NewTaskId(id): NewTaskId,
    headers: HeaderMap,
    Json(new): Json<NewTask>,
) -> Result<Response, Problem> {
    let answer = app.tracker.create(id, prepared(&app, &principal, new)?, None).await;
    submitted(&app, &headers, answer, |made| if made { StatusCode::ACCEPTED } else { StatusCode::OK }).await
}

/// Reads a task.
///
/// With `If-None-Match` and `Prefer: wait=30` it waits up to that long (60 seconds at most) for the next visible
/// change, and answers 304 if there was none.
#[utoipa::path(
    get, path = "/api/tasks/{taskId}", operation_id = "readTask", tag = "tasks",
    params(TaskId,
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the state that the client has"),
        ("Prefer" = Option<String>, Header, description = "`wait=` and seconds", example = "wait=30")),
    responses(
        (status = 200, description = "The task", body = TaskDocument, headers(
            ("etag" = String, description = "The cursor of this state"))),
        (status = 304, description = "The task has not changed"),
        Refusals<(TaskId, Reads, Finds, Waits)>))]
async fn read(State(app): State<App>, TaskId(id): TaskId, headers: HeaderMap) -> Result<Response, Problem> {
    let mut entry = app.tracker.find(id).await?.entry()?;
    if known_cursors(&headers).any(|known| app.tracker.is_after(known, &entry)) {
        entry = app.tracker.find_stored(id).await?.entry()?;
    }
    if !etag_matches(&headers, &etag(&app, &entry)) {
        return Ok(task_response(&app, StatusCode::OK, &entry, &[]));
    }
    let (entry, waited) = next_change(&app, entry, &headers).await?;
    let mut response = if etag_matches(&headers, &etag(&app, &entry)) {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(&app, &entry))]).into_response()
    } else {
        task_response(&app, StatusCode::OK, &entry, &[])
    };
    if let Some(value) = waited.and_then(|wait| HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()) {
        response.headers_mut().insert(PREFERENCE_APPLIED, value);
    }
    Ok(response)
}

/// The task after its next visible change within the preferred wait, or as it is; and the wait that was heeded.
async fn next_change(
    app: &App,
    entry: Arc<Entry>,
    headers: &HeaderMap,
) -> Result<(Arc<Entry>, Option<Duration>), Problem> {
    let Some(wait) = preferred_wait(headers) else { return Ok((entry, None)) };
    if entry.task.status.is_final() {
        // Nothing will ever follow.
        return Ok((entry, Some(wait)));
    }
    Ok((app.tracker.changed_after(&entry, wait).await?, Some(wait)))
}

/// Reports on a task.
///
/// JSON or form fields, so that `curl -X PATCH -d progress=40 -d message=half` works. The first report starts a pending
/// task. `status` `completed`, `error` or `cancelled` ends it. The answer says what the worker is to do next.
#[utoipa::path(
    patch, path = "/api/tasks/{taskId}", operation_id = "reportOnTask", tag = "tasks", params(TaskId, LeaseToken),
    request_body(content(
        (Report = "application/json", example = json!({ "progress": 40, "message": "half" })),
        (Report = "application/x-www-form-urlencoded", example = json!({ "progress": 40, "message": "half" })))),
    responses(
        (status = 200, description = "The task after the report", body = ReportAnswer),
        Refusals<(TaskId, LeaseToken, ReportBody, Writes, Reports)>))]
async fn report(
    State(app): State<App>,
    TaskId(id): TaskId,
    LeaseToken(token): LeaseToken,
    ReportBody(report): ReportBody,
) -> Result<Response, Problem> {
    let entry = entry_of(app.tracker.submit(id, Intent::Report { report, token }).await?)?;
    let directive = if entry.task.status == Status::Cancelling { Directive::Cancel } else { Directive::Continue };
    let interval_ms = app.config.streams.tick_interval.as_millis().to_string();
    let extra = [("directive", directive.json()), ("minIntervalMs", interval_ms.as_bytes())];
    Ok(task_response(&app, StatusCode::OK, &entry, &extra))
}

/// A report within its bounds: JSON, or form fields for shells.
struct ReportBody(Report);

impl FromRequest<App> for ReportBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let body_type = body_type(request.headers()).ok_or_else(|| {
            Problem::new(&kinds::UNSUPPORTED_TYPE)
                .with_detail("Send JSON as application/json, or form fields as application/x-www-form-urlencoded.")
        })?;
        let body = read_body(request.into_body(), app.config.http.max_body_bytes).await?;
        let report = match body_type {
            BodyType::Json => read_json(&body)?,
            BodyType::Form => read_form(&body, "result")?,
        };
        valid(report).map(Self)
    }
}

refuses!(ReportBody: kinds::MALFORMED, kinds::BODY_TIMED_OUT, kinds::BODY_TOO_LARGE, kinds::UNSUPPORTED_TYPE,
    kinds::INVALID);

/// Cancels a task.
///
/// A pending task is cancelled at once; a task in work is `cancelling` until its worker has stopped. Cancelling it
/// again changes nothing.
#[utoipa::path(
    post, path = "/api/tasks/{taskId}/cancel", operation_id = "cancelTask", tag = "tasks", params(TaskId),
    responses(
        (status = 200, description = "The task", body = TaskDocument),
        Refusals<(TaskId, Writes, Cancels)>))]
async fn cancel(State(app): State<App>, TaskId(id): TaskId) -> Result<Response, Problem> {
    let entry = entry_of(app.tracker.submit(id, Intent::Cancel).await?)?;
    Ok(task_response(&app, StatusCode::OK, &entry, &[]))
}

/// Deletes a task that has ended, and its file.
#[utoipa::path(
    delete, path = "/api/tasks/{taskId}", operation_id = "deleteTask", tag = "tasks", params(TaskId),
    responses(
        (status = 204, description = "The task was deleted"),
        Refusals<(TaskId, Writes, Deletes)>))]
async fn delete(State(app): State<App>, TaskId(id): TaskId) -> Result<StatusCode, Problem> {
    app.tracker.submit(id, Intent::Delete).await?;
    app.jobs.forget_file(id).await;
    Ok(StatusCode::NO_CONTENT)
}

refusals!(
    /// A new task may be refused for what was submitted before.
    Creates: kinds::TASK_GONE, kinds::MISMATCH, kinds::TOO_MANY_TASKS
);
refusals!(
    /// A report may be refused for the state of its task.
    Reports: kinds::TASK_GONE, kinds::TASK_FINAL, kinds::TASK_LEASED, kinds::LEASE_LOST
);
refusals!(
    /// Who waits for a change takes the place of a stream.
    Waits: kinds::TOO_MANY_STREAMS
);
refusals!(
    /// A task that has ended cannot be cancelled.
    Cancels: kinds::TASK_GONE, kinds::TASK_FINAL
);
refusals!(
    /// A task that has not ended cannot be deleted.
    Deletes: kinds::TASK_GONE, kinds::TASK_NOT_FINISHED
);

/// The task of whoever submits it, as the job of its kind will do it.
pub(super) fn prepared(app: &App, principal: &Principal, mut new: NewTask) -> Result<NewTask, Problem> {
    principal.own(&mut new);
    app.jobs.prepare(new).map_err(|reason| Problem::invalid("input", reason))
}

/// The answer to a new task: the task, or its stream.
async fn submitted(
    app: &App,
    headers: &HeaderMap,
    answer: Result<Answer, TrackerError>,
    status: impl FnOnce(bool) -> StatusCode,
) -> Result<Response, Problem> {
    let answer = match answer {
        Err(error) if wants_stream(headers) => return Ok(event_streams::refused(&error.into())),
        answer => answer?,
    };
    let made = answer.changed;
    let entry = entry_of(answer)?;
    let mut response = if wants_stream(headers) {
        progress::stream(app, &entry, Resume::First).await
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
    let etag = etag(app, entry);
    let mut response = json_response(status, with_cursor(entry, &etag, extra));
    // A cursor is letters, digits and a hyphen.
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    // A cache may keep it, and must revalidate it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

pub(super) fn json_response(status: StatusCode, json: Bytes) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().reserve(ANSWER_HEADERS);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The stored state with what never changes and its cursor.
pub(super) fn document(app: &App, entry: &Entry) -> Bytes {
    with_cursor(entry, &etag(app, entry), &[])
}

/// The stored state with what never changes, its quoted cursor, and more members.
fn with_cursor(entry: &Entry, cursor: &str, extra: &[(&str, &[u8])]) -> Bytes {
    let kept = [("input", &entry.origin.input), ("metadata", &entry.origin.metadata)];
    let kept = kept.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.as_str().as_bytes())));
    let members = kept.chain([("cursor", cursor.as_bytes())]).chain(extra.iter().copied());
    with_members(&entry.data, members)
}

/// The cursor of a state, quoted: as an `ETag`, and in JSON.
fn etag(app: &App, entry: &Entry) -> String {
    format!("\"{}\"", app.tracker.cursor(entry.visible))
}
