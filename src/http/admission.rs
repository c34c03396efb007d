//! Admission: the one place where the table of access is enforced.
//!
//! While access is on, every request comes through here before its handler: who makes it is found out, and the table is
//! asked. A handler is given the [`Principal`] for what only it knows: the owner of a new task, the filter of a list, the
//! channels in a query.

use std::{borrow::Cow, convert::Infallible, mem, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, MatchedPath, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, Method, Uri, header, request::Parts};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use tower::{Service, ServiceExt};
use utoipa::openapi::{
    path::Operation,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use uuid::Uuid;

use super::{
    App,
    event_streams::refused,
    extract::single,
    limits::{self, Usage},
    negotiate::{EVENT_STREAM, wants_stream},
    problem::{Problem, kinds},
    refusals,
};
use crate::{
    access::{Denied, Needs, Pass, Principal, Subject, Verdict, judge, needs},
    event::ChannelName,
    limits::Consumer,
    stream::Leash,
    task::{Entry, NewTask},
    tracker::{Found, TaskFilter},
};

/// The query parameters of a token and of a ticket, on streams only: an `EventSource` cannot set headers.
const TOKEN: &str = "token=";
const TICKET: &str = "ticket=";
const ONE_CREDENTIAL: &str = "must not be given beside another credential";
const LEASE_TOKEN: HeaderName = HeaderName::from_static("lease-token");

/// Lets a request through to its route if the limits of its client and the table allow it.
pub(super) async fn admit<S>(app: App, route: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let (usage, address) = (Usage::of(&request), limits::address(request.extensions()));
    let admitted = async {
        if app.access.is_on() { recognized(&app, route, request, usage).await } else { answered(route, request).await }
    };
    limits::within(&app, address.map(Consumer::at), usage, admitted).await
}

/// Lets a request through to its route if the table allows it.
async fn recognized<S>(app: &App, route: S, request: Request, usage: Usage) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return answered(route, request).await;
    };
    let needs = if *request.method() == Method::OPTIONS {
        Needs::Nothing
    } else {
        needs(request.method().as_str(), path.as_str())
    };
    let is_stream = needs == Needs::Watch || request.method() == Method::GET && wants_stream(request.headers());
    let (mut parts, body) = request.into_parts();
    let pass = match checked(app, &mut parts, needs, path.as_str(), is_stream).await {
        Ok(pass) => pass,
        Err(problem) if is_stream => return refused(&problem),
        Err(problem) => return problem.into_response(),
    };
    parts.extensions.insert(pass.principal.clone());
    parts.extensions.insert(pass.clone());
    let answer = answered(route, Request::from_parts(parts, body));
    let response = limits::within(app, limits::principal(&pass), usage, answer).await;
    leashed(app, pass, response)
}

