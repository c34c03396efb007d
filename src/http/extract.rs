//! Extractors: bodies, paths, queries, headers. Each refuses with a problem, and says with which, for the description
//! of the routes that use it.
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
use http::{HeaderMap, HeaderName, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    App,
    json_problem::explained,
    problem::{Problem, kinds},
    refusals::refuses,
    urlencoded::read_query,
};
use crate::event::{ChannelName, Name};

/// A JSON body within its bounds.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T> FromRequest<App> for Json<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        valid(read_json(&json_body(request, app).await?)?).map(Self)
    }
}

/// A JSON body, or none, which is as good as an empty object.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T> FromRequest<App> for OptionalJson<T>
where
    T: DeserializeOwned + Default + Validate<Context = ()>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if http_body::Body::is_end_stream(request.body()) {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, app).await.map(|Json(value)| Self(value))
    }
}

refuses!(OptionalJson<T> where T: kinds::MALFORMED, kinds::BODY_TIMED_OUT, kinds::BODY_TOO_LARGE,
    kinds::UNSUPPORTED_TYPE, kinds::INVALID);

/// A body that is a JSON array of names.
#[derive(Debug)]
pub(super) struct Names(pub(super) Vec<String>);

impl FromRequest<App> for Names {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let names: Vec<Name> = read_any_json(&json_body(request, app).await?)?;
        Ok(Self(names.into_iter().map(Into::into).collect()))
    }
}

refuses!(Names: kinds::MALFORMED, kinds::BODY_TIMED_OUT, kinds::BODY_TOO_LARGE, kinds::UNSUPPORTED_TYPE,
    kinds::INVALID);

async fn json_body(request: Request, app: &App) -> Result<Bytes, Problem> {
    if body_type(request.headers()) != Some(BodyType::Json) {
        return Err(Problem::new(&kinds::UNSUPPORTED_TYPE).with_detail("Send JSON with content-type application/json."));
    }
    read_body(request.into_body(), app.config.http.max_body_bytes).await
}

refuses!(Json<T> where T: kinds::MALFORMED, kinds::BODY_TIMED_OUT, kinds::BODY_TOO_LARGE, kinds::UNSUPPORTED_TYPE,
    kinds::INVALID);

/// The content types that a body can be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyType {
    /// `application/json` or any `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// The content type of the body.
pub(super) fn body_type(headers: &HeaderMap) -> Option<BodyType> {
    let text = single(headers, &header::CONTENT_TYPE).ok()??;
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_json = |essence: &str| {
        let (kind, subtype) = essence.split_once('/').unwrap_or_default();
        let (_, suffix) = subtype.rsplit_once('+').unwrap_or(("", subtype));
        kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
    };
    if is_json(essence) {
        Some(BodyType::Json)
    } else {
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded").then_some(BodyType::Form)
    }
}

/// The whole body, at most `limit_bytes` of it.
pub(super) async fn read_body(body: Body, limit_bytes: usize) -> Result<Bytes, Problem> {
    let announced = http_body::Body::size_hint(&body).lower();
    let too_large = || Problem::new(&kinds::BODY_TOO_LARGE).with_detail(format!("The limit is {limit_bytes} bytes."));
    if announced > limit_bytes as u64 {
        return Err(too_large());
    }
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) if timed_out(error.as_ref()) => Err(Problem::new(&kinds::BODY_TIMED_OUT)),
        Err(_) => Err(Problem::new(&kinds::MALFORMED).with_detail("The body ended too early.")),
    }
}

/// Reads a JSON object.
pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // The derived readers would take an array for the members in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::new(&kinds::INVALID).with_detail("The body: expected an object, found an array."));
    }
    read_any_json(body)
}

fn read_any_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|_| explained::<T>(body))
}

/// Whether the body ended because its client sent nothing for too long.
pub(super) fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Checks the bounds of each member.
pub(super) fn valid<T: Validate<Context = ()>>(value: T) -> Result<T, Problem> {
    let Err(report) = value.validate() else { return Ok(value) };
    let problem = Problem::new(&kinds::INVALID);
    Err(report.iter().fold(problem, |problem, (path, error)| {
        problem.with_error(camel_case(&path.to_string()), error.message().to_string())
    }))
}

/// `steps[1].max_attempts` as it is on the wire, and `r#type`, which Rust has to write so.
fn camel_case(path: &str) -> String {
    let mut after_underscore = false;
    path.replace("r#", "").chars().fold(String::with_capacity(path.len()), |mut name, letter| {
        match letter {
            '_' => after_underscore = true,
            letter if std::mem::take(&mut after_underscore) => name.push(letter.to_ascii_uppercase()),
            letter => name.push(letter),
        }
        name
    })
}

/// The id of a task in a path. No task has an id that is not a UUID.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Path, names("taskId"))]
pub(super) struct TaskId(
    /// The id of the task.
    pub(super) Uuid,
);

impl FromRequestParts<App> for TaskId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let id = path_parameter(parts, app, parse_id).await?;
        id.map(Self).ok_or_else(|| Problem::new(&kinds::TASK_NOT_FOUND).with_detail("Task ids are UUIDs."))
    }
}

refuses!(TaskId: kinds::MALFORMED, kinds::TASK_NOT_FOUND);

