//! Routes of earlier systems, byte for byte as their clients know them. This folder can be deleted whole.
//!
//! Their tasks are ordinary ones of kind `simulate`, their notifications those of every user.

mod notifications;
mod streams;
mod tasks;

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
        .routes(routes!(tasks::run_attempts))
        .routes(routes!(tasks::run_object))
}
