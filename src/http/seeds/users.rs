//! Users who are made by a request.

use axum::extract::State;
use garde::Validate;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        App,
        extract::Json,
        notifications::MeetsUsers,
        problem::{Problem, Writes},
        refusals::Refusals,
    },
    broadcasts,
};
use crate::{
    event::{ChannelName, Timestamp},
    people::{Profile, UserIntent},
    topics::broadcast,
};

/// Longest name and email, in bytes.
const LINE_BYTES_MAX: usize = 256;

/// A new user.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(super) struct NewUser {
    /// The name of the user: one line, up to 256 bytes.
    #[garde(custom(line))]
    #[schema(min_length = 1, max_length = 256, example = "Alice")]
    name: String,
    /// The email address of the user: one line, up to 256 bytes.
    #[garde(custom(line), contains("@"))]
    #[schema(min_length = 3, max_length = 256, example = "alice@example.org")]
    email: String,
}

fn line(text: &str, _: &()) -> garde::Result {
    if (1..=LINE_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(garde::Error::new(format!("must be 1 to {LINE_BYTES_MAX} bytes without control characters")))
}

/// A user who was made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MadeUser {
    /// The id of the user.
    id: Uuid,
    /// The name of the user.
    name: String,
    /// The email address of the user.
    email: String,
    /// When the user was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// What is told to all.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'a> {
    user_id: Uuid,
    #[serde(flatten)]
    profile: Option<ShownProfile<'a>>,
    created_at: Timestamp,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownProfile<'a> {
    user_name: &'a str,
    email: &'a str,
}

/// Makes a user, and broadcasts `user.created`.
///
/// While access is on and the topic `broadcast` is public, the event leaves out the name and the email address.
#[utoipa::path(
    post, path = "/api/users", operation_id = "createUser", tag = "compatibility",
    request_body(content = NewUser, example = json!({ "name": "Alice", "email": "alice@example.org" })),
    responses(
        (status = 201, description = "The user was made", body = MadeUser),
        Refusals<(Json<NewUser>, Writes, MeetsUsers)>))]
pub(super) async fn create(
    State(app): State<App>,
    Json(NewUser { name, email }): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<MadeUser>), Problem> {
    let (id, created_at) = (Uuid::now_v7(), app.tracker.clock().now());
    let topic = broadcasts::topic()?;
    // Others may listen then who may not know of each other.
    let profile = match app.access.is_on() && app.access.is_public(&topic) {
        true => None,
        false => Some(ShownProfile { user_name: &name, email: &email }),
    };
    let whom = profile.as_ref().map_or("A user".into(), |profile| format!("User {}", profile.user_name));
    let told = Created { user_id: id, profile, created_at, message: format!("{whom} was created") };
    let told = serde_json::to_vec(&told).map_err(Problem::internal)?;
    let told = broadcast(&topic, Some("user.created".into()), told.into());
    let user = ChannelName::user(&id.to_string()).map_err(Problem::internal)?;
    let profile = Profile { name: name.clone(), email: email.clone() };
    app.tracker.ask_user(&user, UserIntent::Introduce(profile, told)).await?;
    Ok((StatusCode::CREATED, axum::Json(MadeUser { id, name, email, created_at })))
}
