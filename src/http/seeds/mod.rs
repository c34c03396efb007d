//! Routes of earlier systems, byte for byte as their clients know them. This folder can be deleted whole.
//!
//! Some of their streams are of the plain dialect, some watch a topic. Their tasks are ordinary ones of kind `simulate`,
//! their notifications those of every user.

mod broadcasts;
mod games;
mod metrics;
mod notifications;
mod periodic;
mod streams;
mod tasks;
mod users;

use std::time::Duration;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::App;

/// Time between two steps of a task, and between two messages of `/sse`.
const STEP: Duration = Duration::from_secs(1);

/// The routes.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(streams::messages))
        .routes(routes!(streams::connect))
        .routes(routes!(streams::disconnect))
        .routes(routes!(notifications::listen))
        .routes(routes!(notifications::subscribe))
        .routes(routes!(notifications::mention))
        .routes(routes!(broadcasts::events))
        .routes(routes!(broadcasts::send))
        .routes(routes!(broadcasts::sse_events))
        .routes(routes!(users::create))
        .routes(routes!(games::watch))
        .routes(routes!(games::score))
        .routes(routes!(metrics::watch))
        .routes(routes!(tasks::run_attempts))
        .routes(routes!(tasks::run_object))
}
