//! Groups of users, and messages to all members of one.

use std::collections::BTreeSet;

use axum::extract::State;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{GroupName, Json, Names, Query, User},
    notifications::{MeetsUsers, Repeats, SentNotification},
    problem::{Problem, Reads, Writes, kinds},
    refusals::{Refusals, refusals},
    users::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, Looks, page_token},
};
use crate::{
    people::{NewNotification, UserIntent},
    presence::UserPresence,
};

/// The routes of groups.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(of_user, join)).routes(routes!(read)).routes(routes!(notify))
}

refusals!(
    /// A group may have no room for one more.
    Joins: kinds::GROUP_FULL
);

/// Tells the groups of a user.
#[utoipa::path(
    get, path = "/api/users/{userId}/groups", operation_id = "listGroupsOfUser", tag = "groups", params(User),
    responses(
        (status = 200, description = "The names of the groups", body = Vec<String>, example = json!(["complaints"])),
        Refusals<(User, Reads, Looks)>))]
async fn of_user(State(app): State<App>, user: User) -> Result<axum::Json<Vec<String>>, Problem> {
    let state = app.tracker.find_user(&user.id()).await?;
    Ok(axum::Json(state.groups.keys().cloned().collect()))
}

/// Makes a user a member of these groups, and of no others.
///
/// At most 64. Open streams of the user follow at once. What was sent to a group before the user joined is not delivered.
#[utoipa::path(
    put, path = "/api/users/{userId}/groups", operation_id = "setGroupsOfUser", tag = "groups", params(User),
    request_body(content = Vec<String>, example = json!(["complaints"])),
    responses(
        (status = 200, description = "The names of the groups", body = Vec<String>, example = json!(["complaints"])),
        Refusals<(User, Names, Writes, MeetsUsers, Joins)>))]
async fn join(State(app): State<App>, user: User, Names(names): Names) -> Result<axum::Json<Vec<String>>, Problem> {
    let groups: BTreeSet<String> = names.into_iter().collect();
    app.tracker.ask_user(&user.0, UserIntent::Join(groups.clone())).await?;
    Ok(axum::Json(groups.into_iter().collect()))
}

/// Which members are listed.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct MembersQuery {
    /// How many members to list.
    #[garde(inner(range(min = 1, max = LIST_LIMIT_MAX)))]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `nextPage` of the page before.
    #[garde(inner(custom(page_token)))]
    page: Option<String>,
}

/// A group, and a page of its members in the order of their ids.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GroupPage {
    /// The name of the group.
    #[schema(example = "complaints")]
    group: String,
    /// How many members it has.
    members: usize,
    /// How many of them are connected.
    connected: usize,
    /// The members.
    users: Vec<UserPresence>,
    /// The `page` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
}

/// Tells who is in a group, and who of them is connected.
///
/// A group is there as long as it has members; any other name is that of a group without members.
#[utoipa::path(
    get, path = "/api/groups/{group}", operation_id = "readGroup", tag = "groups", params(GroupName, MembersQuery),
    responses(
        (status = 200, description = "The group", body = GroupPage),
        Refusals<(GroupName, Query<MembersQuery>)>))]
async fn read(
    State(app): State<App>,
    GroupName(group): GroupName,
    Query(query): Query<MembersQuery>,
) -> axum::Json<GroupPage> {
    let group = group.name().into_owned();
    let limit = query.limit.unwrap_or(LIST_LIMIT_DEFAULT);
    let (users, next_page) = app.presence.members(&group, query.page.as_deref(), limit);
    let (members, connected) = app.presence.count_members(&group);
    axum::Json(GroupPage { group, members, connected, users, next_page })
}

/// A notification that was sent to a group.
#[derive(Serialize, ToSchema)]
struct SentToGroup {
    /// Its id and place.
    #[serde(flatten)]
    sent: SentNotification,
    /// How many members the group has: all of them are sent it.
    members: usize,
    /// How many of them are connected; the others find it on connecting.
    connected: usize,
}

/// Sends a notification to the members of a group.
///
/// One event, whatever the number of members. Once this answers, it is stored. A group without members is sent nothing.
#[utoipa::path(
    post, path = "/api/groups/{group}/notifications", operation_id = "notifyGroup", tag = "groups", params(GroupName),
    request_body(content = NewNotification, example = json!({ "title": "Build", "message": "It has passed." })),
    responses(
        (status = 200, description = "The notification was sent", body = SentToGroup),
        Refusals<(GroupName, Json<NewNotification>, Writes, Repeats)>))]
async fn notify(
    State(app): State<App>,
    GroupName(group): GroupName,
    Json(new): Json<NewNotification>,
) -> Result<axum::Json<SentToGroup>, Problem> {
    let (notification, seq) = app.tracker.notify_group(&group, new).await?;
    let (members, connected) = app.presence.count_members(&group.name());
    let sent = SentNotification { id: notification.id, cursor: app.tracker.cursor(seq).to_string() };
    Ok(axum::Json(SentToGroup { sent, members, connected }))
}
