//! Watching several channels at once: one stream, or one long poll, with one cursor for all of them.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use garde::Validate;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    event_streams::{AcceptsStream, RETRY, event_stream, head_of, refused, resume},
    extract::valid,
    negotiate::{preferred_wait, wants_json},
    problem::{Finds, Problem, kinds},
    refusals::{Refusals, refusals, refuses},
    room::Room,
    tasks::json_response,
    urlencoded::read_query,
};
use crate::{
    access::{Principal, Ties, may_watch},
    channel::{Delivery, Join, Joined},
    event::{ChannelKind, ChannelName, Resume, Seq},
    stream::{Heartbeat, StreamBody, Style},
    tracker::MemberWatcher,
    wire::{self, Dialect, Frame, with_members},
};

/// Most channels of one stream.
pub(super) const CHANNELS_MAX: usize = 100;
/// Most events in one answer to a long poll.
const BATCH_EVENTS_MAX: usize = 1_000;
/// An answer to a long poll that has grown to this ends.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How long a long poll waits, unless its client prefers otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// The routes of streams of several channels.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// How the events of a stream are framed.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StreamDialect {
    /// `event: progress`, the whole state of the task as data; texts to users as they are, unnamed.
    Progress,
    /// `event` with the event's own name, its data as it is.
    Named,
    /// Unnamed events; data is `{"channel":"task:…","data":…}`.
    #[default]
    Multiplexed,
}

/// What a stream of several channels is asked for, beside its channels.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// How events are framed.
    #[garde(skip)]
    #[param(inline, required = false)]
    dialect: StreamDialect,
    /// The cursor from which to resume, for clients that cannot set headers.
    #[garde(skip)]
    last_event_id: Option<String>,
    /// A ticket for the channels; not needed while access is off.
    #[garde(skip)]
    ticket: Option<String>,
}

/// The channels to watch, none for everything, and how.
#[derive(Debug)]
pub(super) struct Watched {
    channels: Vec<ChannelName>,
    dialect: Dialect,
    resume: Resume,
}

impl FromRequestParts<App> for Watched {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let (channels, others): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|pair| pair.starts_with("channel="));
        let others = others.join("&");
        let StreamQuery { dialect, .. } = valid(read_query(&others)?)?;
        let mut names = Vec::new();
        for channel in channels {
            let name = read_channel(channel.trim_start_matches("channel="))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > CHANNELS_MAX {
            return Err(Problem::invalid("channel", format!("must be given at most {CHANNELS_MAX} times")));
        }
        let dialect = match dialect {
            StreamDialect::Progress => Dialect::Progress,
            StreamDialect::Named => Dialect::Named,
            StreamDialect::Multiplexed => Dialect::Multiplexed,
        };
        Ok(Self { channels: names, dialect, resume: resume(&parts.headers, &others) })
    }
}

refusals!(
    /// A channel may be one that the caller may not know of.
    KnowsChannels: kinds::TASK_NOT_FOUND, kinds::USER_NOT_FOUND, kinds::GROUP_NOT_FOUND, kinds::TOPIC_NOT_FOUND
);
refuses!(Watched: kinds::MALFORMED, kinds::UNKNOWN_PARAMETER, kinds::INVALID);

fn read_channel(text: &str) -> Result<ChannelName, Problem> {
    let text = percent_decode_str(text).decode_utf8().unwrap_or_default();
    public_channel("channel", &text)
}

/// A channel that clients may name in this place of a request; a bare name is that of a topic.
pub(super) fn public_channel(place: &'static str, text: &str) -> Result<ChannelName, Problem> {
    use ChannelKind::{Group, Task, Topic, User};
    let is_public = |name: &ChannelName| matches!(name.kind(), Task | User | Group | Topic);
    let name = if text.contains(':') { text.parse() } else { ChannelName::topic(text) };
    name.ok().filter(|name| is_public(name) && name != ChannelName::all_topics()).ok_or_else(|| {
        Problem::invalid(place, "must be task: and a UUID; user:, group: or topic: and a name; or the name of a topic")
    })
}

/// A batch of events.
#[derive(Serialize, ToSchema)]
struct EventBatch {
    /// The current state of each channel on the first poll or after a reset, then what happened since the cursor.
    events: Vec<BatchEvent>,
    /// Channels on which the cursor could not be used; their current state is among the events.
    reset: Vec<String>,
    /// The `lastEventId` of the next poll.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
    /// Whether nothing more will come: every channel has ended.
    ended: bool,
}

/// One event of a batch.
#[derive(Serialize, ToSchema)]
struct BatchEvent {
    /// The channel on which it happened.
    #[schema(example = "task:0199c0de-0000-7000-8000-000000000001")]
    channel: String,
    /// The whole state of a task, or a text to a user.
    data: serde_json::Value,
    /// The event's name.
    event: Option<String>,
}

