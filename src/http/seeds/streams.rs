//! Streams: of the messages to a user, and of ten messages to anybody.

use std::time::Duration;

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use serde::Serialize;
use tokio::time::{Interval, interval};
use utoipa::ToSchema;

use super::{
    super::{
        App,
        event_streams::{AcceptsStream, LastEventId, event_stream, head, refused},
        extract::User,
        guard::HasEffect,
        problem::Problem,
        refusals::Refusals,
    },
    STEP,
};
use crate::{
    event::Timestamp,
    stream::{Heartbeat, StreamBody, Style},
    wire::{self, Dialect},
};

/// What keeps a user's stream alive …
const KEEP_ALIVE: &str = "<3: Keep alive";
/// … and how often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Messages of `/sse`.
const MESSAGES: u32 = 10;

/// The answer to a caller who ended the streams of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct Disconnection {
    /// Who was disconnected.
    #[schema(example = "User 'alice' disconnected")]
    message: String,
}

/// Listens to the messages to a user, who is connected as long as this stream is open.
///
/// First `User '{userId}' connected`, then `<3: Keep alive` at once and every five seconds, and every message to the
/// user.
#[utoipa::path(
    get, path = "/sse/connect/{userId}", operation_id = "connectUser", tag = "compatibility",
    params(User, LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("data: User 'alice' connected\n\ndata: <3: Keep alive\n\n")),
        Refusals<(HasEffect, User, AcceptsStream)>))]
pub(super) async fn connect(
    State(app): State<App>,
    effect: HasEffect,
    user: User,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
) -> Result<Response, Problem> {
    if effect.is_head {
        return Ok(head());
    }
    let guard = match app.presence.connect(&user.0).await {
        Ok(guard) => guard,
        Err(error) => return Ok(refused(&error.into())),
    };
    let (join, mut subscriber) = match app.tracker.watch(&user.0, resume).await {
        Ok(opened) => opened,
        Err(error) => return Ok(refused(&error.into())),
    };
    match app.presence.confirm(&user.0, guard).await {
        Ok(guard) => subscriber.hold(guard),
        Err(error) => return Ok(refused(&error.into())),
    }
    let keep_alive = wire::text(KEEP_ALIVE.as_bytes());
    let style = Style {
        dialect: Dialect::Plain,
        opening: vec![wire::text(format!("User '{}' connected", user.id()).as_bytes()), keep_alive.clone()],
        shows_state: false,
        heartbeat: Heartbeat { every: KEEP_ALIVE_INTERVAL, bytes: keep_alive, when_quiet: false },
    };
    Ok(event_stream(StreamBody::new(&join, subscriber, style, app.metrics.clone())))
}

/// Ends the streams of a user, who is disconnected at once.
#[utoipa::path(
    get, path = "/sse/disconnect/{userId}", operation_id = "disconnectUser", tag = "compatibility", params(User),
    responses(
        (status = 200, description = "The user is disconnected", body = Disconnection),
        Refusals<(HasEffect, User)>))]
pub(super) async fn disconnect(State(app): State<App>, effect: HasEffect, user: User) -> axum::Json<Disconnection> {
    if !effect.is_head {
        app.presence.disconnect(&user.0);
    }
    axum::Json(Disconnection { message: format!("User '{}' disconnected", user.id()) })
}

/// Sends ten messages, one a second.
#[utoipa::path(
    get, path = "/sse", operation_id = "tenMessages", tag = "compatibility",
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("data: Message 0 à 2026-01-31T08:15:00.042Z\n\n")),
        Refusals<AcceptsStream>))]
pub(super) async fn messages(State(app): State<App>, _accepts: AcceptsStream, method: Method) -> Response {
    if method == Method::HEAD {
        return head();
    }
    let messages = stream::unfold((app, interval(STEP), 0), next_message);
    event_stream(Body::from_stream(messages))
}

async fn next_message(
    (app, mut interval, index): (App, Interval, u32),
) -> Option<(Result<Bytes, std::io::Error>, (App, Interval, u32))> {
    if index == MESSAGES {
        return None;
    }
    app.draining.run_until_cancelled(interval.tick()).await?;
    let now: Timestamp = app.tracker.clock().now();
    Some((Ok(wire::text(format!("Message {index} à {now}").as_bytes())), (app, interval, index + 1)))
}
