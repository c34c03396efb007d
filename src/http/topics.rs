//! Topics: publishing under a name, and watching what is published.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use garde::Validate;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    event_streams::{AcceptsStream, LastEventId, RETRY, event_stream, head, refused},
    extract::{Json, Query, Topic},
    negotiate::etag_matches,
    problem::{Problem, Reads, Writes, kinds},
    refusals::{Refusals, refusals},
    tasks::json_response,
};
use crate::{
    access::Principal,
    channel::{Join, Subscriber},
    event::{ChannelName, Cursor, Draft, Event, Resume, Timestamp, check_name},
    stream::{Heartbeat, StreamBody, Style},
    task::EventKey,
    topics::{EVENT_BYTES_MAX, EVENT_NAME_BYTES_MAX, value},
    wire::{self, Dialect, with_members},
};

/// Topics on a page unless said otherwise.
const LIST_LIMIT_DEFAULT: usize = 50;
/// Most topics on a page.
const LIST_LIMIT_MAX: usize = 500;
/// Longest id of an event that a client gives, in bytes.
const ID_BYTES_MAX: usize = 256;
/// What a stream says of itself under these names, no event may say.
const RESERVED: [&str; 2] = ["reset", "refused"];

/// The routes of topics.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read, put, delete)).routes(routes!(watch))
}

/// What is published.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Publication {
    /// Any JSON, up to 64 KiB.
    #[garde(custom(fits))]
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// The name of the event on streams: up to 128 bytes without control characters, neither `reset` nor `refused`. An
    /// event without a name is a `message`.
    #[serde(default)]
    #[garde(inner(custom(event_name)))]
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    event: Option<String>,
    /// The same request with the same id publishes nothing more: up to 256 bytes without control characters. It is
    /// remembered as long as a finished task.
    #[serde(default)]
    #[garde(inner(custom(event_id)))]
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    id: Option<String>,
}

fn fits(data: &RawValue, _: &()) -> garde::Result {
    let size = data.get().len();
    if size <= EVENT_BYTES_MAX {
        return Ok(());
    }
    Err(garde::Error::new(format!("must be at most {EVENT_BYTES_MAX} bytes of JSON, is {size}")))
}

/// Checks the name of an event that a client gives.
pub(super) fn event_name(name: &str, _: &()) -> garde::Result {
    if RESERVED.contains(&name) {
        return Err(garde::Error::new("is an event of the stream itself"));
    }
    line(name, EVENT_NAME_BYTES_MAX)
}

fn event_id(id: &str, _: &()) -> garde::Result {
    line(id, ID_BYTES_MAX)
}

fn line(text: &str, bytes_max: usize) -> garde::Result {
    if (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(garde::Error::new(format!("must be 1 to {bytes_max} bytes without control characters")))
}

impl Publication {
    /// Publishes it as `draft` makes it of a name and JSON; answers its place.
    pub(super) async fn publish(
        self,
        app: &App,
        topic: &ChannelName,
        draft: fn(&ChannelName, Option<String>, Bytes) -> Draft,
    ) -> Result<Cursor, Problem> {
        let draft = draft(topic, self.event, compact(self.data.get()).into());
        let key = self.id.map(|id| {
            let name = draft.name.as_deref().unwrap_or_default().as_bytes();
            EventKey::new(topic, &id, &[format!("{:?}\0", draft.class).as_bytes(), name, b"\0", &draft.data].concat())
        });
        Ok(app.tracker.cursor(app.tracker.append(vec![draft], key).await?.seq))
    }
}

/// JSON without the white space between its parts, so that it is one line and the same JSON has the same id.
fn compact(json: &str) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let is_part = |byte: &u8| {
        let is_quote = *byte == b'"' && !escaped;
        escaped = in_string && *byte == b'\\' && !escaped;
        in_string ^= is_quote;
        in_string || !byte.is_ascii_whitespace()
    };
    json.bytes().filter(is_part).collect()
}

/// What was published, and where.
#[derive(Serialize, ToSchema)]
struct Published {
    /// The name of the topic.
    #[schema(example = "news")]
    topic: String,
    /// The position of the event in the journal: its `id` on streams.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
}

/// A page of topics, in the order of their names.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TopicPage {
    topics: Vec<TopicSummary>,
    /// The `page` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
}

