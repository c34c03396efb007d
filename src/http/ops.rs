//! Operations: is it alive, is it ready, what does it count.

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
};
use crate::telemetry::Metrics;

/// The routes of operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// How the service is.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

const OK: axum::Json<Health> = axum::Json(Health { status: "ok" });

/// Tells whether the process is alive.
#[utoipa::path(get, path = "/healthz", operation_id = "isAlive", tag = "operations", responses((status = 200, description = "It is", body = Health)))]
async fn healthz() -> axum::Json<Health> {
    OK
}

/// Tells whether requests should be sent here.
///
/// 503 while the service is stopping, and while its store does not answer.
#[utoipa::path(get, path = "/readyz", operation_id = "isReady", tag = "operations", responses((status = 200, description = "They should", body = Health)))]
async fn readyz(State(app): State<App>) -> Result<axum::Json<Health>, Problem> {
    if app.draining.is_cancelled() {
        return Err(Problem::new(&kinds::STOPPING));
    }
    app.tracker.check().await?;
    Ok(OK)
}

/// Metrics, as OpenMetrics text for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "readMetrics", tag = "operations",
    responses((status = 200, description = "All metrics", body = String, content_type = Metrics::CONTENT_TYPE)))]
async fn metrics(State(app): State<App>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], app.metrics.encode()).into_response()
}
