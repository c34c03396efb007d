//! The limits of clients, around each request: what its address may use, and, within that, what its principal may.
//!
//! Health checks and metrics count for none. A stream, and a request that waits for news, has a slot as long as it is
//! open.

use std::net::IpAddr;

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
};
use http::{Extensions, HeaderName, Method, header};
use http_body_util::BodyExt;
use utoipa::openapi::{RefOr, path::Operation};

use super::{
    App,
    client::Client,
    event_streams::refused,
    negotiate::{EVENT_STREAM, preferred_wait, wants_stream},
    problem::{Problem, kinds},
    refusals,
};
use crate::{
    access::{Needs, Pass, Principal, is_unlimited, needs},
    limits::{Consumer, Exceeded, Left, Slot},
};

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What of a request its limits depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    is_unlimited: bool,
    is_submit: bool,
    /// It may wait for news without being a stream.
    waits: bool,
    wants_stream: bool,
}

impl Usage {
    pub(super) fn of(request: &Request) -> Self {
        let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let (method, headers) = (request.method(), request.headers());
        let needs = needs(method.as_str(), path);
        let is_get = *method == Method::GET;
        Self {
            is_unlimited: is_unlimited(path),
            is_submit: needs.is_to_submit() && !matches!(*method, Method::HEAD | Method::OPTIONS),
            waits: is_get && (needs == Needs::Watch || preferred_wait(headers).is_some()),
            wants_stream: wants_stream(headers),
        }
    }
}

/// Whose limits count for a request, and what they depend on; nobody's where they are off.
type Limited = Option<(Consumer, Usage)>;

/// The limits of the address of the client.
pub(super) fn of_address(app: &App, request: &Request) -> Limited {
    let address = app.limits.are_of_addresses().then(|| address(request.extensions())).flatten()?;
    Some((Consumer::at(address), Usage::of(request)))
}

/// The limits of whoever has this pass.
pub(super) fn of_principal(pass: &Pass, request: &Request) -> Limited {
    let name = match &pass.principal {
        Principal::Open | Principal::Nobody => return None,
        Principal::Person(id) => format!("person {id}"),
        Principal::Program(_) => format!("key {}", pass.key.as_deref()?),
        Principal::Ticket(_) => format!("ticket {}", pass.ticket.as_deref()?),
    };
    Some((Consumer::Principal(name.into()), Usage::of(request)))
}

fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Client>().map(|client| client.address)
}

/// Answers a request within these limits.
pub(super) async fn within(app: &App, limited: Limited, answer: impl Future<Output = Response>) -> Response {
    let Some((consumer, usage)) = limited.filter(|(_, usage)| !usage.is_unlimited) else { return answer.await };
    let mut left = Vec::new();
    let answered = match app.limits.of(&consumer).take(&consumer, usage.is_submit, &mut left) {
        Ok(()) => with_slot(app, &consumer, usage, answer).await,
        Err(exceeded) => Err(exceeded),
    };
    let mut response = answered.unwrap_or_else(|exceeded| refuse(exceeded, usage));
    for [policy, left] in left.iter().filter_map(Left::fields) {
        response.headers_mut().append(RATE_LIMIT_POLICY, policy);
        response.headers_mut().append(RATE_LIMIT, left);
    }
    response
}

async fn with_slot(
    app: &App,
    consumer: &Consumer,
    usage: Usage,
    answer: impl Future<Output = Response>,
) -> Result<Response, Exceeded> {
    let limits = app.limits.of(consumer);
    let slot = if usage.waits { limits.stream(consumer)? } else { None };
    let response = answer.await;
    if !is_stream(&response) {
        return Ok(response);
    }
    let slot = match slot.map_or_else(|| limits.stream(consumer), |slot| Ok(Some(slot))) {
        Ok(Some(slot)) => slot,
        Ok(None) => return Ok(response),
        Err(exceeded) => {
            let mut refusal = refuse(exceeded, usage);
            // The task was made all the same.
            let location = response.headers().get(header::LOCATION).cloned();
            refusal.headers_mut().extend(location.map(|location| (header::LOCATION, location)));
            return Ok(refusal);
        }
    };
    Ok(response.map(|body| kept(body, slot)))
}

fn is_stream(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == EVENT_STREAM)
}

/// This body, which has this slot until it is dropped.
fn kept(body: Body, slot: Slot) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _kept = &slot;
        frame
    }))
}

/// A browser is told on a stream, so that it comes again; others by the status.
fn refuse(exceeded: Exceeded, usage: Usage) -> Response {
    let problem = Problem::from(exceeded);
    if usage.wants_stream { refused(&problem) } else { problem.into_response() }
}

/// What is answered to a wrong credential: this problem, or after too many of them that there were too many.
///
/// The credential has been looked at all the same. So who shares the address with somebody who guesses, and has a right
/// one, notices nothing; and who guesses is told less and less often what was wrong, each time on a new connection.
pub(super) fn failed(app: &App, extensions: &Extensions, problem: Problem) -> Problem {
    let noted = address(extensions).map_or(Ok(()), |address| app.limits.note_failed_credential(address));
    noted.map_or_else(Problem::from, |()| problem)
}

/// Adds to the description of a route what limits refuse.
pub(super) fn describe(method: &Method, path: &str, operation: &mut Operation) {
    if is_unlimited(path) {
        return;
    }
    let needs = needs(method.as_str(), path);
    let mut responses = operation.responses.responses.values();
    let is_stream =
        responses.any(|response| matches!(response, RefOr::T(given) if given.content.contains_key(EVENT_STREAM)));
    let mut parameters = operation.parameters.iter().flatten();
    let waits = *method == Method::GET
        && parameters.any(|parameter| matches!(parameter, RefOr::T(given) if given.name == "Prefer"));
    let holds = is_stream || waits || needs == Needs::Watch;
    let is_known = needs != Needs::Nothing;
    let responses = &mut operation.responses.responses;
    for (kind, applies) in [
        (&kinds::REQUESTS_PER_ADDRESS, true),
        (&kinds::STREAMS_PER_ADDRESS, holds),
        (&kinds::FAILED_CREDENTIALS_PER_ADDRESS, is_known),
        (&kinds::REQUESTS_PER_PRINCIPAL, is_known),
        (&kinds::SUBMITS_PER_PRINCIPAL, needs.is_to_submit()),
        (&kinds::STREAMS_PER_PRINCIPAL, is_known && holds),
    ] {
        if applies {
            refusals::add(responses, &[kind]);
        }
    }
}
