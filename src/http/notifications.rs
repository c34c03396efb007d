//! Notifications to users and groups.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Json, User},
    problem::{Problem, Writes, kinds},
    refusals::{Refusals, refusals},
};
use crate::people::NewNotification;

/// The routes of notifications.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(notify))
}

refusals!(
    /// A user who is not known yet may be one too many.
    MeetsUsers: kinds::TOO_MANY_USERS
);

/// A notification that was sent.
#[derive(Serialize, ToSchema)]
struct SentNotification {
    /// The id of the notification.
    #[schema(example = "0199c0de-0000-7000-8000-000000000001")]
    id: String,
    /// Its place in the journal: a stream that resumes from it brings what came later.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
}

/// Sends a notification to a user.
///
/// Once this answers, the notification is stored. A user who is away finds it on connecting.
#[utoipa::path(
    post, path = "/api/users/{userId}/notifications", operation_id = "notifyUser", tag = "notifications", params(User),
    request_body(content = NewNotification, example = json!({ "title": "Build", "message": "It has passed." })),
    responses(
        (status = 200, description = "The notification was sent", body = SentNotification),
        Refusals<(User, Json<NewNotification>, Writes, MeetsUsers)>))]
async fn notify(
    State(app): State<App>,
    user: User,
    Json(new): Json<NewNotification>,
) -> Result<axum::Json<SentNotification>, Problem> {
    let (notification, seq) = app.tracker.notify(&user.0, new).await?;
    Ok(axum::Json(SentNotification { id: notification.id, cursor: app.tracker.cursor(seq).to_string() }))
}
