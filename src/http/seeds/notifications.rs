//! Notifications: two streams of them, and mentions.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::super::{
    App,
    event_streams::{AcceptsStream, LastEventId, event_stream, head, refused},
    extract::{Json, Query, User},
    guard::HasEffect,
    notifications::MeetsUsers,
    problem::{Problem, Writes, kinds},
    refusals::Refusals,
    streams::watch_as,
};
use crate::{
    access::{Principal, Ties, may_watch},
    event::{ChannelName, NAME_BYTES_MAX, Name, Resume},
    people::{NewNotification, one_line},
    stream::{Heartbeat, StreamBody, Style},
    wire::{self, Dialect},
};

/// The user who listens.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListenQuery {
    /// The id of the user; not needed with the token of a person.
    #[garde(skip)]
    #[serde(default)]
    #[param(required = false)]
    user_id: Option<Name>,
    /// The cursor from which to resume, for clients that cannot set headers.
    #[garde(skip)]
    #[serde(default)]
    #[param(required = false)]
    last_event_id: Option<String>,
}

/// Listens to the notifications of a user.
///
/// First `connected`, then `notification` for each notification to the user and to the groups of the user: those that
/// wait, and those that come. The user is connected as long as this stream is open.
#[utoipa::path(
    get, path = "/api/notifications/stream", operation_id = "listenToNotifications", tag = "compatibility",
    params(ListenQuery, ("Last-Event-ID" = Option<String>, Header, description = "The cursor from which to resume")),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("event: connected\ndata: {\"message\":\"Connected to notifications\"}\n\n")),
        Refusals<(HasEffect, Query<ListenQuery>, AcceptsStream)>))]
pub(in super::super) async fn listen(
    State(app): State<App>,
    principal: Principal,
    effect: HasEffect,
    Query(query): Query<ListenQuery>,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
) -> Result<Response, Problem> {
    // The cursor has its own reader.
    let ListenQuery { user_id, last_event_id: _cursor } = query;
    let user_id = user_id.map(String::from).or_else(|| principal.person().map(str::to_owned));
    let user_id = user_id.ok_or_else(|| Problem::invalid("userId", "is required"))?;
    let user = ChannelName::user(&user_id).map_err(Problem::internal)?;
    if !may_watch(&principal, &user, Ties::default()) {
        return Err(Problem::new(&kinds::USER_NOT_FOUND));
    }
    let connected = wire::event(Some("connected"), br#"{"message":"Connected to notifications"}"#, None);
    Ok(stream(&app, effect, user, resume, Dialect::Named, vec![connected]).await)
}

/// Subscribes to the notifications of a user.
///
/// Each is `{"Title","Message","OccurredAt"}`, first those that wait. Events carry no id: what was sent on this stream is
/// not sent again. The user is connected as long as this stream is open.
#[utoipa::path(
    get, path = "/api/notifications/subscribe/{userId}", operation_id = "subscribeToNotifications",
    tag = "compatibility", params(User, LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("data: {\"Title\":\"Build\",\"Message\":\"It has passed.\",\"OccurredAt\":\"2026-01-31T08:15:00.042Z\"}\n\n")),
        Refusals<(HasEffect, User, AcceptsStream)>))]
pub(in super::super) async fn subscribe(
    State(app): State<App>,
    effect: HasEffect,
    User(user): User,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
) -> Response {
    stream(&app, effect, user, resume, Dialect::Pascal, Vec::new()).await
}

/// A stream of the notifications of a user.
async fn stream(
    app: &App,
    effect: HasEffect,
    user: ChannelName,
    resume: Resume,
    dialect: Dialect,
    opening: Vec<Bytes>,
) -> Response {
    if effect.is_head {
        return head();
    }
    let (joined, mut watcher) = match watch_as(app, &[], std::slice::from_ref(&user), None, resume).await {
        Ok(opened) => opened,
        Err(problem) => return refused(&problem),
    };
    if !dialect.has_ids() {
        // Its clients cannot tell what they have seen.
        let (presence, user_id) = (app.presence.clone(), Arc::<str>::from(user.name()));
        watcher.on_taken(move |seq| presence.saw(&user_id, seq));
    }
    let heartbeat = Heartbeat::comment(app.config.streams.keep_alive);
    let style = Style { dialect, opening, shows_state: true, heartbeat };
    event_stream(StreamBody::of_several(&joined, watcher, style, app.metrics.clone()))
}

/// A text in which a user was mentioned.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in super::super) struct Mention {
    /// The text.
    #[garde(length(bytes, min = 1, max = 4096))]
    #[schema(min_length = 1, max_length = 4096)]
    text: String,
    /// Who wrote it: one line, up to 128 bytes.
    #[garde(length(bytes, min = 1, max = NAME_BYTES_MAX), custom(one_line))]
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    mentioned_by: String,
}

/// A word that it is done.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Success {
    /// Always `true`.
    success: bool,
}

/// Tells a user that they were mentioned: a notification of type `mention`.
#[utoipa::path(
    post, path = "/api/users/{userId}/mention", operation_id = "mentionUser", tag = "compatibility", params(User),
    request_body(content = Mention, example = json!({ "text": "Have a look, @alice", "mentionedBy": "bob" })),
    responses(
        (status = 200, description = "The notification was sent", body = Success),
        Refusals<(User, Json<Mention>, Writes, MeetsUsers)>))]
pub(in super::super) async fn mention(
    State(app): State<App>,
    User(user): User,
    Json(Mention { text, mentioned_by: by }): Json<Mention>,
) -> Result<axum::Json<Success>, Problem> {
    let new = NewNotification {
        title: format!("{by} mentioned you"),
        message: text,
        r#type: Some("mention".into()),
        data: Some(json!({ "mentionedBy": by })),
        id: None,
    };
    app.tracker.notify(&user, new).await?;
    Ok(axum::Json(Success { success: true }))
}
