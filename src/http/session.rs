//! The session of a browser: a token or an API key becomes a cookie, so that a page need not keep it.

use std::time::Duration;

use axum::{
    Json as JsonAnswer,
    extract::State,
    response::{AppendHeaders, IntoResponse, Response},
};
use http::{StatusCode, header, request::Parts};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    credentials::{bearer, cookie, keep_cookie},
    problem::{Problem, kinds},
    refusals::{Refusals, refusals},
};
use crate::{
    access::{Pass, Principal},
    event::Timestamp,
};

/// The path of all of these.
pub(super) const PATH: &str = "/api/session";

/// The routes of sessions.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, begin, end))
}

/// Who makes a request.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Session {
    /// A person, by a token; a program, by an API key; or anybody, while access is off.
    kind: SessionKind,
    /// The id of the user, or the name of the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice")]
    name: Option<String>,
    /// What the API key allows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false, example = json!(["tasks:read"]))]
    scopes: Vec<&'static str>,
    /// When the token, the API key or the session ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// What kind of caller it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SessionKind {
    Person,
    Program,
    Open,
}

impl Session {
    fn of(pass: &Pass) -> Self {
        let (kind, name, scopes) = match &pass.principal {
            Principal::Person(id) => (SessionKind::Person, Some(id), [].as_slice()),
            Principal::Program(scopes) => (SessionKind::Program, pass.name.as_ref(), &scopes[..]),
            // Nobody and tickets do not come so far.
            Principal::Open | Principal::Nobody | Principal::Ticket(_) => (SessionKind::Open, None, [].as_slice()),
        };
        let scopes = scopes.iter().map(|scope| scope.as_str()).collect();
        Self { kind, name: name.map(ToString::to_string), scopes, expires_at: pass.expires_at }
    }
}

refusals!(
    /// A token may be too long for a cookie.
    Keeps: kinds::INVALID
);

/// Says who one is.
#[utoipa::path(
    get, path = "/api/session", operation_id = "readSession", tag = "session",
    responses((status = 200, description = "Who makes the request", body = Session)))]
async fn read(pass: Pass) -> JsonAnswer<Session> {
    JsonAnswer(Session::of(&pass))
}

/// Signs a browser in.
///
/// Turns the token or API key in `Authorization` into a cookie that scripts cannot read. It allows what the credential
/// does, for as long; that of an API key without an end lasts a day. While access is off there is nothing to sign in to,
/// and no cookie.
#[utoipa::path(
    post, path = "/api/session", operation_id = "signIn", tag = "session",
    responses(
        (status = 200, description = "The browser is signed in", body = Session,
            headers(("set-cookie" = String, description = "The cookie of the session"))),
        Refusals<Keeps>))]
async fn begin(State(app): State<App>, pass: Pass, request: Parts) -> Result<Response, Problem> {
    let Some(credential) = bearer(&request.headers)?.filter(|_| pass.principal != Principal::Open) else {
        return Ok(JsonAnswer(Session::of(&pass)).into_response());
    };
    let now = app.tracker.clock().now();
    let too_long = || {
        let detail = format!("is too long for a cookie, at {} bytes: about 2900 fit in", credential.len());
        Problem::invalid("authorization", detail)
    };
    let (value, until) = app.access.open_session(credential, &pass, now).ok_or_else(too_long)?;
    let cookie = keep_cookie(&request, &value, until.since(now)).ok_or_else(too_long)?;
    let session = Session::of(&Pass { expires_at: Some(until), ..pass });
    Ok(([(header::SET_COOKIE, cookie)], JsonAnswer(session)).into_response())
}

/// Signs a browser out.
///
/// The cookie is refused from now on, and the streams that were opened with it end. The token in it stays valid.
#[utoipa::path(
    delete, path = "/api/session", operation_id = "signOut", tag = "session",
    responses((status = 204, description = "The browser is signed out")))]
async fn end(State(app): State<App>, request: Parts) -> Result<Response, Problem> {
    if let Some(cookie) = cookie(&request)? {
        let (access, now) = (app.access.clone(), app.tracker.clock().now());
        access.end_session(&cookie, now).await.map_err(Problem::internal)?;
    }
    let cookie = keep_cookie(&request, "", Duration::ZERO).map(|cookie| (header::SET_COOKIE, cookie));
    Ok((StatusCode::NO_CONTENT, AppendHeaders(cookie)).into_response())
}
