//! Users: who has been seen, and who is connected.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Query, User},
    problem::{Problem, kinds},
};
use crate::{event::check_name, people::PresenceStatus, presence::UserPresence};

/// Users on a page unless said otherwise.
const LIST_LIMIT_DEFAULT: usize = 50;
/// Most users on a page.
const LIST_LIMIT_MAX: usize = 500;

/// The routes of users.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read))
}

/// A page of users, in the order of their ids.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserPage {
    users: Vec<UserPresence>,
    /// Give it as `page` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
}

/// Which users are listed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `list` reads")]
struct ListQuery {
    /// Only with this status.
    status: Option<PresenceStatus>,
    /// How many, 1–500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `nextPage` of the page before.
    page: Option<String>,
}

/// Lists the users who have been seen.
#[utoipa::path(get, path = "/api/users", operation_id = "listUsers", tag = "users", params(ListQuery),
    responses((status = 200, description = "A page of users", body = UserPage)))]
async fn list(State(app): State<App>, mut query: Query) -> Result<Json<UserPage>, Problem> {
    let status = query.text("status").map(|status| read_status(&status)).transpose()?;
    let limit = query.limit(LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX)?;
    let page = query.text("page");
    query.end()?;
    // The place after a page is the id of its last user.
    let after = page.map(|after| match check_name(&after) {
        Ok(()) => Ok(after),
        Err(_) => Err(Problem::invalid("page", "is none that this list has given")),
    });
    let (users, next_page) = app.presence.list(status, after.transpose()?.as_deref(), limit);
    Ok(Json(UserPage { users, next_page }))
}

/// Tells whether a user is connected.
#[utoipa::path(get, path = "/api/users/{userId}", operation_id = "readUser", tag = "users",
    params(("userId" = String, Path, description = "The user")),
    responses((status = 200, description = "The user", body = UserPresence)))]
async fn read(State(app): State<App>, user: User) -> Result<Json<UserPresence>, Problem> {
    app.presence.get(&user.id()).map(Json).ok_or_else(|| Problem::new(&kinds::USER_NOT_FOUND))
}

fn read_status(text: &str) -> Result<PresenceStatus, Problem> {
    match text {
        "connected" => Ok(PresenceStatus::Connected),
        "disconnected" => Ok(PresenceStatus::Disconnected),
        _ => Err(Problem::invalid("status", "is connected or disconnected")),
    }
}
