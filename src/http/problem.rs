//! Refusals as problem documents (RFC 9457): the one place where an error becomes a status and a body. Their kinds are in
//! `kinds.rs`; which of them an error of the rest of the service is, in `causes.rs`.
//!
//! The cause of an internal error goes beside the answer, for `observe` to log once with the request's id; the client
//! gets a 5xx without it.

mod causes;
pub mod kinds;

pub(super) use causes::files_away;

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::refusals::refusals;
use crate::{limits::whole_seconds, server::UnreadHead, task::TaskError};

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// When a client is asked to come again after a passing trouble, and after one that somebody has to see to.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_SEEN_TO: Duration = Duration::from_secs(30);

/// When a client is asked to come again after an answer with this status.
fn retry_after(status: StatusCode) -> Option<HeaderValue> {
    let wait = match status {
        StatusCode::SERVICE_UNAVAILABLE => RETRY_AFTER,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::TOO_MANY_REQUESTS => RETRY_AFTER_SEEN_TO,
        _ => return None,
    };
    Some(HeaderValue::from(wait.as_secs()))
}

/// What can be refused: a status, a stable code, and a title that is the same for all problems of this kind.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemKind {
    /// The status of the answer.
    pub status: StatusCode,
    /// A stable word for programs.
    pub code: &'static str,
    /// A short summary.
    pub title: &'static str,
}

impl ProblemKind {
    /// A kind of problem.
    pub const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title }
    }

    /// What a 401 asks for (RFC 6750).
    fn challenge(&self) -> Option<&'static str> {
        match self.status {
            StatusCode::UNAUTHORIZED if *self == kinds::CREDENTIAL_INVALID => {
                Some("Bearer realm=\"progressd\", error=\"invalid_token\"")
            }
            StatusCode::UNAUTHORIZED => Some("Bearer realm=\"progressd\""),
            _ => None,
        }
    }

    /// A problem of this kind as the error of a task.
    pub(super) fn task_error(&self, detail: impl Into<String>) -> TaskError {
        TaskError::new(self.code, self.title, self.status.as_u16(), detail)
    }
}

/// A refusal on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: &'static ProblemKind,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    cause: Option<String>,
    limit: Option<&'static str>,
    wait: Option<Duration>,
}

/// What is wrong with one member, form field, header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The name of the member with its path, such as `steps[1].weight`; or of the field or parameter.
    #[schema(example = "progress")]
    pub field: String,
    /// What is wrong with it.
    #[schema(example = "greater than 100")]
    pub detail: String,
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct ProblemDocument<'a> {
    /// Identifies the kind of problem: `urn:progressd:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:progressd:problem:task_not_found")]
    pub kind: String,
    /// A short summary, the same for all problems of this kind.
    #[schema(example = "No such task")]
    pub title: &'a str,
    /// The status of the answer.
    #[schema(example = 404)]
    pub status: u16,
    /// What went wrong this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub detail: Option<Cow<'a, str>>,
    /// A stable code for programs.
    #[schema(example = "task_not_found")]
    pub code: &'a str,
    /// Each member, form field or parameter that is wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    pub errors: &'a [FieldError],
    /// The task that ended with this error; only for uploads, and only if there is a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Uuid>,
}

/// What went wrong inside; goes with a response for the log only.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

/// The setting of the limit that was reached; goes with a response for the metrics only.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitReached(pub(super) &'static str);

/// The code of a refusal; goes with a response for the log only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

impl Problem {
    /// A problem of this kind, without a detail.
    pub fn new(kind: &'static ProblemKind) -> Self {
        Self { kind, detail: None, errors: Vec::new(), cause: None, limit: None, wait: None }
    }

