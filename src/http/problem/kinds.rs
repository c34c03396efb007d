//! The kinds of problems that more than one route knows.

use super::{ProblemKind, StatusCode};

/// A body that is no JSON, a query that cannot be decoded, a header that is malformed.
pub const MALFORMED: ProblemKind =
    ProblemKind::new(StatusCode::BAD_REQUEST, "malformed_request", "The request is malformed");
/// A query parameter that the route does not have.
pub const UNKNOWN_PARAMETER: ProblemKind =
    ProblemKind::new(StatusCode::BAD_REQUEST, "unknown_parameter", "Unknown query parameter");
/// The request has no credential, and needs one.
pub const CREDENTIAL_REQUIRED: ProblemKind =
    ProblemKind::new(StatusCode::UNAUTHORIZED, "credential_required", "A token or an API key is required");
/// The credential of the request is not believed.
pub const CREDENTIAL_INVALID: ProblemKind =
    ProblemKind::new(StatusCode::UNAUTHORIZED, "credential_invalid", "The token or API key is not valid");
/// Whoever makes the request may not do that.
pub const NOT_ALLOWED: ProblemKind = ProblemKind::new(StatusCode::FORBIDDEN, "not_allowed", "Not allowed");
/// A page of another origin made a request that has an effect.
pub const CROSS_SITE: ProblemKind =
    ProblemKind::new(StatusCode::FORBIDDEN, "cross_site_request", "Cross-site requests are not allowed");
/// No route has this path.
pub const ROUTE_NOT_FOUND: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "route_not_found", "No such route");
/// No task has this id.
pub const TASK_NOT_FOUND: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "task_not_found", "No such task");
/// The user was never seen.
pub const USER_NOT_FOUND: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "user_not_found", "No such user");
/// Nobody is in the group, or it is not one of theirs.
pub const GROUP_NOT_FOUND: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "group_not_found", "No such group");
/// Nothing was published there, or it was deleted.
pub const TOPIC_NOT_FOUND: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "topic_not_found", "No such topic");
/// The route does not have this method.
pub const METHOD_NOT_ALLOWED: ProblemKind =
    ProblemKind::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed");
/// The route has no content type that the client accepts.
pub const NOT_ACCEPTABLE: ProblemKind =
    ProblemKind::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "No acceptable content type");
/// The client stopped sending its body.
pub const BODY_TIMED_OUT: ProblemKind =
    ProblemKind::new(StatusCode::REQUEST_TIMEOUT, "body_timed_out", "The body did not arrive in time");
/// A final status is final.
pub const TASK_FINAL: ProblemKind = ProblemKind::new(StatusCode::CONFLICT, "task_final", "The task has ended");
/// The group has as many members as allowed.
pub const GROUP_FULL: ProblemKind = ProblemKind::new(StatusCode::CONFLICT, "group_full", "The group is full");
/// Another worker holds the lease.
pub const TASK_LEASED: ProblemKind =
    ProblemKind::new(StatusCode::CONFLICT, "task_leased", "Another worker holds the lease");
/// The lease was another attempt's.
pub const LEASE_LOST: ProblemKind =
    ProblemKind::new(StatusCode::CONFLICT, "lease_lost", "The lease is no longer valid");
/// The task is in work or has ended.
pub const TASK_NOT_PENDING: ProblemKind =
    ProblemKind::new(StatusCode::CONFLICT, "task_not_pending", "The task is not pending");
/// Only tasks that have ended can be deleted.
pub const TASK_NOT_FINISHED: ProblemKind =
    ProblemKind::new(StatusCode::CONFLICT, "task_not_finished", "The task has not ended");
/// The task was cancelled while a caller waited for its end.
pub const TASK_CANCELLED: ProblemKind =
    ProblemKind::new(StatusCode::CONFLICT, "task_cancelled", "The task was cancelled");
/// The task existed once.
pub const TASK_GONE: ProblemKind =
    ProblemKind::new(StatusCode::GONE, "task_gone", "The task was deleted or has expired");
/// The body is larger than allowed.
pub const BODY_TOO_LARGE: ProblemKind =
    ProblemKind::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large");
/// The route does not read this content type.
pub const UNSUPPORTED_TYPE: ProblemKind = ProblemKind::new(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "unsupported_content_type",
    "The content type is not supported",
);
/// The path and query are longer than can be read.
pub const TARGET_TOO_LONG: ProblemKind =
    ProblemKind::new(StatusCode::URI_TOO_LONG, "target_too_long", "The path and query are too long");