/// The id that a client chose for a new task.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Path, names("taskId"))]
pub(super) struct NewTaskId(
    /// A UUID that the client made, neither nil nor max.
    pub(super) Uuid,
);

impl FromRequestParts<App> for NewTaskId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let id = path_parameter(parts, app, parse_id).await?.filter(|id| !id.is_nil() && !id.is_max());
        id.map(Self).ok_or_else(|| Problem::invalid("taskId", NOT_A_TASK_ID))
    }
}

refuses!(NewTaskId: kinds::MALFORMED, kinds::INVALID);

/// A user in a path: their channel.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Path, names("userId"))]
pub(super) struct User(
    /// The id of the user.
    #[param(value_type = Name)]
    pub(super) ChannelName,
);

refuses!(User: kinds::MALFORMED, kinds::INVALID);

impl FromRequestParts<App> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let user = path_parameter(parts, app, ChannelName::user).await?;
        user.map(Self).map_err(|error| Problem::invalid("userId", error.to_string()))
    }
}

impl User {
    /// The user's id.
    pub(super) fn id(&self) -> std::borrow::Cow<'_, str> {
        self.0.name()
    }
}

/// A topic in a path: its channel.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Path, names("topic"))]
pub(super) struct Topic(
    /// The name of the topic.
    #[param(value_type = Name)]
    pub(super) ChannelName,
);

refuses!(Topic: kinds::MALFORMED, kinds::INVALID);

impl FromRequestParts<App> for Topic {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let topic = path_parameter(parts, app, ChannelName::topic).await?;
        topic.map(Self).map_err(|error| Problem::invalid("topic", error.to_string()))
    }
}

/// A group in a path: its channel.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Path, names("group"))]
pub(super) struct GroupName(
    /// The name of the group.
    #[param(value_type = Name)]
    pub(super) ChannelName,
);

refuses!(GroupName: kinds::MALFORMED, kinds::INVALID);

impl FromRequestParts<App> for GroupName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let group = path_parameter(parts, app, ChannelName::group).await?;
        group.map(Self).map_err(|error| Problem::invalid("group", error.to_string()))
    }
}

/// The detail of an id that is not one of a task.
const NOT_A_TASK_ID: &str = "must be a UUID in the form 8-4-4-4-12";

/// Reads the id of a task as a parameter of a query.
pub(super) fn task_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    parse_id(&text).map(Some).ok_or_else(|| de::Error::custom(NOT_A_TASK_ID))
}

/// One text per id: hyphenated, in either case.
fn parse_id(text: &str) -> Option<Uuid> {
    (text.len() == uuid::fmt::Hyphenated::LENGTH).then(|| text.parse().ok()).flatten()
}

/// Reads the one parameter of a path.
pub(super) async fn path_parameter<T>(
    parts: &mut Parts,
    app: &App,
    read: impl FnOnce(&str) -> T,
) -> Result<T, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| Problem::new(&kinds::MALFORMED).with_detail("The path is not UTF-8."))?;
    Ok(read(parameters.iter().next().map_or("", |(_, value)| value)))
}

/// The parameters of a query; unknown ones are refused.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T> FromRequestParts<App> for Query<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        valid(read_query(parts.uri.query().unwrap_or_default())?).map(Self)
    }
}

refuses!(Query<T> where T: kinds::MALFORMED, kinds::UNKNOWN_PARAMETER, kinds::INVALID);

/// The key by which a repeated request is recognized.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Header, names("Idempotency-Key"))]
pub(super) struct IdempotencyKey(
    /// The same key with the same request gives the same task.
    #[param(value_type = String, required = false, pattern = "^[!-~]{1,256}$", min_length = 1, max_length = 256)]
    pub(super) Option<String>,
);

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        const NAME: HeaderName = HeaderName::from_static("idempotency-key");
        let Some(key) = single(&parts.headers, &NAME)? else { return Ok(Self(None)) };
        let length_fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
        if !length_fits || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let detail = format!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
            return Err(Problem::new(&kinds::MALFORMED).with_error(NAME.as_str(), detail));
        }
        Ok(Self(Some(key.to_owned())))
    }
}

refuses!(IdempotencyKey: kinds::MALFORMED);

/// Proof of the right to report on a task.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Header, names("Lease-Token"))]
pub(super) struct LeaseToken(
    /// The token that came with the lease; required to report on a leased task.
    #[param(value_type = Uuid, required = false)]
    pub(super) Option<Uuid>,
);

impl FromRequestParts<App> for LeaseToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        const NAME: HeaderName = HeaderName::from_static("lease-token");
        let malformed = |_| Problem::new(&kinds::MALFORMED).with_error(NAME.as_str(), "must be a UUID");
        let token = single(&parts.headers, &NAME)?.map(|token| token.parse().map_err(malformed));
        token.transpose().map(Self)
    }
}

refuses!(LeaseToken: kinds::MALFORMED);

/// A header that may be there once, as visible ASCII.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let malformed = |reason: &str| Problem::new(&kinds::MALFORMED).with_error(name.as_str(), reason);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed("must be visible ASCII")),
        (Some(_), Some(_)) => Err(malformed("must be given only once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{NewTask, Report};

    fn refused<T: DeserializeOwned + Validate<Context = ()> + std::fmt::Debug>(body: &str) -> Problem {
        read_json::<T>(body.as_bytes()).and_then(valid).expect_err("refused")
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