/// A topic and its last event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TopicSummary {
    /// The name of the topic.
    #[schema(example = "news")]
    topic: String,
    /// The position of its last event in the journal.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
    /// When its last event was published.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The value of a topic.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TopicValue {
    /// The name of the topic.
    #[schema(example = "news")]
    topic: String,
    /// The name of the event that put the value; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The value, as it was published.
    data: serde_json::Value,
    /// The position of the value in the journal: its `id` on streams, and the `ETag`.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
    /// When the value was put.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// Which topics are listed.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct TopicsQuery {
    /// How many topics to list.
    #[garde(inner(range(min = 1, max = LIST_LIMIT_MAX)))]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `nextPage` of the page before.
    #[garde(inner(custom(page_token)))]
    page: Option<String>,
}

/// The place after a page is the name of its last topic.
fn page_token(page: &str, _: &()) -> garde::Result {
    check_name(page).map_err(|_| garde::Error::new("is not a valid page token"))
}

refusals!(
    /// A topic is there from its first event on.
    Looks: kinds::TOPIC_NOT_FOUND
);
refusals!(
    /// An event may be one too many, or use an id again.
    Publishes: kinds::TOO_MANY_TOPICS, kinds::MISMATCH
);

/// Lists the topics on which something was published.
#[utoipa::path(
    get, path = "/api/topics", operation_id = "listTopics", tag = "topics", params(TopicsQuery),
    responses(
        (status = 200, description = "A page of topics", body = TopicPage),
        Refusals<Query<TopicsQuery>>))]
async fn list(State(app): State<App>, principal: Principal, Query(query): Query<TopicsQuery>) -> axum::Json<TopicPage> {
    let is_shown = |topic: &ChannelName| principal.person().is_none() || app.access.is_public(topic);
    let after = query.page.and_then(|name| ChannelName::topic(&name).ok());
    let (topics, has_more) = app.tracker.topics(after.as_ref(), query.limit.unwrap_or(LIST_LIMIT_DEFAULT), is_shown);
    let summaries = topics.iter().map(|(topic, last)| TopicSummary {
        topic: topic.name().into_owned(),
        cursor: app.tracker.cursor(last.seq).to_string(),
        updated_at: last.at,
    });
    let topics: Vec<_> = summaries.collect();
    let next_page = topics.last().filter(|_| has_more).map(|last| last.topic.clone());
    axum::Json(TopicPage { topics, next_page })
}

/// Puts a value on a topic, and shows it to all who watch.
///
/// It is durable when this answers, and is the first that later watchers are shown. A topic begins with its first event.
#[utoipa::path(
    put, path = "/api/topics/{topic}", operation_id = "putTopic", tag = "topics", params(Topic),
    request_body(content = Publication, example = json!({ "event": "headline", "data": { "title": "Hello" } })),
    responses(
        (status = 200, description = "The value was put", body = Published),
        Refusals<(Topic, Json<Publication>, Writes, Publishes)>))]
async fn put(
    State(app): State<App>,
    topic: Topic,
    Json(publication): Json<Publication>,
) -> Result<axum::Json<Published>, Problem> {
    let cursor = publication.publish(&app, &topic.0, value).await?.to_string();
    Ok(axum::Json(Published { topic: topic.0.name().into_owned(), cursor }))
}

/// Reads the value of a topic.
#[utoipa::path(
    get, path = "/api/topics/{topic}", operation_id = "readTopic", tag = "topics",
    params(Topic, ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the value that the client has")),
    responses(
        (status = 200, description = "The value", body = TopicValue, headers(
            ("etag" = String, description = "The cursor of this value"))),
        (status = 304, description = "The value has not changed"),
        Refusals<(Topic, Reads, Looks)>))]