/// The request line and the headers are larger than allowed.
pub const HEAD_TOO_LARGE: ProblemKind = ProblemKind::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
    "The head of the request is too large",
);
/// The service does not answer to this `Host`.
pub const WRONG_HOST: ProblemKind =
    ProblemKind::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", "Host name not allowed");
/// A member, field or parameter is out of its bounds.
pub const INVALID: ProblemKind =
    ProblemKind::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is not valid");
/// An id or idempotency key stands for another request.
pub const MISMATCH: ProblemKind = ProblemKind::new(
    StatusCode::UNPROCESSABLE_ENTITY,
    "idempotency_mismatch",
    "The id or key was used for a different request",
);
/// The task failed while a caller waited for its end.
pub const TASK_FAILED: ProblemKind =
    ProblemKind::new(StatusCode::INTERNAL_SERVER_ERROR, "task_failed", "The task failed");
/// There are as many tasks as are allowed that have not ended.
pub const TOO_MANY_TASKS: ProblemKind =
    ProblemKind::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tasks", "Too many tasks have not ended");
/// An internal error.
pub const INTERNAL: ProblemKind =
    ProblemKind::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal error");
/// A newer version has written what is asked about: while nodes are upgraded, one after the other, another may read it.
pub const NEWER_VERSION: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "newer_version", "A newer version has written this");
/// More requests wait than the service can take.
pub const OVERLOADED: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded");
/// There are as many topics as allowed.
pub const TOO_MANY_TOPICS: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_topics", "Too many topics");
/// There are as many users as allowed.
pub const TOO_MANY_USERS: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_users", "Too many users");
/// There are as many streams as allowed.
pub const TOO_MANY_STREAMS: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", "Too many open streams");
/// The keys that verify tokens are at an address that does not answer.
pub const KEYS_UNAVAILABLE: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "token_keys_unavailable", "Tokens cannot be verified now");
/// The store does not answer.
pub const STORE_UNAVAILABLE: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "The store is not available");
/// The directory of files is not there.
pub const FILES_UNAVAILABLE: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "files_unavailable", "Files are not available on this node");
/// The service is shutting down.
pub const STOPPING: ProblemKind =
    ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The service is shutting down");
/// There is no space left on the disk.
pub const DISK_FULL: ProblemKind = ProblemKind::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "The disk is full");

const fn limit(code: &'static str, title: &'static str) -> ProblemKind {
    ProblemKind::new(StatusCode::TOO_MANY_REQUESTS, code, title)
}

/// An address has as many connections as allowed.
pub const CONNECTIONS_PER_ADDRESS: ProblemKind =
    limit("max_connections_per_address", "Too many open connections from this address");
/// An address has as many streams as allowed.
pub const STREAMS_PER_ADDRESS: ProblemKind =
    limit("max_streams_per_address", "Too many open streams from this address");
/// A principal has as many streams as allowed.
pub const STREAMS_PER_PRINCIPAL: ProblemKind =
    limit("max_streams_per_principal", "Too many open streams with this credential");
/// An address has made as many requests as allowed.
pub const REQUESTS_PER_ADDRESS: ProblemKind = limit("requests_per_address", "Too many requests from this address");
/// A principal has made as many requests as allowed.
pub const REQUESTS_PER_PRINCIPAL: ProblemKind =
    limit("requests_per_principal", "Too many requests with this credential");
/// A principal has submitted as many tasks as allowed.
pub const SUBMITS_PER_PRINCIPAL: ProblemKind =
    limit("submits_per_principal", "Too many tasks submitted with this credential");
/// An address has sent as many wrong credentials as allowed.
pub const FAILED_CREDENTIALS_PER_ADDRESS: ProblemKind =
    limit("failed_credentials_per_address", "Too many wrong credentials from this address");
/// A user has as many files as allowed.
pub const FILES_PER_USER: ProblemKind =
    ProblemKind::new(StatusCode::INSUFFICIENT_STORAGE, "max_files_per_user", "Too many files of this user");
/// The files of a user are as large as allowed.
pub const FILE_DATA_PER_USER: ProblemKind = ProblemKind::new(
    StatusCode::INSUFFICIENT_STORAGE,
    "max_file_data_per_user",
    "The files of this user are too large together",
);

/// Problems that end their connection: who meets them must not keep the place of others, nor go on at once.
pub(super) const CLOSING: [&ProblemKind; 4] =
    [&TOO_MANY_STREAMS, &STREAMS_PER_ADDRESS, &STREAMS_PER_PRINCIPAL, &FAILED_CREDENTIALS_PER_ADDRESS];
