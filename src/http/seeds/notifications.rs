//! Streams of notifications.

use axum::{extract::State, response::Response};
use garde::Validate;
use http::Method;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::{
    App,
    extract::Query,
    problem::{Problem, kinds},
    progress::{AcceptsStream, LastEventId, event_stream, head, refused},
    refusals::Refusals,
    streams::watch_as,
};
use crate::{
    access::{Principal, may_watch},
    event::{ChannelName, Name},
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
        Refusals<(Query<ListenQuery>, AcceptsStream)>))]
pub(in super::super) async fn listen(
    State(app): State<App>,
    principal: Principal,
    Query(query): Query<ListenQuery>,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
    method: Method,
) -> Result<Response, Problem> {
    // The cursor has its own reader.
    let ListenQuery { user_id, last_event_id: _cursor } = query;
    let user_id = user_id.map(String::from).or_else(|| principal.person().map(str::to_owned));
    let user_id = user_id.ok_or_else(|| Problem::invalid("userId", "is required"))?;
    let user = ChannelName::user(&user_id).map_err(Problem::internal)?;
    if !may_watch(&principal, &user, None) {
        return Err(Problem::new(&kinds::USER_NOT_FOUND));
    }
    if method == Method::HEAD {
        return Ok(head());
    }
    let (joined, watcher) = match watch_as(&app, &[], &[user], resume).await {
        Ok(opened) => opened,
        Err(problem) => return Ok(refused(&problem)),
    };
    let connected = wire::event(Some("connected"), br#"{"message":"Connected to notifications"}"#, None);
    let style = Style {
        dialect: Dialect::Named,
        opening: vec![connected],
        shows_state: true,
        heartbeat: Heartbeat::comment(app.config.streams.keep_alive),
    };
    Ok(event_stream(StreamBody::of_several(&joined, watcher, style, app.metrics.clone())))
}
