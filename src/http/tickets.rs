//! Tickets: what a back end hands to a browser, so that it can watch a few channels without a token of its own.

use std::time::Duration;

use axum::{Json as JsonAnswer, extract::State};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::Json,
    problem::{Finds, Problem, Reads},
    refusals::Refusals,
    streams::{CHANNELS_MAX, KnowsChannels, check_known, public_channel},
};
use crate::{
    access::Pass,
    event::{ChannelKind, Timestamp},
};

/// How long a ticket is valid unless said otherwise.
const TTL_SECONDS_DEFAULT: u64 = 300;
/// How long a ticket may be valid at most.
const TTL_SECONDS_MAX: u64 = 24 * 60 * 60;

/// The route of tickets.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(issue))
}

/// What a ticket is for.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewTicket {
    /// The channels that may be watched with it: `task:` and a UUID; `user:`, `group:` or `topic:` and a name; or the
    /// name of a topic.
    #[garde(length(min = 1, max = CHANNELS_MAX))]
    #[schema(min_items = 1, max_items = 100, example = json!(["user:alice"]))]
    channels: Vec<String>,
    /// For how many seconds it is valid, up to a day; 300 when absent. It ends earlier with the credential that it is
    /// asked for with.
    #[serde(default)]
    #[garde(inner(range(min = 1, max = TTL_SECONDS_MAX)))]
    #[schema(minimum = 1, maximum = 86400, default = 300)]
    ttl_seconds: Option<u64>,
}

/// A ticket.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IssuedTicket {
    /// The `ticket` parameter of streams.
    ticket: String,
    /// When it ends, and with it the streams that were opened with it.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Issues a ticket to watch channels.
///
/// Whoever has it may open streams of these channels with `?ticket=`, and do nothing else. It can be issued only for
/// channels that the caller may watch.
#[utoipa::path(
    post, path = "/api/tickets", operation_id = "issueTicket", tag = "streams",
    request_body(content = NewTicket, example = json!({ "channels": ["user:alice"], "ttlSeconds": 300 })),
    responses(
        (status = 200, description = "The ticket", body = IssuedTicket),
        Refusals<(Json<NewTicket>, Finds, Reads, KnowsChannels)>))]
async fn issue(
    State(app): State<App>,
    pass: Pass,
    Json(new): Json<NewTicket>,
) -> Result<JsonAnswer<IssuedTicket>, Problem> {
    let named = |name: &String| public_channel("channels", name);
    let channels = new.channels.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    // A ticket knows nobody who could leave the group.
    if pass.principal.person().is_some() && channels.iter().any(|channel| channel.kind() == ChannelKind::Group) {
        return Err(Problem::invalid(
            "channels",
            "may not be group: for a person: user: has what their groups are sent",
        ));
    }
    check_known(&app, &pass.principal, &channels).await?;
    let until = app.tracker.clock().now() + Duration::from_secs(new.ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT));
    let issued = app.access.issue_ticket(&channels, until, &pass);
    let (ticket, expires_at) = issued.ok_or_else(|| Problem::invalid("channels", "are too many for one ticket"))?;
    Ok(JsonAnswer(IssuedTicket { ticket, expires_at }))
}