async fn read(State(app): State<App>, topic: Topic, headers: HeaderMap) -> Result<Response, Problem> {
    let Some(event) = app.tracker.value(&topic.0).await? else {
        return Err(Problem::new(&kinds::TOPIC_NOT_FOUND).with_detail("No value was put on this topic."));
    };
    let etag = format!("\"{}\"", app.tracker.cursor(event.seq));
    let mut response = if etag_matches(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        json_response(StatusCode::OK, document(&topic.0, &event, &etag))
    };
    // A cursor is letters, digits and a hyphen.
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn document(topic: &ChannelName, event: &Event, cursor: &str) -> Bytes {
    // A text always has a JSON text.
    let name = event.draft.name.as_ref().map(|name| serde_json::to_vec(name).unwrap_or_default());
    let (topic, updated_at) = (format!("\"{}\"", topic.name()), format!("\"{}\"", event.at));
    let name = name.as_ref().map(|name| ("event", &name[..]));
    let members =
        [("data", &event.draft.data[..]), ("cursor", cursor.as_bytes()), ("updatedAt", updated_at.as_bytes())];
    let members: Vec<_> = [("topic", topic.as_bytes())].into_iter().chain(name).chain(members).collect();
    with_members(b"{}", members)
}

/// Deletes a topic, its value and its past.
///
/// Streams of it end. A later event begins it anew.
#[utoipa::path(
    delete, path = "/api/topics/{topic}", operation_id = "deleteTopic", tag = "topics", params(Topic),
    responses(
        (status = 204, description = "The topic was deleted"),
        Refusals<(Topic, Writes, Looks)>))]
async fn delete(State(app): State<App>, topic: Topic) -> Result<StatusCode, Problem> {
    app.tracker.delete_topic(&topic.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Watches a topic, also one on which nothing was published yet.
///
/// Server-Sent Events: first the value, if there is one, then each event with its own name, its data as it was published,
/// and its cursor as `id`, from which a later stream resumes. `reset` says that a cursor could not be used and that the
/// value follows; `refused` says why there is no stream now and when to try again.
#[utoipa::path(
    get, path = "/api/topics/{topic}/events", operation_id = "watchTopic", tag = "topics", params(Topic, LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("retry: 2000\n\nevent: headline\ndata: {\"title\":\"Hello\"}\nid: k3f90000-1841\n\n")),
        Refusals<(Topic, AcceptsStream)>))]
async fn watch(
    State(app): State<App>,
    topic: Topic,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return head();
    }
    stream(&app, &topic.0, resume, &Greeting { first: Some(wire::retry(RETRY)), ..Greeting::default() }).await
}

/// How a stream of a topic begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {
    /// Bytes before anything else.
    pub(super) first: Option<Bytes>,
    /// An event that is shown in place of the value: its name and data.
    pub(super) hello: Option<(Option<&'static str>, Bytes)>,
    /// The name under which the value is shown, if it is not its own.
    pub(super) value_name: Option<&'static str>,
}

impl Greeting {
    /// A watcher of this topic, and the bytes before the first delivery.
    pub(super) async fn watch(
        &self,
        app: &App,
        topic: &ChannelName,
        resume: Resume,
    ) -> Result<(Vec<Bytes>, Subscriber), Problem> {
        let (join, subscriber) = app.tracker.watch(topic, resume).await?;
        Ok((self.bytes(topic, &join, app.tracker.cursor(subscriber.position())), subscriber))
    }

    /// The bytes before the first delivery. They tell where the watcher stands, unless it goes on from its own cursor.
    fn bytes(&self, topic: &ChannelName, join: &Join, position: Cursor) -> Vec<Bytes> {
        let position = (!matches!(join, Join::Resumed)).then_some(position);
        let hello = self.hello.as_ref().map(|(name, data)| wire::event(*name, data, position));
        let value = join.state().map(|frame| &frame.event().draft);
        let value = value.map(|draft| wire::event(self.value_name.or(draft.name.as_deref()), &draft.data, position));
        let place = value.or(position.map(wire::position)).filter(|_| hello.is_none());
        let reset = join.is_reset().then(|| wire::reset(topic));
        self.first.iter().cloned().chain(hello).chain(reset).chain(place).collect()
    }
}

/// A stream of this topic.
pub(super) async fn stream(app: &App, topic: &ChannelName, resume: Resume, greeting: &Greeting) -> Response {
    match greeting.watch(app, topic, resume).await {
        Ok((opening, watcher)) => event_stream(StreamBody::opened(opening, watcher, named(app), app.metrics.clone())),
        Err(problem) => refused(&problem),
    }
}

/// Each event with its own name.
pub(super) fn named(app: &App) -> Style {
    Style {
        dialect: Dialect::Named,
        opening: Vec::new(),
        shows_state: false,
        heartbeat: Heartbeat::comment(app.config.streams.keep_alive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_between_the_parts_of_json_is_left_out() {
        let text = "{ \"a b\" : [ 1 ,\r\n\t2.50 ] , \"\\\" \\\\\" : \" \\\\\\\" x\" }";
        assert_eq!(compact(text), br#"{"a b":[1,2.50],"\" \\":" \\\" x"}"#);
    }
}
