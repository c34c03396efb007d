//! Uploads: a file in a form becomes a task. The body is read by the job; the handler only waits for its receipt.

use std::borrow::Cow;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use garde::Validate;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Query, single, task_id, valid},
    multipart::{self, FileForm, ReadsForm},
    problem::{Code, Finds, LimitReached, Problem, ProblemDocument, ProblemKind, Writes, files_away, kinds},
    refusals::{Refusals, refusals},
    room::{Room, holding},
    tasks::prepared,
};
use crate::{
    access::Principal,
    event::Name,
    jobs::{OverQuota, ReceiveError, UPLOAD_KIND, UploadError, UploadWords},
    task::{NewTask, Refusal, TaskError},
};

/// The routes of uploads.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(upload))
}

/// The answer to an upload.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UploadAnswer {
    /// The task of this upload.
    task_id: Uuid,
}

/// For which task a file is.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// A pending task of kind `upload` that was submitted before, so that it could be watched before the file is sent.
    /// A new task is made when absent.
    #[garde(skip)]
    #[serde(deserialize_with = "task_id")]
    task_id: Option<Uuid>,
    /// The user of the new task.
    #[garde(skip)]
    user_id: Option<Name>,
    /// The title of the new task: one line, up to 256 bytes.
    #[garde(skip)]
    #[param(min_length = 1, max_length = 256)]
    title: Option<String>,
}

/// Uploads a file.
///
/// The upload is a task, which exists before the first byte of the body is read. This answers once the last byte is on
/// the disk, while the file is still being validated, digested and saved. The form has one field, `file`. A problem
/// with a `taskId` is also the error of that task.
#[utoipa::path(
    post, path = "/api/tasks/upload", operation_id = "upload", tag = "uploads", params(UploadQuery),
    request_body(content = FileForm, content_type = "multipart/form-data"),
    responses(
        (status = 202, description = "The file was received", body = UploadAnswer, headers(
            ("location" = String, description = "The URL of the task"))),
        Refusals<(Query<UploadQuery>, Finds, Writes, ReadsForm, Uploads)>))]