async fn answered<S>(route: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    match route.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Who makes the request, if they may.
async fn checked(app: &App, request: &mut Parts, needs: Needs, path: &str, is_stream: bool) -> Result<Pass, Problem> {
    if needs == Needs::Nothing {
        return Ok(Pass::of(Principal::Nobody));
    }
    let [token, ticket] =
        [TOKEN, TICKET].map(|name| is_stream.then(|| take_from_query(&mut request.uri, name)).flatten());
    let now = app.tracker.clock().now();
    let recognized = match (credential(&request.headers, token)?, ticket) {
        (Some(_), Some(_)) => return Err(Problem::new(&kinds::MALFORMED).with_error("ticket", ONE_CREDENTIAL)),
        (Some(credential), None) => app.access.recognize(&credential, now),
        (None, Some(ticket)) => app.access.recognize_ticket(&ticket, now),
        (None, None) => Ok(Pass::of(Principal::Nobody)),
    };
    let invalid = |denied: Denied| Problem::new(&kinds::CREDENTIAL_INVALID).with_detail(denied.to_string());
    let pass = recognized.map_err(|denied| limits::failed(app, &request.extensions, invalid(denied)))?;
    let subject = subject(app, request, path, &pass.principal).await?;
    let verdict = match judge(needs, &pass.principal, &subject) {
        // A path that names no channel is not one whose channels are in the query.
        Verdict::Allowed if needs == Needs::Watch && path.contains('{') && subject.channel.is_none() => Verdict::Hidden,
        verdict => verdict,
    };
    match verdict {
        Verdict::Allowed => Ok(pass),
        Verdict::NeedsCredential if request.headers.contains_key(LEASE_TOKEN) => {
            Err(limits::failed(app, &request.extensions, Problem::new(&kinds::CREDENTIAL_REQUIRED)))
        }
        Verdict::NeedsCredential => Err(Problem::new(&kinds::CREDENTIAL_REQUIRED)),
        Verdict::NeedsScope(scope) => {
            Err(Problem::new(&kinds::NOT_ALLOWED).with_detail(format!("This needs an API key with the scope {scope}.")))
        }
        Verdict::NotForTickets => {
            Err(Problem::new(&kinds::NOT_ALLOWED).with_detail("A ticket is for the streams of its channels only."))
        }
        Verdict::Hidden if path.contains("{taskId}") => Err(Problem::new(&kinds::TASK_NOT_FOUND)),
        Verdict::Hidden => Err(Problem::new(&kinds::USER_NOT_FOUND)),
    }
}

/// The one credential of a request: in its header, or in the query of a stream.
fn credential(headers: &HeaderMap, in_query: Option<String>) -> Result<Option<Cow<'_, str>>, Problem> {
    let in_header = match single(headers, &header::AUTHORIZATION)? {
        Some(text) => Some(bearer(text).ok_or_else(|| {
            Problem::new(&kinds::CREDENTIAL_INVALID)
                .with_detail("Send a token or an API key as: Authorization: Bearer …")
        })?),
        None => None,
    };
    match (in_header, in_query) {
        (Some(_), Some(_)) => Err(Problem::new(&kinds::MALFORMED).with_error("token", ONE_CREDENTIAL)),
        (in_header, in_query) => Ok(in_header.map(Cow::Borrowed).or(in_query.map(Cow::Owned))),
    }
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Takes a parameter out of the query, so that nothing behind this sees it.
fn take_from_query(uri: &mut Uri, name: &str) -> Option<String> {
    let (given, others): (Vec<&str>, Vec<&str>) = uri.query()?.split('&').partition(|pair| pair.starts_with(name));
    let values: Vec<&str> = given.iter().map(|pair| &pair[name.len()..]).collect();
    // Given twice it is no token.
    let value = percent_decode_str(values.first()?).decode_utf8_lossy().into_owned() + &values[1..].concat();
    let mark = if others.is_empty() { "" } else { "?" };
    let target = format!("{}{mark}{}", uri.path(), others.join("&"));
    let mut parts = mem::take(uri).into_parts();
    parts.path_and_query = target.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
    Some(value)
}

/// What the path says, as far as the verdict on this principal may depend on it.
async fn subject(app: &App, request: &Parts, template: &str, principal: &Principal) -> Result<Subject, Problem> {
    let parameter = |name: &str| in_path(template, request.uri.path(), name);
    let mut subject = Subject { is_new: true, ..Subject::default() };
    if let Some(user_id) = parameter("{userId}") {
        subject.channel = ChannelName::user(&user_id).ok();
        subject.owner = Some(user_id);
    }
    let Some(id) = parameter("{taskId}").and_then(|id| id.parse::<Uuid>().ok()) else { return Ok(subject) };
    subject.channel = Some(ChannelName::task(id));
    let lease_token = single(&request.headers, &LEASE_TOKEN)?;
    if lease_token.is_none() && principal.person().is_none() {
        return Ok(subject);
    }
    match app.tracker.find(id).await {
        Ok(Found::Task(entry)) => {
            subject.is_new = false;
            subject.is_leased = lease_token.is_some_and(|token| has_lease(&entry, token));
            subject.owner = entry.task.user_id.clone();
        }
        Ok(Found::Gone) => subject.is_new = false,
        Ok(Found::Unknown) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(subject)
}

fn has_lease(entry: &Entry, token: &str) -> bool {
    let lease = entry.memo.lease.as_ref();
    let same = |token: Uuid| lease.is_some_and(|lease| lease.token.as_bytes().ct_eq(token.as_bytes()).into());
    token.parse().is_ok_and(same)
}

/// The value of a parameter of a path.
fn in_path(template: &str, path: &str, name: &str) -> Option<String> {
    let (_, value) = template.split('/').zip(path.split('/')).find(|(part, _)| *part == name)?;
    percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned)
}

/// A stream ends when the credential does that it was opened with.
fn leashed(app: &App, pass: Pass, response: Response) -> Response {
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == EVENT_STREAM);
    if !is_stream || pass.expires_at.is_none() && pass.revoked.is_none() {
        return response;
    }
    let now = app.tracker.clock().now();
    response.map(|body| {
        let revoked = async move {
            match &pass.revoked {
                Some(revoked) => revoked.cancelled().await,
                None => std::future::pending().await,
            }
        };
        Body::new(Leash::new(body, now, pass.expires_at, revoked))
    })
}

