//! Admission: the one place where the table of access is enforced.
//!
//! While access is on, every request comes through here before its handler: who makes it is found out, and the table is
//! asked. A handler is given the [`Principal`] for what only it knows: the owner of a new task, the filter of a list, the
//! channels in a query.

use std::{borrow::Cow, convert::Infallible, pin::pin, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, MatchedPath, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderName, Method, header, request::Parts};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use tower::{Service, ServiceExt};
use utoipa::openapi::{
    RefOr,
    path::Operation,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use uuid::Uuid;

use super::{
    App,
    client::Client,
    credentials::{self, COOKIE, Credential},
    event_streams::refused,
    extract::single,
    guard, limits,
    negotiate::{EVENT_STREAM, wants_stream},
    problem::{Problem, ProblemKind, kinds},
    refusals, session,
};
use crate::{
    access::{Denied, Needs, Pass, Principal, Subject, Verdict, judge, needs},
    event::{ChannelName, Timestamp},
    stream::Leash,
    task::{Entry, NewTask},
    topics::topic_of_game,
    tracker::{Found, TaskFilter},
};

const LEASE_TOKEN: HeaderName = HeaderName::from_static("lease-token");

/// Lets a request through to its route if the limits of its client and the table allow it.
pub(super) async fn admit<S>(app: App, route: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let limited = limits::of_address(&app, &request);
    // Pinned here, for a future that is passed on by value has room in each function that it passes.
    let answer = pin!(admitted(&app, route, request));
    limits::within(&app, limited, answer).await
}

async fn admitted<S>(app: &App, route: S, mut request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let now = app.tracker.clock().now();
    let pass = match app.access.open_pass() {
        Some(pass) => pass,
        None => match checked(app, request, now).await {
            Ok((pass, checked)) => {
                request = checked;
                pass
            }
            Err(response) => return response,
        },
    };
    request.extensions_mut().insert(pass.clone());
    // What only reads may be left half-way, when the right to read ends; all else is carried out.
    let is_left = request.method().is_safe();
    let end = app.access.end_of(&pass, now);
    let limited = limits::of_principal(&pass, &request);
    let answer = pin!(async { route.oneshot(request).await.unwrap_or_else(|never| match never {}) });
    let answered = limits::within(app, limited, answer);
    let response = if is_left {
        tokio::select! {
            biased;
            response = answered => response,
            () = app.access.end_of(&pass, now) => return ended(&pass).into_response(),
        }
    } else {
        answered.await
    };
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == EVENT_STREAM);
    if is_stream { response.map(|body| Body::new(Leash::new(body, now, pass.expires_at, end))) } else { response }
}

/// The credential that a request waited with has ended.
fn ended(pass: &Pass) -> Problem {
    match pass.principal {
        Principal::Open => Problem::new(&kinds::CREDENTIAL_REQUIRED),
        _ => Problem::new(&kinds::CREDENTIAL_INVALID).with_detail("It has ended while the request waited."),
    }
}

/// Who makes the request, if they may, and the request without its credential in the query.
async fn checked(app: &App, request: Request, now: Timestamp) -> Result<(Pass, Request), Response> {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return Ok((Pass::of(Principal::Nobody), request));
    };
    let needs = if *request.method() == Method::OPTIONS {
        Needs::Nothing
    } else {
        needs(request.method().as_str(), path.as_str())
    };
    if needs == Needs::Nothing {
        return Ok((Pass::of(Principal::Nobody), request));
    }
    let is_watch = matches!(needs, Needs::Watch | Needs::WatchTopic(_));
    let is_stream = is_watch || request.method() == Method::GET && wants_stream(request.headers());
    let (mut parts, body) = request.into_parts();
    match recognized(app, &mut parts, path.as_str(), is_stream, now).await {
        Ok(pass) => match judged(app, &parts, needs, path.as_str(), &pass).await {
            Ok(()) => Ok((pass, Request::from_parts(parts, body))),
            Err(problem) if is_stream => Err(refused(&problem)),
            Err(problem) => Err(problem.into_response()),
        },
        Err(problem) if is_stream || wants_stream(&parts.headers) => Err(refused(&problem)),
        Err(problem) => Err(problem.into_response()),
    }
}

/// Who makes the request.
async fn recognized(
    app: &App,
    request: &mut Parts,
    path: &str,
    is_stream: bool,
    now: Timestamp,
) -> Result<Pass, Problem> {
    // Whoever signs in anew still has the cookie that has expired.
    let signs_in = path == session::PATH && request.method == Method::POST;
    let Some(credential) = credentials::take(request, !signs_in, is_stream)? else {
        return Ok(Pass::of(Principal::Nobody));
    };
    if matches!(credential, Credential::Cookie(_)) {
        // Browsers send it whoever makes them ask, so it counts for our own pages only, also where nothing is changed.
        guard::check_site(&request.uri, &request.headers, &Client::found(request), &app.config.http)?;
    }
    let recognize = || match &credential {
        Credential::Token(token) => app.access.recognize(token, now),
        Credential::Cookie(cookie) => app.access.recognize_session(cookie, now),
        Credential::Ticket(ticket) => app.access.recognize_ticket(ticket, now),
    };
    let pass = match recognize() {
        // On the heap, for it is large and seldom needed, and each request would have to carry its room.
        Err(Denied::UnknownSigner | Denied::NoKeys) if Box::pin(app.access.renew_keys()).await => recognize(),
        pass => pass,
    };
    pass.map_err(|denied| match denied {
        Denied::NoKeys => Problem::new(&kinds::KEYS_UNAVAILABLE).with_detail(denied.to_string()),
        _ => limits::failed(
            app,
            &request.extensions,
            Problem::new(&kinds::CREDENTIAL_INVALID).with_detail(denied.to_string()),
        ),
    })
}

