//! The page and the examples: files that are built into the binary.
//!
//! `web/` builds the page. Names under `/assets/` carry a hash of their content, so they never change and may be cached
//! for ever. The examples are served as they stand in `web/examples/`.

use std::fmt::Write as _;

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use rust_embed::{Embed, EmbeddedFile};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    negotiate::etag_matches,
    problem::{Problem, kinds},
    refusals::{Refusals, refusals},
};

/// The page may load its own files, but run nothing that is inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                                       connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; \
                                       frame-ancestors 'none'";
/// For names that never stand for another content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For the one that does.
const REVALIDATE: &str = "no-cache";

/// Shown if the page was not built.
const NOT_BUILT: &str = "\
<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>progressd</title>
<link rel=\"icon\" href=\"data:,\">
<h1>progressd is running</h1>
<p>This binary was built without its page. To add it, run <code>npm ci &amp;&amp; npm run build</code> in
<code>web/</code> and build the binary again.</p>
<p>The API works without it: see <a href=\"/docs\">the reference</a>.</p>
</html>
";

#[derive(Embed)]
#[folder = "web/dist"]
struct Dist;

#[derive(Embed)]
#[folder = "web/examples"]
struct Examples;

/// The routes of the page and of the examples.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(page))
        .routes(routes!(task_page))
        .routes(routes!(asset))
        .routes(routes!(examples))
        .routes(routes!(example))
}

refusals!(
    /// The page has no such file.
    NoFile: kinds::ROUTE_NOT_FOUND
);

/// The page: upload, watch, cancel.
#[utoipa::path(
    get, path = "/", operation_id = "readPage", tag = "page",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The page has not changed")))]
async fn page(headers: HeaderMap) -> Response {
    match Dist::get("index.html") {
        Some(file) => answer(file, "text/html; charset=utf-8".into(), REVALIDATE, &headers),
        None => {
            let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), policy()];
            (headers, NOT_BUILT).into_response()
        }
    }
}

/// The page of a task.
///
/// The same file as the page: which view it shows is told by its address. A task that is not there is told by the page.
#[utoipa::path(
    get, path = "/tasks/{taskId}", operation_id = "readTaskPage", tag = "page",
    params(("taskId" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The page has not changed")))]
async fn task_page(headers: HeaderMap) -> Response {
    page(headers).await
}

/// A file of the page.
#[utoipa::path(
    get, path = "/assets/{path}", operation_id = "readPageFile", tag = "page",
    params(("path" = String, Path, description = "The name of the file")),
    responses(
        (status = 200, description = "The file"),
        (status = 304, description = "The file has not changed"),
        Refusals<NoFile>))]
async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let file = Dist::get(&format!("assets/{path}")).ok_or_else(|| Problem::new(&kinds::ROUTE_NOT_FOUND))?;
    let content_type = file.metadata.mimetype().to_owned();
    Ok(answer(file, content_type, IMMUTABLE, &headers))
}

/// The examples: small clients in plain HTML and JavaScript, which show their source.
#[utoipa::path(
    get, path = "/examples", operation_id = "listExamples", tag = "page",
    responses(
        (status = 200, description = "The list of the examples", body = String, content_type = "text/html"),
        (status = 304, description = "The list has not changed"),
        Refusals<NoFile>))]
async fn examples(headers: HeaderMap) -> Result<Response, Problem> {
    example(Path("index.html".into()), headers).await
}

/// A file of the examples.
#[utoipa::path(
    get, path = "/examples/{file}", operation_id = "readExample", tag = "page",
    params(("file" = String, Path, description = "The name of the file", example = "events.html")),
    responses(
        (status = 200, description = "The file"),
        (status = 304, description = "The file has not changed"),
        Refusals<NoFile>))]
async fn example(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let file = Examples::get(&name).ok_or_else(|| Problem::new(&kinds::ROUTE_NOT_FOUND))?;
    let content_type = format!("{}; charset=utf-8", file.metadata.mimetype());
    Ok(answer(file, content_type, REVALIDATE, &headers))
}

fn answer(file: EmbeddedFile, content_type: String, cache: &'static str, request: &HeaderMap) -> Response {
    let digest = file.metadata.sha256_hash().into_iter().take(16);
    let etag = digest.fold(String::from("\""), |mut etag, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(etag, "{byte:02x}");
        etag
    }) + "\"";
    let is_known = etag_matches(request, &etag);
    let kept = [(header::ETAG, etag), (header::CACHE_CONTROL, cache.to_owned())];
    if is_known {
        // A browser takes the policy of a 304 for that of the page it has kept, so it must be the page's own.
        return (StatusCode::NOT_MODIFIED, kept, [policy()]).into_response();
    }
    (kept, [policy()], [(header::CONTENT_TYPE, content_type)], file.data.into_owned()).into_response()
}

fn policy() -> (HeaderName, &'static str) {
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
}