/// Watches several channels.
///
/// One connection and one cursor for up to 100 channels: `?channel=task:{id}&channel=user:{name}&channel=group:{name}&channel={topic}`.
/// A name alone is a topic, as `topic:{name}` is. A member watches a group from where they joined, and as long as they are
/// in it. Without `channel` everything is watched that the caller may see of topics and themselves: all topics, or of a
/// person those that are public and their own channel, or of a ticket its channels; of topics only what happens from now on
/// or after the cursor is sent. First the current state of each, then every change in one sequence; frequent changes of a task are merged to the latest. A cursor
/// resumes all of them exactly; `event: reset` names a channel on which it cannot be used. The stream ends when all its
/// tasks have ended. With `Accept: application/json` the same URL is a long poll: it answers as soon as there is
/// something, at the latest after `Prefer: wait=` seconds (30 when absent).
#[utoipa::path(
    get, path = "/api/stream", operation_id = "watchChannels", tag = "streams",
    params(
        ("channel" = Option<Vec<String>>, Query, description = "The channels to watch; give the parameter once for each",
            max_items = 100, example = json!(["task:0199c0de-0000-7000-8000-000000000001", "user:alice"])),
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The cursor from which to resume"),
        ("Prefer" = Option<String>, Header, description = "`wait=` and seconds, for a long poll", example = "wait=30")),
    responses(
        (status = 200, description = "The stream, or a batch of events", content(
            (String = "text/event-stream"), (EventBatch = "application/json"))),
        (status = 204, description = "The client has seen the end of every channel"),
        Refusals<(Watched, AcceptsStream, Finds, KnowsChannels, Room)>))]
async fn watch(
    State(app): State<App>,
    principal: Principal,
    watched: Watched,
    room: Room,
    headers: HeaderMap,
    method: Method,
    accepts: Result<AcceptsStream, Problem>,
) -> Result<Response, Problem> {
    let is_poll = wants_json(&headers);
    if !is_poll {
        accepts?;
    }
    let channels = if watched.channels.is_empty() { everything(&principal) } else { watched.channels };
    // All topics are asked for by nobody's name: of people and most programs, each event is looked at.
    let named = channels.iter().filter(|channel| *channel != ChannelName::all_topics());
    if let Err(problem) = check_known(&app, &principal, named.clone()).await {
        return if is_poll { Err(problem) } else { Ok(refused(&problem)) };
    }
    let is_head = method == Method::HEAD && !is_poll;
    // Only to be asked for the head makes nobody connected.
    let is_followed = |name: &&ChannelName| name.kind() == ChannelKind::User && !is_head;
    let users: Vec<_> = channels.iter().filter(is_followed).cloned().collect();
    let member = principal.person().and_then(|id| ChannelName::user(id).ok());
    let (joined, watcher) = match watch_as(&app, &channels, &users, member.as_ref(), watched.resume).await {
        Ok((joined, mut watcher)) => {
            if named.clone().count() < channels.len()
                && !may_watch(&principal, ChannelName::all_topics(), Ties::default())
            {
                let access = app.access.clone();
                watcher.show_only(move |name| name.kind() != ChannelKind::Topic || access.is_public(name));
            }
            (joined, watcher)
        }
        Err(problem) if is_poll => return Err(problem),
        Err(_) if is_head => return Ok(head_of(false)),
        Err(problem) => return Ok(refused(&problem)),
    };
    let has_ended = joined.channels.iter().all(|(_, join)| matches!(join, Join::Ended));
    if has_ended || is_head {
        return Ok(head_of(has_ended));
    }
    if is_poll {
        let wait = preferred_wait(&headers).unwrap_or(WAIT_DEFAULT);
        return poll(&app, &room, &joined, watcher, wait).await;
    }
    let style = Style {
        dialect: watched.dialect,
        opening: vec![wire::retry(RETRY)],
        shows_state: true,
        heartbeat: Heartbeat::comment(app.config.streams.keep_alive),
    };
    Ok(event_stream(StreamBody::of_several(&joined, watcher, style, app.metrics.clone())))
}

/// The channels of all that a principal may see of topics and themselves.
fn everything(principal: &Principal) -> Vec<ChannelName> {
    match principal {
        Principal::Ticket(channels) => channels.to_vec(),
        _ => {
            let own = principal.person().and_then(|id| ChannelName::user(id).ok());
            own.into_iter().chain([ChannelName::all_topics().clone()]).collect()
        }
    }
}