impl FromRequestParts<App> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let unknown = if app.access.is_on() { Self::Nobody } else { Self::Open };
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(unknown))
    }
}

impl FromRequestParts<App> for Pass {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let principal = Principal::from_request_parts(parts, app).await?;
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::of(principal)))
    }
}

/// What depends on who asks, in handlers.
impl Principal {
    /// Makes a person the owner of a task that they submit, whatever they have written.
    pub(super) fn own(&self, new: &mut NewTask) {
        if let Some(id) = self.person() {
            new.user_id = Some(id.to_owned());
        }
    }

    /// An idempotency key means what it does to this person only.
    pub(super) fn idempotency_key(&self, key: Option<String>) -> Option<String> {
        match self.person() {
            // No key has a line break.
            Some(id) => key.map(|key| format!("{id}\n{key}")),
            None => key,
        }
    }

    /// A task that the path does not name, if they may know of it.
    pub(super) fn known(&self, found: Found) -> Result<Arc<Entry>, Problem> {
        match (self.person(), found) {
            (Some(id), Found::Task(entry)) if entry.task.user_id.as_deref() == Some(id) => Ok(entry),
            (Some(_), _) => Err(Problem::new(&kinds::TASK_NOT_FOUND)),
            (None, found) => Ok(found.entry()?),
        }
    }

    /// Leaves of a list what a person may see of it: tasks of their own, and no counts, which are of all tasks.
    pub(super) fn narrow(&self, filter: &mut TaskFilter) {
        if let Some(id) = self.person() {
            let is_meant = filter.user_ids.is_empty() || filter.user_ids.iter().any(|wanted| wanted == id);
            // No user has an empty id: nothing is listed.
            filter.user_ids = vec![if is_meant { id.to_owned() } else { String::new() }];
            filter.has_counts = false;
        }
    }
}

/// Adds to the description of a route what it needs, and what this layer refuses.
pub(super) fn describe(method: &Method, path: &str, operation: &mut Operation) {
    let needs = needs(method.as_str(), path);
    if needs == Needs::Nothing {
        return;
    }
    let text = operation.description.take().map_or_else(String::new, |text| text + "\n\n");
    operation.description = Some(format!("{text}While access is on, this needs {needs}."));
    operation.security = Some(vec![SecurityRequirement::new("bearer", [""; 0])]);
    let responses = &mut operation.responses.responses;
    refusals::add(responses, &[&kinds::CREDENTIAL_REQUIRED, &kinds::CREDENTIAL_INVALID]);
    if needs != Needs::Anyone {
        refusals::add(responses, &[&kinds::NOT_ALLOWED]);
    }
    if matches!(needs, Needs::NewOr(_) | Needs::OwnerOr(_) | Needs::LeaseOr(_) | Needs::UserOr(_) | Needs::Watch) {
        refusals::add(
            responses,
            &[if path.contains("{taskId}") { &kinds::TASK_NOT_FOUND } else { &kinds::USER_NOT_FOUND }],
        );
    }
}

/// How a credential is sent.
pub(super) fn scheme() -> SecurityScheme {
    let description = "The token of a person (JWT), or the API key of a program. Streams also take it as `?token=`, \
                       and a ticket as `?ticket=`. \
                       Nothing is needed while access is off.";
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build())
}
