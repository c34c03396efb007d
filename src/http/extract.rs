//! What handlers take from requests: bodies, paths, queries. All that is refused here is a problem.
//!
//! Syntax that cannot be read is 400; what can be read but not accepted is 422 and names the member as it is on the
//! wire.

use std::io;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use bytes::Bytes;
use garde::Validate;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    App,
    fields::{Fields, FieldsError},
    problem::{Problem, kinds},
};
use crate::event::ChannelName;

/// A JSON body within its bounds.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T> FromRequest<App> for Json<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if body_type(request.headers()) != Some(BodyType::Json) {
            return Err(
                Problem::new(&kinds::UNSUPPORTED_TYPE).with_detail("Send JSON, with content-type application/json.")
            );
        }
        let body = read_body(request.into_body(), app.config.http.max_body_bytes).await?;
        valid(json_object(&body)?).map(Self)
    }
}

/// The content types that a body can be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyType {
    /// `application/json` or any `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// What the body is said to be.
pub(super) fn body_type(headers: &HeaderMap) -> Option<BodyType> {
    let text = single(headers, &header::CONTENT_TYPE).ok()??;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Some(BodyType::Json),
        "application/x-www-form-urlencoded" => Some(BodyType::Form),
        other if other.starts_with("application/") && other.ends_with("+json") => Some(BodyType::Json),
        _ => None,
    }
}

/// The whole body, at most `limit_bytes` of it.
pub(super) async fn read_body(body: Body, limit_bytes: usize) -> Result<Bytes, Problem> {
    let announced = http_body::Body::size_hint(&body).lower();
    let too_large = || Problem::new(&kinds::BODY_TOO_LARGE).with_detail(format!("At most {limit_bytes} bytes."));
    if announced > limit_bytes as u64 {
        return Err(too_large());
    }
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) if timed_out(error.as_ref()) => Err(Problem::new(&kinds::BODY_TIMED_OUT)),
        Err(_) => Err(Problem::new(&kinds::MALFORMED).with_detail("The body broke off.")),
    }
}

/// Whether the body ended because its client had been silent for too long.
pub(super) fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Reads a JSON object.
pub(super) fn json_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // The derived readers would take an array for the members in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::new(&kinds::INVALID).with_detail("The body is not a JSON object."));
    }
    json(body)
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        json_problem(error.inner(), field)
    })?;
    deserializer.end().map_err(|error| json_problem(&error, String::new()))?;
    Ok(value)
}

fn json_problem(error: &serde_json::Error, path: String) -> Problem {
    if error.is_data() {
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        return match member(path, reason) {
            whole if whole.is_empty() => Problem::new(&kinds::INVALID).with_detail(format!("The body: {reason}.")),
            member => Problem::invalid(member, reason),
        };
    }
    Problem::new(&kinds::MALFORMED).with_detail(format!("The body is not JSON: {error}."))
}

/// The member that is wrong. Of one that is missing or there twice, serde gives the path of its object, and the name
/// in the reason only.
fn member(path: String, reason: &str) -> String {
    let name = ["duplicate field `", "missing field `"].into_iter().find_map(|words| reason.strip_prefix(words));
    match name.and_then(|name| name.strip_suffix('`')) {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path,
    }
}

/// Lets through what is within its bounds.
pub(super) fn valid<T: Validate<Context = ()>>(value: T) -> Result<T, Problem> {
    let Err(report) = value.validate() else { return Ok(value) };
    let problem = Problem::new(&kinds::INVALID);
    Err(report.iter().fold(problem, |problem, (path, error)| {
        problem.with_error(camel_case(&path.to_string()), error.message().to_string())
    }))
}

/// `steps[1].max_attempts` as it is on the wire.
fn camel_case(path: &str) -> String {
    let mut after_underscore = false;
    path.chars().fold(String::with_capacity(path.len()), |mut name, letter| {
        match letter {
            '_' => after_underscore = true,
            letter if std::mem::take(&mut after_underscore) => name.push(letter.to_ascii_uppercase()),
            letter => name.push(letter),
        }
        name
    })
}

/// The id of a task in a path. What is no UUID is the id of no task.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskId(pub(super) Uuid);

impl FromRequestParts<App> for TaskId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_parameter(parts, app).await?;
        parse_id(&text).map(Self).ok_or_else(|| Problem::new(&kinds::TASK_NOT_FOUND).with_detail("Task ids are UUIDs."))
    }
}

/// The id that a client chose for a new task.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewTaskId(pub(super) Uuid);

impl FromRequestParts<App> for NewTaskId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_parameter(parts, app).await?;
        let id = parse_id(&text).filter(|id| !id.is_nil() && !id.is_max());
        id.map(Self).ok_or_else(|| Problem::invalid("taskId", "is not a UUID of the form 8-4-4-4-12"))
    }
}

/// A user in a path: their channel.
#[derive(Clone, Debug)]
pub(super) struct User(pub(super) ChannelName);

impl FromRequestParts<App> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_parameter(parts, app).await?;
        ChannelName::user(&text).map(Self).map_err(|error| Problem::invalid("userId", error.to_string()))
    }
}

