//! Operations: liveness, readiness, metrics.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    problem::{Problem, kinds},
    refusals::{Refusals, refusals},
};
use crate::telemetry::Metrics;

/// The routes of operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

refusals!(
    /// What is ready can be written to.
    Checks: kinds::STORE_UNAVAILABLE, kinds::STOPPING, kinds::DISK_FULL
);

/// The state of the service.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// What an operator should look into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

fn ok(warnings: Vec<String>) -> axum::Json<Health> {
    axum::Json(Health { status: "ok", warnings })
}

/// Tells whether the process is alive.
#[utoipa::path(
    get, path = "/healthz", operation_id = "isAlive", tag = "operations",
    responses((status = 200, description = "The process is alive", body = Health)))]
async fn healthz() -> axum::Json<Health> {
    ok(Vec::new())
}

/// Tells whether the service is ready for requests.
///
/// It commits something to the store, unless something was committed a moment ago. 503 while the service is shutting down and
/// while its store does not answer or cannot be written to; 507 while the disk is full.
#[utoipa::path(
    get, path = "/readyz", operation_id = "isReady", tag = "operations",
    responses((status = 200, description = "The service is ready", body = Health), Refusals<Checks>))]
async fn readyz(State(app): State<App>) -> Result<axum::Json<Health>, Problem> {
    if app.draining.is_cancelled() {
        return Err(Problem::new(&kinds::STOPPING));
    }
    app.tracker.check().await?;
    let away = app.jobs.check_files().await.err().map(|away| format!("uploads and downloads are refused: {away}"));
    let unreadable = Some(app.tracker.unreadable()).filter(|count| *count > 0);
    let warning = |count| format!("{count} channels were written by a newer version and cannot be read");
    Ok(ok(unreadable.map(warning).into_iter().chain(away).collect()))
}

/// Reads metrics, as OpenMetrics text for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "readMetrics", tag = "operations",
    responses((status = 200, description = "All metrics", body = String, content_type = Metrics::CONTENT_TYPE)))]
async fn metrics(State(app): State<App>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], app.metrics.encode()).into_response()
}