async fn upload(
    State(app): State<App>,
    principal: Principal,
    headers: HeaderMap,
    Query(query): Query<UploadQuery>,
    room: Room,
    body: Body,
) -> Result<Response, Problem> {
    let boundary = read_boundary(&headers)?;
    // Before the task is begun, so that it can be sent to another node.
    app.jobs.check_files().await?;
    let held = room.file().await?;
    let (id, new, user) = task_for(&app, &principal, query).await?;
    let length = body.size_hint().exact();
    // Before the task is begun: one that is pending can have its file later.
    let checked = app.jobs.check_quota(user.as_deref(), length.map_or(0, multipart::file_bytes_min)).await;
    checked.map_err(|over| {
        let (kind, setting, detail) = quota_words(over);
        Problem::new(kind).with_limit(setting).with_detail(detail)
    })?;
    let form = multipart::read(body, boundary, length, app.config.uploads.max_upload_bytes);
    let mut response = match app.jobs.upload(id, new, holding(form, held).boxed()).await {
        Ok(()) => (StatusCode::ACCEPTED, axum::Json(UploadAnswer { task_id: id })).into_response(),
        Err(UploadError::Tracker(error)) => return Err(error.into()),
        Err(UploadError::Failed(error)) => refused(error, id),
        Err(UploadError::Cancelled) => refused(of_kind(&kinds::TASK_CANCELLED), id),
        Err(UploadError::GivenUp) if app.draining.is_cancelled() => refused(of_kind(&kinds::STOPPING), id),
        Err(UploadError::GivenUp) => refused(of_kind(&kinds::LEASE_LOST), id),
    };
    // A UUID's text is a valid header value.
    if let Ok(location) = HeaderValue::from_str(&format!("/api/tasks/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What is said of uploads.
pub(crate) const WORDS: UploadWords =
    UploadWords { error: receive_error, file_url: |id| format!("/api/tasks/{id}/file") };

/// What is said where the files of a user take all that they may: the kind of problem, the setting, the detail.
fn quota_words(over: OverQuota) -> (&'static ProblemKind, &'static str, String) {
    match over {
        OverQuota::Files(most) => (
            &kinds::FILES_PER_USER,
            "max-files-per-user",
            format!("The files of one user are bounded by --max-files-per-user, which is {most}. Delete some first."),
        ),
        OverQuota::Bytes(most) => (
            &kinds::FILE_DATA_PER_USER,
            "max-file-data-per-user",
            format!(
                "The files of one user are bounded by --max-file-data-per-user, which is {most} bytes. Delete some first."
            ),
        ),
    }
}

/// Why a file cannot be kept, as the error of its task.
pub(super) fn receive_error(error: &ReceiveError) -> TaskError {
    match error {
        ReceiveError::NoFile => FILE_MISSING.task_error("The form has no file in a field named file."),
        ReceiveError::TooLarge(limit) => TOO_LARGE.task_error(format!("The limit is {limit} bytes.")),
        ReceiveError::OverQuota(over) => {
            let (kind, _, detail) = quota_words(*over);
            kind.task_error(detail)
        }
        ReceiveError::TypeNotAllowed { found, accepted } => TYPE_NOT_ALLOWED
            .task_error(format!("The content of the file is {found}. Accepted types: {}.", accepted.join(", "))),
        ReceiveError::Away(away) => kinds::FILES_UNAVAILABLE.task_error(files_away(*away)),
        ReceiveError::DiskFull => kinds::DISK_FULL.task_error("There is no room left for this file."),
        ReceiveError::DiskFailed => DISK_FAILED.task_error("The file could not be stored."),
    }
}

const TYPE_NOT_ALLOWED: ProblemKind =
    ProblemKind::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "type_not_allowed", "Files of this type are not accepted");
const TOO_LARGE: ProblemKind =
    ProblemKind::new(StatusCode::PAYLOAD_TOO_LARGE, "upload_too_large", "The file is too large");
const FILE_MISSING: ProblemKind =
    ProblemKind::new(StatusCode::UNPROCESSABLE_ENTITY, "file_missing", "There is no file");
const DISK_FAILED: ProblemKind = ProblemKind::new(StatusCode::INTERNAL_SERVER_ERROR, "io_error", "The disk failed");

refusals!(
    /// A file may be refused, and so may the task that it is for.
    Uploads: kinds::UNSUPPORTED_TYPE, kinds::TASK_FINAL, kinds::TASK_NOT_PENDING, kinds::TASK_CANCELLED,
        kinds::LEASE_LOST, kinds::TOO_MANY_TASKS, TOO_LARGE, FILE_MISSING, DISK_FAILED, kinds::FILES_PER_USER,
        kinds::FILE_DATA_PER_USER, kinds::FILES_UNAVAILABLE
);

fn read_boundary(headers: &HeaderMap) -> Result<String, Problem> {
    let content_type = single(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let Some(boundary) = multipart::boundary(content_type) else {
        let detail = "Send the file in a form, as multipart/form-data.";
        return Err(Problem::new(&kinds::UNSUPPORTED_TYPE).with_detail(detail));
    };
    boundary.map_err(|reason| Problem::new(&kinds::MALFORMED).with_error(header::CONTENT_TYPE.as_str(), reason))
}

/// The task that the query names, or one to be made; and its user.
async fn task_for(
    app: &App,
    principal: &Principal,
    query: UploadQuery,
) -> Result<(Uuid, Option<NewTask>, Option<String>), Problem> {
    let UploadQuery { task_id, user_id, title } = query;
    let Some(id) = task_id else {
        let user_id = user_id.map(String::from);
        let new = valid(NewTask { kind: Some(UPLOAD_KIND.into()), user_id, title, ..NewTask::default() })?;
        let new = prepared(app, principal, new)?;
        let user_id = new.user_id.clone();
        return Ok((Uuid::now_v7(), Some(new), user_id));
    };
    let of_new_task = [("userId", user_id.is_some()), ("title", title.is_some())].into_iter().find(|(_, given)| *given);
    if let Some((name, _)) = of_new_task {
        return Err(Problem::invalid(name, "is for a new task, and taskId names one that exists"));
    }
    let entry = principal.known(app.tracker.find(id).await?)?;
    if entry.task.kind != UPLOAD_KIND {
        return Err(Problem::invalid("taskId", format!("must be a task of kind {UPLOAD_KIND}")));
    }
    if entry.task.status.is_final() {
        return Err(Refusal::Final(entry.task.status).into());
    }
    Ok((id, None, entry.task.user_id.clone()))
}

fn of_kind(kind: &ProblemKind) -> TaskError {
    TaskError { detail: None, ..kind.task_error("") }
}

fn refused(error: TaskError, task_id: Uuid) -> Response {
    let document = ProblemDocument {
        kind: error.kind,
        title: &error.title,
        status: error.status,
        detail: error.detail.as_deref().map(Cow::Borrowed),
        code: &error.code,
        errors: &[],
        task_id: Some(task_id),
    };
    let mut response = document.into_response();
    response.extensions_mut().insert(Code("upload_failed"));
    for (kind, setting) in
        [(&kinds::FILES_PER_USER, "max-files-per-user"), (&kinds::FILE_DATA_PER_USER, "max-file-data-per-user")]
    {
        if kind.code == error.code {
            response.extensions_mut().insert(LimitReached(setting));
        }
    }
    response
}