/// Watches channels, those of groups as this member, and what these users are notified of; they are connected as long as
/// it is watched. A client that comes back with a cursor has seen what was before it.
pub(super) async fn watch_as(
    app: &App,
    channels: &[ChannelName],
    users: &[ChannelName],
    member: Option<&ChannelName>,
    resume: Resume,
) -> Result<(Joined, MemberWatcher), Problem> {
    let mut guards = Vec::with_capacity(users.len());
    for user in users {
        guards.push(app.presence.connect(user).await?);
    }
    let (joined, mut watcher) = app.tracker.watch_several(channels, users, member, resume).await?;
    for (user, guard) in users.iter().zip(guards) {
        watcher.hold(app.presence.confirm(user, guard).await?);
    }
    let goes_on =
        |(channel, join): &&(ChannelName, Join)| channel.kind() == ChannelKind::Inbox && matches!(join, Join::Resumed);
    if let Resume::After(cursor) = resume {
        let inboxes = joined.channels.iter().filter(goes_on);
        inboxes.for_each(|(inbox, _)| app.presence.saw(&inbox.name(), cursor.seq));
    }
    Ok((joined, watcher))
}

/// Refuses channels of tasks that are not there, and channels that look to the principal as if they were not there.
pub(super) async fn check_known(
    app: &App,
    principal: &Principal,
    channels: impl IntoIterator<Item = &ChannelName>,
) -> Result<(), Problem> {
    let known = channels.into_iter().map(async |channel| {
        let hidden = match channel.kind() {
            ChannelKind::Task => &kinds::TASK_NOT_FOUND,
            ChannelKind::Topic => &kinds::TOPIC_NOT_FOUND,
            ChannelKind::Group => &kinds::GROUP_NOT_FOUND,
            _ => &kinds::USER_NOT_FOUND,
        };
        let named = |problem: Problem| problem.with_detail(format!("The channel {channel}."));
        // Only for people it depends on whose task it is.
        let owned = channel.id().filter(|_| principal.person().is_some());
        let is_member = match principal.person().filter(|_| channel.kind() == ChannelKind::Group) {
            Some(user_id) => app.tracker.is_member(user_id, &channel.name()).await?,
            None => false,
        };
        let ties = Ties { owner: None, is_member, is_public: app.access.is_public(channel) };
        if owned.is_none() && !may_watch(principal, channel, ties) {
            return Err(named(Problem::new(hidden)));
        }
        let Some(id) = channel.id() else { return Ok(()) };
        principal.known(app.tracker.find(id).await?).map(drop).map_err(named)
    });
    try_join_all(known).await.map(drop)
}

/// Answers a long poll: with what there is, or with what comes first.
async fn poll(
    app: &App,
    room: &Room,
    joined: &Joined,
    mut watcher: MemberWatcher,
    wait: Duration,
) -> Result<Response, Problem> {
    let states: Vec<_> = joined.channels.iter().filter_map(|(_, join)| join.state()).collect();
    let wait = if states.is_empty() { wait } else { Duration::ZERO };
    let mut next = tokio::time::timeout(wait, watcher.next()).await;
    // A client that waits has no room yet.
    let held = room.bytes(BATCH_BYTES_MAX).await?;
    let mut events: Vec<Bytes> = states.into_iter().map(listed).collect();
    let mut size_bytes = 0;
    let mut position = Seq::ZERO;
    let ended = loop {
        match next {
            Ok(Delivery::Frame(frame)) => {
                let event = listed(&frame);
                size_bytes += event.len();
                events.push(event);
            }
            Ok(Delivery::Ended { .. }) => break true,
            // The next poll goes on from the cursor.
            Ok(
                Delivery::Bytes(_) | Delivery::Lapsed | Delivery::HungUp | Delivery::Interrupted | Delivery::Draining,
            ) => break false,
            Err(_) => {
                // What had waited is delivered, so that it stands where the states were shown.
                position = joined.position.map_or(Seq::ZERO, |cursor| cursor.seq);
                break false;
            }
        }
        if events.len() >= BATCH_EVENTS_MAX || size_bytes >= BATCH_BYTES_MAX {
            break false;
        }
        next = tokio::time::timeout(Duration::ZERO, watcher.next()).await;
    };
    let reset = joined
        .channels
        .iter()
        .filter(|(_, join)| join.is_reset())
        .map(|(channel, _)| format!("\"{}\"", channel.shown()));
    let members = [
        ("events", format!("[{}]", joined_with_commas(&events))),
        ("reset", format!("[{}]", reset.collect::<Vec<_>>().join(","))),
        ("cursor", format!("\"{}\"", app.tracker.cursor(watcher.position().max(position)))),
        ("ended", ended.to_string()),
    ];
    let members = members.iter().map(|(name, json)| (*name, json.as_bytes()));
    Ok(json_response(StatusCode::OK, held.keep(with_members(b"{}", members))))
}

/// An event as it is listed in an answer.
fn listed(frame: &Arc<Frame>) -> Bytes {
    // A string always has a JSON text.
    let name = frame.event().draft.name.as_deref().map(|name| serde_json::to_string(name).unwrap_or_default());
    let name = name.as_ref().map(|name| ("event", name.as_bytes()));
    with_members(&frame.addressed(), name)
}

fn joined_with_commas(events: &[Bytes]) -> String {
    String::from_utf8_lossy(&events.join(&b","[..])).into_owned()
}
