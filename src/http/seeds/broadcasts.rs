//! What is told to all who listen: one topic, of which two earlier systems have streams of their own.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        App,
        event_streams::{AcceptsStream, LastEventId, event_stream, head, refused},
        extract::Json,
        problem::{Problem, Writes},
        refusals::Refusals,
        topics::{Greeting, Publication, Publishes, named, stream},
    },
    periodic::Periodic,
};
use crate::{access::BROADCAST, event::ChannelName, stream::StreamBody, topics::broadcast, wire};

/// The topic of broadcasts.
pub(super) fn topic() -> Result<ChannelName, Problem> {
    ChannelName::topic(BROADCAST).map_err(Problem::internal)
}

/// The answer to a broadcast.
#[derive(Serialize, ToSchema)]
pub(super) struct Broadcast {
    /// True.
    success: bool,
    /// How many streams it was sent to.
    clients: usize,
    /// The `id` of the event on streams.
    #[schema(example = "k3f90000-1841")]
    event_id: String,
}

/// Listens to broadcasts.
///
/// First `connected` with an id for this client, then every broadcast with its name. With the setting `update-interval`,
/// the stream has an event `update` at intervals.
#[utoipa::path(
    get, path = "/api/events", operation_id = "listenToEvents", tag = "compatibility", params(LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("event: connected\ndata: {\"client_id\":\"…\"}\nid: k3f90000-1841\n\n")),
        Refusals<AcceptsStream>))]
pub(super) async fn events(
    State(app): State<App>,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
    method: Method,
) -> Result<Response, Problem> {
    if method == Method::HEAD {
        return Ok(head());
    }
    let hello = json!({ "client_id": Uuid::now_v7() });
    let greeting = Greeting { hello: Some((Some("connected"), hello.to_string().into())), ..Greeting::default() };
    let topic = topic()?;
    let Some(interval) = app.config.topics.update_interval else {
        return Ok(stream(&app, &topic, resume, &greeting).await);
    };
    let (opening, subscriber) = match greeting.watch(&app, &topic, resume).await {
        Ok(opened) => opened,
        Err(problem) => return Ok(refused(&problem)),
    };
    let watcher = Periodic::after(interval, subscriber, updates(&app));
    Ok(event_stream(StreamBody::opened(opening, watcher, named(&app), app.metrics.clone())))
}

fn updates(app: &App) -> impl FnMut() -> Bytes + Send + use<> {
    let clock = app.tracker.clock();
    let mut nth = 0_u64;
    move || {
        nth += 1;
        let update = json!({ "message": format!("Update {nth}"), "timestamp": clock.now() });
        wire::event(Some("update"), update.to_string().as_bytes(), None)
    }
}

/// Sends an event to all who listen to broadcasts.
#[utoipa::path(
    post, path = "/api/broadcast", operation_id = "broadcast", tag = "compatibility",
    request_body(content = Publication, example = json!({ "event": "announcement", "data": { "text": "Hello" } })),
    responses(
        (status = 200, description = "The event was sent", body = Broadcast),
        Refusals<(Json<Publication>, Writes, Publishes)>))]
pub(super) async fn send(
    State(app): State<App>,
    Json(publication): Json<Publication>,
) -> Result<axum::Json<Broadcast>, Problem> {
    let topic = topic()?;
    let event_id = publication.publish(&app, &topic, broadcast).await?.to_string();
    Ok(axum::Json(Broadcast { success: true, clients: app.tracker.watchers(&topic), event_id }))
}

/// Listens to broadcasts.
///
/// First an unnamed event that says that the connection stands, then every broadcast with its name.
#[utoipa::path(
    get, path = "/api/sse/events", operation_id = "listenToBroadcasts", tag = "compatibility", params(LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", example = json!(
            "data: {\"type\":\"connected\",\"message\":\"SSE connection established\"}\nid: k3f90000-1841\n\n")),
        Refusals<AcceptsStream>))]
pub(super) async fn sse_events(
    State(app): State<App>,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
    method: Method,
) -> Result<Response, Problem> {
    if method == Method::HEAD {
        return Ok(head());
    }
    let hello = Bytes::from_static(br#"{"type":"connected","message":"SSE connection established"}"#);
    let greeting = Greeting { hello: Some((None, hello)), ..Greeting::default() };
    Ok(stream(&app, &topic()?, resume, &greeting).await)
}
