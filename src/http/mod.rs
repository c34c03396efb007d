//! Routes, and the layers around them.
//!
//! The only module that knows axum. One file a resource, each with its `router()`; handlers extract, call the tracker,
//! and map the answer. Nothing is kept here between two requests, and nothing is decided about tasks.

mod admission;
mod assets;
mod client;
mod credentials;
mod event_streams;
mod extract;
mod files;
mod forwarded;
mod groups;
mod guard;
mod json_problem;
mod limits;
mod multipart;
mod negotiate;
mod notifications;
mod observe;
mod ops;
mod openapi;
pub mod problem;
mod progress;
mod refusals;
mod room;
mod seeds;
mod session;
mod streams;
mod task_list;
mod tasks;
mod tickets;
mod topics;
mod uploads;
mod urlencoded;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, Uri, header};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    access::Access, config::Config, jobs::Jobs, limits::Limits, presence::Presence, telemetry::Metrics,
    tracker::Tracker,
};
pub(crate) use problem::refuse_head;
use problem::{Problem, kinds};
pub(crate) use uploads::WORDS as UPLOAD_WORDS;

/// The state of handlers: one `Arc`, since a request clones it once for each layer and extractor.
pub type App = Arc<AppParts>;

/// What handlers share.
pub struct AppParts {
    /// The way to the task table.
    pub tracker: Tracker,
    /// Which users are connected.
    pub presence: Presence,
    /// The jobs in the service.
    pub jobs: Jobs,
    /// Who may do what.
    pub access: Access,
    /// How much one client may use.
    pub limits: Limits,
    /// The settings.
    pub config: Arc<Config>,
    /// Counters.
    pub metrics: Metrics,
    /// Cancelled when the service begins to stop.
    pub draining: CancellationToken,
}

/// Everything that is served.
pub fn router(app: App) -> Router {
    let (router, api) = routes().split_for_parts();
    let methods = Arc::new(guard::methods(&api));
    let router = router.fallback(unknown_route).method_not_allowed_fallback(wrong_method);
    router.layer(observe::Observe { app: app.clone(), methods }).with_state(app)
}

/// All routes, with their description.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Api::openapi())
        .merge(task_list::router())
        .merge(tasks::router())
        .merge(uploads::router())
        .merge(files::router())
        .merge(progress::router())
        .merge(streams::router())
        .merge(tickets::router())
        .merge(session::router())
        .merge(topics::router())
        .merge(users::router())
        .merge(notifications::router())
        .merge(groups::router())
        .merge(seeds::router())
        .merge(ops::router())
        .merge(openapi::router())
        .merge(assets::router())
}

async fn unknown_route(method: Method, uri: Uri) -> Response {
    match (method, uri.path()) {
        // RFC 9110, 9.3.7: what the service as a whole can do.
        (Method::OPTIONS, "*") => (StatusCode::NO_CONTENT, [(header::ALLOW, guard::METHODS)]).into_response(),
        _ => Problem::new(&kinds::ROUTE_NOT_FOUND).into_response(),
    }
}

/// The router adds `Allow`.
async fn wrong_method(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => Problem::new(&kinds::METHOD_NOT_ALLOWED).into_response(),
    }
}