    /// What is wrong with one member, field or parameter.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(&kinds::INVALID).with_error(field, detail)
    }

    /// An internal error; only the log has the cause.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(&kinds::INTERNAL).with_cause(cause)
    }

    /// What is asked about holds what this version does not know.
    pub fn unreadable() -> Self {
        Self::new(&kinds::NEWER_VERSION).with_detail("Nodes of the newer version can read it.")
    }

    /// Says what went wrong this time.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names a member, field or parameter that is wrong.
    #[must_use]
    pub fn with_error(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }

    /// Names the setting of the limit that was reached; it is counted by this name.
    #[must_use]
    pub fn with_limit(mut self, setting: &'static str) -> Self {
        self.limit = Some(setting);
        self
    }

    /// Says when to come again.
    #[must_use]
    pub fn with_wait(mut self, wait: Option<Duration>) -> Self {
        self.wait = wait;
        self
    }

    /// Adds the cause for the log; the client does not see it.
    #[must_use]
    pub fn with_cause(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// What kind of problem it is.
    pub fn kind(&self) -> &'static ProblemKind {
        self.kind
    }

    /// Each member, field or parameter that is wrong.
    #[cfg(test)]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// When to come again, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// A sentence for people: the detail, or else the title.
    pub fn sentence(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.kind.title)
    }

    /// Whether the same request may be answered later: the fault is the service's, or a limit is reached.
    pub fn may_pass(&self) -> bool {
        self.kind.status.is_server_error() || self.kind.status == StatusCode::TOO_MANY_REQUESTS
    }

    fn document(&self) -> ProblemDocument<'_> {
        let detail = match self.errors.first() {
            Some(error) if self.detail.is_none() => Some(format!("{}: {}", error.field, error.detail).into()),
            _ => self.detail.as_deref().map(Cow::Borrowed),
        };
        ProblemDocument {
            kind: format!("urn:progressd:problem:{}", self.kind.code),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail,
            code: self.kind.code,
            errors: &self.errors,
            task_id: None,
        }
    }

    /// Leaves with a response what the log is to be told.
    pub(super) fn annotate(&self, response: &mut Response) {
        response.extensions_mut().insert(Code(self.kind.code));
        if let Some(setting) = self.limit {
            response.extensions_mut().insert(LimitReached(setting));
        }
        if let Some(cause) = &self.cause {
            response.extensions_mut().insert(Cause(cause.clone()));
        }
    }
}

impl ProblemDocument<'_> {
    fn json(&self) -> Bytes {
        // A struct of strings and numbers always has a JSON text.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl IntoResponse for ProblemDocument<'_> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], self.json()).into_response();
        let retry_after = retry_after(status).map(|wait| (header::RETRY_AFTER, wait));
        response.headers_mut().extend(retry_after);
        response
    }
}

/// What is said of a head that is not read. No route and no layer sees such a request.
pub(crate) fn refuse_head(head: UnreadHead) -> http::Response<Bytes> {
    let (kind, detail) = match head {
        UnreadHead::NotEncrypted => (&kinds::MALFORMED, "The service speaks TLS here: use https."),
        UnreadHead::Unreadable(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => (
            &kinds::HEAD_TOO_LARGE,
            "The request line and the headers are bounded by --max-header, and by 100 headers.",
        ),
        UnreadHead::TooManyConnections => {
            (&kinds::CONNECTIONS_PER_ADDRESS, "Close some: they are bounded by --max-connections-per-address.")
        }
        UnreadHead::Unreadable(StatusCode::URI_TOO_LONG) => (&kinds::TARGET_TOO_LONG, "Use a shorter path and query."),
        UnreadHead::Unreadable(_) => (&kinds::MALFORMED, "The head of the request is not HTTP."),
    };
    let mut response = http::Response::new(Problem::new(kind).with_detail(detail).document().json());
    *response.status_mut() = kind.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(retry_after(kind.status).map(|wait| (header::RETRY_AFTER, wait)));
    response
}

/// Ends the connection with this response. Who is to come again later must not keep the place of others meanwhile.
pub(super) fn close(response: &mut Response) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.document().into_response();
        if let Some(wait) = self.wait {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        if kinds::CLOSING.contains(&self.kind) {
            close(&mut response);
        }
        if let Some(challenge) = self.kind.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        self.annotate(&mut response);
        response
    }
}

refusals!(
    /// Any read of the task table may be refused.
    Reads: kinds::STORE_UNAVAILABLE, kinds::STOPPING, kinds::OVERLOADED
);
refusals!(
    /// A search for a task may find none.
    Finds: kinds::TASK_NOT_FOUND, kinds::TASK_GONE
);
refusals!(
    /// Any change of the task table may be refused.
    Writes: kinds::OVERLOADED, kinds::STORE_UNAVAILABLE, kinds::STOPPING, kinds::DISK_FULL
);