/// Whether they may.
async fn judged(app: &App, request: &Parts, needs: Needs, path: &str, pass: &Pass) -> Result<(), Problem> {
    let subject = subject(app, request, needs, path, &pass.principal).await?;
    let verdict = match judge(needs, &pass.principal, &subject) {
        // A path that names no channel is not one whose channels are in the query.
        Verdict::Allowed if needs == Needs::Watch && path.contains('{') && subject.channel.is_none() => Verdict::Hidden,
        verdict => verdict,
    };
    match verdict {
        Verdict::Allowed => Ok(()),
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
        Verdict::Hidden => Err(Problem::new(hidden(needs, path))),
    }
}

/// What is said where a principal may not know of what the path names.
fn hidden(needs: Needs, path: &str) -> &'static ProblemKind {
    if path.contains("{taskId}") {
        &kinds::TASK_NOT_FOUND
    } else if matches!(needs, Needs::WatchTopic(_)) || ["{topic}", "{gameId}"].iter().any(|name| path.contains(name)) {
        &kinds::TOPIC_NOT_FOUND
    } else {
        &kinds::USER_NOT_FOUND
    }
}

/// What the path says, as far as the verdict on this principal may depend on it.
async fn subject(
    app: &App,
    request: &Parts,
    needs: Needs,
    template: &str,
    principal: &Principal,
) -> Result<Subject, Problem> {
    let parameter = |name: &str| in_path(template, request.uri.path(), name);
    let mut subject = Subject { is_new: true, ..Subject::default() };
    if let Some(user_id) = parameter("{userId}") {
        subject.channel = ChannelName::user(&user_id).ok();
        subject.owner = Some(user_id);
    }
    let topic = match needs {
        Needs::WatchTopic(topic) => Some(topic.to_owned()),
        _ => parameter("{topic}").or_else(|| parameter("{gameId}").map(|game| topic_of_game(&game))),
    };
    if let Some(topic) = topic.and_then(|name| ChannelName::topic(&name).ok()) {
        subject.is_public = app.access.is_public(&topic);
        subject.channel = Some(topic);
    }
    let Some(id) = parameter("{taskId}").and_then(|id| id.parse::<Uuid>().ok()) else { return Ok(subject) };
    subject.channel = Some(ChannelName::task(id));
    let lease_token = single(&request.headers, &LEASE_TOKEN)?;
    if lease_token.is_none() && principal.person().is_none() {
        return Ok(subject);
    }
    let is_enough = |entry: &Entry| lease_token.is_none_or(|token| has_lease(entry, token));
    match app.tracker.find_enough(id, is_enough).await {
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

impl FromRequestParts<App> for Pass {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        // There is one in every request that has come through here.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::of(Principal::Nobody)))
    }
}

impl FromRequestParts<App> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Pass::from_request_parts(parts, app).await.map(|pass| pass.principal)
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
    let schemes: &[&str] = match needs {
        Needs::Nothing => &[],
        _ if path == session::PATH && *method == Method::POST => &["bearer"],
        Needs::Watch | Needs::WatchTopic(_) => &["bearer", "session", "token", "ticket"],
        Needs::LeaseOr(_) => &["bearer", "session", "lease"],
        _ if is_stream(operation) => &["bearer", "session", "token"],
        _ => &["bearer", "session"],
    };
    // An empty list says that nothing is needed; one that is missing would say nothing.
    operation.security = Some(schemes.iter().map(|scheme| SecurityRequirement::new(*scheme, [""; 0])).collect());
    if needs == Needs::Nothing {
        return;
    }
    let text = operation.description.take().map_or_else(String::new, |text| text + "\n\n");
    operation.description = Some(format!("{text}While access is on, this needs {needs}."));
    let responses = &mut operation.responses.responses;
    refusals::add(responses, &[&kinds::CREDENTIAL_REQUIRED, &kinds::CREDENTIAL_INVALID, &kinds::CROSS_SITE]);
    // A stream says so with 200.
    if !matches!(needs, Needs::Watch | Needs::WatchTopic(_)) {
        refusals::add(responses, &[&kinds::KEYS_UNAVAILABLE]);
    }
    if needs != Needs::Anyone {
        refusals::add(responses, &[&kinds::NOT_ALLOWED]);
    }
    if !matches!(needs, Needs::Anyone | Needs::PersonOr(_) | Needs::Only(_)) {
        refusals::add(responses, &[hidden(needs, path)]);
    }
}

/// Whether an operation answers a stream.
fn is_stream(operation: &Operation) -> bool {
    let responses = operation.responses.responses.values();
    responses
        .into_iter()
        .any(|response| matches!(response, RefOr::T(response) if response.content.contains_key(EVENT_STREAM)))
}

/// How a credential is sent.
pub(super) fn schemes() -> [(&'static str, SecurityScheme); 5] {
    let bearer = "The token of a person (JWT), or the API key of a program. Nothing is needed while access is off.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(bearer)).build();
    let session = "What `POST /api/session` makes of a token or an API key; `__Host-progressd_session` on https. It \
                   counts for requests of the pages of this service, and of the origins in --allowed-origins.";
    let session = ApiKeyValue::with_description(COOKIE, session);
    let token = ApiKeyValue::with_description("token", "A token or an API key, on streams only.");
    let ticket = ApiKeyValue::with_description("ticket", "What `POST /api/tickets` answers, on streams only.");
    let lease = ApiKeyValue::with_description("Lease-Token", "What comes with the lease of a task.");
    [
        ("bearer", SecurityScheme::Http(bearer)),
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(session))),
        ("token", SecurityScheme::ApiKey(ApiKey::Query(token))),
        ("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket))),
        ("lease", SecurityScheme::ApiKey(ApiKey::Header(lease))),
    ]
}
