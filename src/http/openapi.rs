//! The API's description, made from the code, and a page to read it on.
//!
//! What a route answers is described where it is answered: at its handler, its extractors, and the layers around it.
//! Only what holds for the whole is written here.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use http::{Method, header};
use utoipa::{
    OpenApi,
    openapi::path::{Operation, PathItem},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::Config;

use super::{
    App, admission,
    assets::NoFile,
    guard, limits, observe,
    problem::{FieldError, Problem, ProblemDocument, kinds},
    refusals::Refusals,
};
use crate::{event::Name, task::ReportedError};

/// Swagger UI styles its elements from its scripts.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                                       img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; \
                                       form-action 'self'; frame-ancestors 'none'";

/// The description without routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "progressd",
        description = "Every slow task gets a URL that streams its progress. Three verbs: submit (`POST /api/tasks`), \
                       report (`PATCH /api/tasks/{taskId}`), watch (`GET /api/tasks/{taskId}/progress`).\n\n\
                       Every error is an `application/problem+json` document (RFC 9457) with a stable `code`."
    ),
    components(schemas(ProblemDocument<'_>, FieldError, Name, ReportedError)),
    tags(
        (name = "tasks", description = "Submit, read, report, cancel, delete"),
        (name = "streams", description = "Watch tasks"),
        (name = "topics", description = "Publish under a name, and watch what is published"),
        (name = "notifications", description = "Messages to users, which wait for them"),
        (name = "groups", description = "Groups of users"),
        (name = "users", description = "Who is connected"),
        (name = "compatibility", description = "Routes of earlier systems, unchanged for their clients"),
        (name = "session", description = "Sign in, sign out, and who one is"),
        (name = "operations", description = "Health and metrics"),
        (name = "page", description = "Pages for people"),
    )
)]
pub(super) struct Api;

/// The routes of the description.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(description))
        .routes(routes!(docs))
        .routes(routes!(docs_index))
        .routes(routes!(docs_file))
}

/// This description, OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", operation_id = "readDescription", tag = "operations",
    responses((status = 200, description = "The description", body = Object)))]
async fn description() -> Response {
    /// It is the same for the life of the process.
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        // Made of strings and numbers, it always has a JSON text.
        serde_json::to_vec_pretty(&described()).unwrap_or_default().into()
    });
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], DOCUMENT.clone())
        .into_response()
}

/// The reference, for people.
#[utoipa::path(
    get, path = "/docs", operation_id = "findReference", tag = "page",
    responses((status = 307, description = "The reference is at `/docs/`")))]
async fn docs() -> Redirect {
    Redirect::temporary("/docs/")
}

/// The reference, for people.
#[utoipa::path(get, path = "/docs/", operation_id = "readReference", tag = "page",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
async fn docs_index() -> Result<Response, Problem> {
    swagger_file("index.html")
}

/// A file of the reference.
#[utoipa::path(get, path = "/docs/{file}", operation_id = "readReferenceFile", tag = "page",
    params(("file" = String, Path, description = "The name of the file")),
    responses((status = 200, description = "The file"), Refusals<NoFile>))]
async fn docs_file(Path(file): Path<String>) -> Result<Response, Problem> {
    swagger_file(&file)
}

fn swagger_file(name: &str) -> Result<Response, Problem> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        // The validator is another site's, and would be sent the description.
        Arc::new(Config::new(["/openapi.json"]).use_base_layout().try_it_out_enabled(true).validator_url("none"))
    });
    let file = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)).map_err(Problem::internal)?;
    let file = file.ok_or_else(|| Problem::new(&kinds::ROUTE_NOT_FOUND))?;
    let headers = [
        (header::CONTENT_TYPE, file.content_type.as_str()),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, file.bytes.into_owned()).into_response())
}

/// All routes, with what the layers around them answer.
fn described() -> utoipa::openapi::OpenApi {
    let mut api = super::routes().into_openapi();
    let components = api.components.get_or_insert_default();
    admission::schemes().into_iter().for_each(|(name, scheme)| components.add_security_scheme(name, scheme));
    let mut names = BTreeSet::new();
    let items = api.paths.paths.iter_mut();
    for (path, (method, operation)) in items.flat_map(|(path, item)| operations(item).map(move |found| (path, found))) {
        // A handler of GET and POST has one name; a client that is made from this needs two.
        if let Some(name) = operation.operation_id.as_mut().filter(|name| !names.insert((*name).clone())) {
            name.push_str("ByPost");
        }
        guard::describe(&method, operation);
        admission::describe(&method, path, operation);
        limits::describe(&method, path, operation);
        observe::describe(operation);
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
