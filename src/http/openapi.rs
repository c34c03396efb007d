//! The API's description, made from the code, and a page to read it on.
//!
//! What any route may answer for the same reason (another site, a bad body, an unknown task) is written down here once
//! and added to all routes that it holds for.

use std::sync::{Arc, LazyLock};

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use http::{Method, header};
use utoipa::{
    OpenApi,
    openapi::{
        Content, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::Config;

use super::{
    App,
    problem::{CONTENT_TYPE, FieldError, Problem, ProblemDocument, kinds},
};

/// Swagger UI styles its elements from its scripts.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                                       img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; \
                                       form-action 'self'; frame-ancestors 'none'";

/// What routes may answer for a reason that is not their own.
struct Refusal {
    /// The name of its component.
    name: &'static str,
    status: &'static str,
    /// When it is answered.
    description: &'static str,
    /// Whether a route may answer so.
    holds: fn(&Route<'_>) -> bool,
}

/// What is looked at to tell what a route may answer.
struct Route<'a> {
    method: Method,
    path: &'a str,
    has_body: bool,
}

impl Route<'_> {
    fn is_api(&self) -> bool {
        self.path.starts_with("/api/") || self.path.starts_with("/sse")
    }

    fn is_of_task(&self) -> bool {
        self.path.starts_with("/api/tasks/{")
    }

    fn is_stream(&self) -> bool {
        self.path.ends_with("/progress") || self.path == "/sse" || self.path.starts_with("/sse/connect")
    }

    fn has_effect(&self) -> bool {
        self.method != Method::GET || self.path.starts_with("/sse/")
    }

    fn has_query(&self) -> bool {
        self.method == Method::GET && matches!(self.path, "/api/tasks" | "/api/users")
    }

    fn is_file(&self) -> bool {
        self.path.ends_with("{file}") || self.path.ends_with("{path}")
    }
}

const REFUSALS: [Refusal; 15] = [
    Refusal {
        name: "Malformed",
        status: "400",
        description: "The body is no JSON, or a header, the path or the query is malformed",
        holds: |route| route.is_api(),
    },
    Refusal {
        name: "CrossSite",
        status: "403",
        description: "A page of another origin asks, and its origin is not allow-listed",
        holds: |route| route.has_effect(),
    },
    Refusal {
        name: "TaskNotFound",
        status: "404",
        description: "There is no such task",
        holds: |route| route.is_of_task() && route.method != Method::PUT,
    },
    Refusal {
        name: "NotFound",
        status: "404",
        description: "There is nothing here, or the user was never seen",
        holds: |route| route.is_file() || route.path == "/api/users/{userId}",
    },
    Refusal {
        name: "NotAcceptable",
        status: "406",
        description: "The client does not accept a stream",
        holds: |route| route.is_stream(),
    },
    Refusal {
        name: "BodyTimedOut",
        status: "408",
        description: "The client fell silent inside its body",
        holds: |route| route.has_body,
    },
    Refusal {
        name: "Conflict",
        status: "409",
        description: "The task does not allow it: it has ended, has not ended, is leased, or was cancelled",
        holds: |route| {
            let changes = matches!(route.method, Method::PATCH | Method::DELETE | Method::POST);
            route.is_of_task() && changes || route.path.starts_with("/sse/task")
        },
    },
    Refusal {
        name: "Gone",
        status: "410",
        description: "The task was deleted, or its time is over",
        holds: |route| route.is_of_task() || route.path == "/api/tasks" && route.has_effect(),
    },
    Refusal {
        name: "TooLarge",
        status: "413",
        description: "The body is larger than allowed",
        holds: |route| route.has_body,
    },
    Refusal {
        name: "UnsupportedType",
        status: "415",
        description: "The content type is not supported",
        holds: |route| route.has_body,
    },
    Refusal {
        name: "WrongHost",
        status: "421",
        description: "The request names a host that is not this service's",
        holds: |_| true,
    },
    Refusal {
        name: "Invalid",
        status: "422",
        description: "A member, field or parameter is not valid, `errors` names each; or the same id or idempotency key \
                      came with another request",
        holds: |route| route.has_body || route.has_query() || route.path.contains("{userId}"),
    },
    Refusal { name: "Internal", status: "500", description: "Something went wrong inside", holds: |_| true },
    Refusal {
        name: "Unavailable",
        status: "503",
        description: "The service is overloaded or stopping, or its store is away: come again after `Retry-After`",
        holds: |route| route.is_api() || route.path == "/readyz",
    },
    Refusal {
        name: "DiskFull",
        status: "507",
        description: "There is no room left on the disk",
        holds: |route| route.is_api() && route.has_effect(),
    },
];

/// The description without routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "progressd",
        description = "Every slow task gets a URL that streams its progress. Three verbs: submit (`POST /api/tasks`), \
                       report (`PATCH /api/tasks/{taskId}`), watch (`GET /api/tasks/{taskId}/progress`).\n\n\
                       Every refusal is an `application/problem+json` document (RFC 9457) with a stable `code`."
    ),
    components(schemas(ProblemDocument<'_>, FieldError)),
    tags(
        (name = "tasks", description = "Submit, read, report, cancel, forget"),
        (name = "streams", description = "Watch"),
        (name = "users", description = "Who is connected"),
        (name = "compatibility", description = "Routes of earlier systems, as their clients know them"),
        (name = "operations", description = "Health and metrics"),
        (name = "page", description = "For people"),
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
        let mut api = super::routes().into_openapi();
        add_refusals(&mut api);
        // Made of strings and numbers, it always has a JSON text.
        serde_json::to_vec_pretty(&api).unwrap_or_default().into()
    });
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], DOCUMENT.clone())
        .into_response()
}

/// The reference, for people.
#[utoipa::path(get, path = "/docs", operation_id = "findReference", tag = "page", responses((status = 307, description = "It is at `/docs/`")))]
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
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file")))]
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

fn add_refusals(api: &mut utoipa::openapi::OpenApi) {
    let components = api.components.get_or_insert_default();
    for refusal in REFUSALS {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(refusal.description).content(CONTENT_TYPE, content).build();
        components.responses.insert(refusal.name.into(), RefOr::T(response));
    }
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            // A handler of two methods has one name; a client that is made from this needs two.
            if method == Method::POST && path.starts_with("/sse/") {
                operation.operation_id = operation.operation_id.take().map(|id| id + "ByPost");
            }
            let route = Route { method, path, has_body: operation.request_body.is_some() };
            for refusal in REFUSALS.iter().filter(|refusal| (refusal.holds)(&route)) {
                let described = RefOr::Ref(Ref::from_response_name(refusal.name));
                operation.responses.responses.entry(refusal.status.into()).or_insert(described);
            }
        }
    }
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
