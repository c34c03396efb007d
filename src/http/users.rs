//! Users: who has been seen, and who is connected.

use axum::{Json, extract::State};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Query, User},
    problem::{Problem, Reads, kinds},
    refusals::{Refusals, refusals},
};
use crate::{event::check_name, people::PresenceStatus, presence::UserPresence};

/// Users on a page unless said otherwise.
pub(super) const LIST_LIMIT_DEFAULT: usize = 50;
/// Most users on a page.
pub(super) const LIST_LIMIT_MAX: usize = 500;

/// The routes of users.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read))
}

/// A page of users, in the order of their ids.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserPage {
    users: Vec<UserPresence>,
    /// The `page` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
}

/// Which users are listed.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct UsersQuery {
    /// Only users with this status.
    #[garde(skip)]
    status: Option<PresenceStatus>,
    /// How many users to list.
    #[garde(inner(range(min = 1, max = LIST_LIMIT_MAX)))]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `nextPage` of the page before.
    #[garde(inner(custom(page_token)))]
    page: Option<String>,
}

/// The place after a page is the id of its last user.
pub(super) fn page_token(page: &str, _: &()) -> garde::Result {
    check_name(page).map_err(|_| garde::Error::new("is not a valid page token"))
}

/// Lists the users who have been seen.
#[utoipa::path(
    get, path = "/api/users", operation_id = "listUsers", tag = "users", params(UsersQuery),
    responses(
        (status = 200, description = "A page of users", body = UserPage),
        Refusals<Query<UsersQuery>>))]
async fn list(State(app): State<App>, Query(query): Query<UsersQuery>) -> Json<UserPage> {
    let limit = query.limit.unwrap_or(LIST_LIMIT_DEFAULT);
    let (users, next_page) = app.presence.list(query.status, query.page.as_deref(), limit);
    Json(UserPage { users, next_page })
}

refusals!(
    /// Only users who have been seen are known.
    Looks: kinds::USER_NOT_FOUND
);

/// Tells whether a user is connected.
#[utoipa::path(
    get, path = "/api/users/{userId}", operation_id = "readUser", tag = "users", params(User),
    responses(
        (status = 200, description = "The user", body = UserPresence),
        Refusals<(User, Reads, Looks)>))]
async fn read(State(app): State<App>, user: User) -> Result<Json<UserPresence>, Problem> {
    app.tracker.find_user(&user.id()).await?;
    app.presence.get(&user.id()).map(Json).ok_or_else(|| Problem::new(&kinds::USER_NOT_FOUND))
}