impl User {
    /// The user's id.
    pub(super) fn id(&self) -> std::borrow::Cow<'_, str> {
        self.0.name()
    }
}

/// One text per id: hyphenated, in either case.
pub(super) fn parse_id(text: &str) -> Option<Uuid> {
    (text.len() == uuid::fmt::Hyphenated::LENGTH).then(|| text.parse().ok()).flatten()
}

async fn path_parameter(parts: &mut Parts, app: &App) -> Result<String, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| Problem::new(&kinds::MALFORMED).with_detail("The path is not UTF-8."))?;
    Ok(parameters.iter().next().map(|(_, value)| value.to_owned()).unwrap_or_default())
}

/// The parameters of a query whose names are all to be known.
#[derive(Debug)]
pub(super) struct Query(Fields);

impl FromRequestParts<App> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()).map(Self).map_err(query_problem)
    }
}

impl Query {
    /// A parameter; an empty one counts as absent.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.take(name).filter(|value| !value.is_empty())
    }

    /// A comma-separated parameter, each of its values read by `read`.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        values_max: usize,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        if text.split(',').count() > values_max {
            return Err(Problem::invalid(name, format!("has more than {values_max} values")));
        }
        text.split(',').map(|value| read(value).map_err(|reason| Problem::invalid(name, reason))).collect()
    }

    /// How many are asked for.
    pub(super) fn limit(&mut self, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.text("limit") else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| Problem::invalid("limit", format!("is a number from 1 to {max}")))
    }

    /// The route knows no more parameters.
    pub(super) fn end(self) -> Result<(), Problem> {
        self.0.end().map_err(query_problem)
    }
}

fn query_problem(error: FieldsError) -> Problem {
    match (&error, error.name()) {
        (FieldsError::Unknown(_), Some(name)) => {
            Problem::new(&kinds::UNKNOWN_PARAMETER).with_error(name, error.to_string())
        }
        (_, Some(name)) => Problem::new(&kinds::MALFORMED).with_error(name, error.to_string()),
        (_, None) => Problem::new(&kinds::MALFORMED).with_detail(format!("The query {error}.")),
    }
}

/// A header that may be there once, as visible ASCII.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let malformed = |reason: &str| Problem::new(&kinds::MALFORMED).with_error(name.as_str(), reason);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed("is not visible ASCII")),
        (Some(_), Some(_)) => Err(malformed("is given more than once")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::task::{NewTask, Report};

    fn refused<T: DeserializeOwned + Validate<Context = ()> + std::fmt::Debug>(body: &str) -> Problem {
        json::<T>(body.as_bytes()).and_then(valid).expect_err("refused")
    }

    #[test]
    fn what_is_no_json_is_malformed_and_says_where() {
        let nested = "[".repeat(200) + &"]".repeat(200);
        for body in ["", "{", "{]", "\u{feff}{}", "{} x", "{\"total\":1e999}", "{\"title\":\"\\ud800\"}", "NaN"] {
            let problem = refused::<NewTask>(body);
            assert_eq!(problem.kind(), &kinds::MALFORMED, "{body}");
            assert!(problem.sentence().contains("line 1 column"), "{}", problem.sentence());
        }
        assert_eq!(json::<Value>(nested.as_bytes()).expect_err("too deep").kind(), &kinds::MALFORMED);
        assert_eq!(json::<Value>(b"\"\xff\"").expect_err("no UTF-8").kind(), &kinds::MALFORMED);
    }

    #[test]
    fn what_is_out_of_bounds_is_named_as_on_the_wire() {
        let named = |problem: Problem| {
            assert_eq!(problem.kind(), &kinds::INVALID);
            problem.errors().iter().map(|error| error.field.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(refused::<NewTask>(r#"{"maxAttempts":0}"#)), "maxAttempts");
        assert_eq!(named(refused::<NewTask>(r#"{"maxAttempts":"x"}"#)), "maxAttempts");
        assert_eq!(
            named(refused::<NewTask>(r#"{"steps":[{"name":"a"},{"name":"b","weight":-1}]}"#)),
            "steps[1].weight"
        );
        assert_eq!(named(refused::<NewTask>(r#"{"steps":[{"name":1}]}"#)), "steps[0].name");
        assert_eq!(named(refused::<NewTask>(r#"{"steps":[{"weight":1}]}"#)), "steps[0].name");
        assert_eq!(named(refused::<NewTask>(r#"{"colour":1}"#)), "colour");
        assert_eq!(named(refused::<NewTask>(r#"{"kind":"a b","userId":"a/b"}"#)), "kind userId");
        assert_eq!(named(refused::<Report>(r#"{"stepProgress":101}"#)), "stepProgress");
        assert_eq!(named(refused::<Report>(r#"{"progress":1,"progress":2}"#)), "progress");
        assert_eq!(named(refused::<Report>(r#"{"current":99999999999999999999}"#)), "current");
        assert_eq!(named(refused::<Report>(r#"{"error":[1]}"#)), "error");
    }
}
