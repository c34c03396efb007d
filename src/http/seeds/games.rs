//! Scores of games: a topic for each game.

use axum::{
    extract::{FromRequestParts, State},
    response::Response,
};
use garde::Validate;
use http::{Method, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{
    App,
    event_streams::{AcceptsStream, LastEventId, head},
    extract::{Json, path_parameter},
    problem::{Problem, Writes, kinds},
    refusals::{Refusals, refusals, refuses},
    topics::{Greeting, event_name, stream},
};
use crate::{
    event::{ChannelName, Timestamp},
    topics::{topic_of_game, value},
};

/// The name of a score's event, unless it has another type.
const SCORE: &str = "score";

/// What a name may be, less what stands before it in the name of the topic.
const NOT_A_GAME: &str = "must be 1 to 123 ASCII letters, digits or any of - _ . ~ @";

/// A game in a path: its topic.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Path, names("gameId"))]
pub(super) struct Game(
    /// The id of the game: 1 to 123 ASCII letters, digits or any of `-_.~@`.
    #[param(value_type = String, pattern = "^[A-Za-z0-9._~@-]{1,123}$", min_length = 1, max_length = 123)]
    ChannelName,
);

refuses!(Game: kinds::MALFORMED, kinds::INVALID);

impl FromRequestParts<App> for Game {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let game = path_parameter(parts, app, |id| ChannelName::topic(&topic_of_game(id))).await?;
        game.map(Self).map_err(|_| Problem::invalid("gameId", NOT_A_GAME))
    }
}

/// A score.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub(super) struct Score {
    /// The score of the home team.
    #[garde(skip)]
    home_score: i64,
    /// The score of the other team.
    #[garde(skip)]
    away_score: i64,
    /// The name of the event, `score` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[schema(min_length = 1, max_length = 128, example = "goal")]
    event_type: Option<String>,
}

/// A score as it is shown.
#[derive(Serialize)]
struct ShownScore<'a> {
    game_id: &'a str,
    #[serde(flatten)]
    score: &'a Score,
    timestamp: Timestamp,
}

/// The answer to a score.
#[derive(Serialize, ToSchema)]
pub(super) struct Scored {
    /// True.
    success: bool,
}

refusals!(
    /// A game may be one topic too many.
    Begins: kinds::TOO_MANY_TOPICS
);

/// Watches the score of a game.
///
/// First `initial` with the current score, if there is one, then `score`, or the type that the score was given.
#[utoipa::path(
    get, path = "/api/games/{gameId}/stream", operation_id = "watchGame", tag = "compatibility",
    params(Game, LastEventId),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream",
            example = json!("event: initial\ndata: {\"home_score\":1,\"away_score\":0}\nid: k3f90000-1841\n\n")),
        Refusals<(Game, AcceptsStream)>))]
pub(super) async fn watch(
    State(app): State<App>,
    Game(topic): Game,
    _accepts: AcceptsStream,
    LastEventId(resume): LastEventId,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return head();
    }
    stream(&app, &topic, resume, &Greeting { value_name: Some("initial"), ..Greeting::default() }).await
}

/// Sets the score of a game.
#[utoipa::path(
    post, path = "/api/games/{gameId}/score", operation_id = "score", tag = "compatibility", params(Game),
    request_body(content = Score, example = json!({ "home_score": 1, "away_score": 0 })),
    responses(
        (status = 200, description = "The score was set", body = Scored),
        Refusals<(Game, Json<Score>, Writes, Begins)>))]
pub(super) async fn score(
    State(app): State<App>,
    Game(topic): Game,
    Json(score): Json<Score>,
) -> Result<axum::Json<Scored>, Problem> {
    let name = topic.name();
    let game_id = name.split_once('.').map_or("", |(_, id)| id);
    let shown = ShownScore { game_id, score: &score, timestamp: app.tracker.clock().now() };
    let data = serde_json::to_vec(&shown).map_err(Problem::internal)?;
    let event = score.event_type.clone().unwrap_or_else(|| SCORE.into());
    // Here, because members are named in camel case where garde checks them.
    event_name(&event, &()).map_err(|error| Problem::invalid("event_type", error.message().to_owned()))?;
    app.tracker.append(vec![value(&topic, Some(event), data.into())], None).await?;
    Ok(axum::Json(Scored { success: true }))
}
