//! The API's description and the pages for people.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{TestApp, golden};

async fn description() -> Value {
    let answer = TestApp::in_process().await.get("/openapi.json").send().await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"));
    answer.json()
}

#[tokio::test]
async fn the_description_changes_only_where_it_is_meant_to() {
    let answer = TestApp::in_process().await.get("/openapi.json").send().await;
    golden("tests/fixtures/openapi.json", &[&answer.body[..], b"\n"].concat());
}

/// Each operation with its name.
fn operations(api: &Value) -> impl Iterator<Item = (String, &Value)> {
    api["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    })
}

#[tokio::test]
async fn every_route_is_described() {
    let api = description().await;
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"), "{}", api["openapi"]);
    let described: BTreeSet<String> = operations(&api).map(|(name, _)| name).collect();
    for route in [
        "GET /api/tasks",
        "POST /api/tasks",
        "GET /api/tasks/{taskId}",
        "PUT /api/tasks/{taskId}",
        "PATCH /api/tasks/{taskId}",
        "DELETE /api/tasks/{taskId}",
        "POST /api/tasks/{taskId}/cancel",
        "GET /api/tasks/{taskId}/progress",
        "GET /api/topics",
        "GET /api/topics/{topic}",
        "PUT /api/topics/{topic}",
        "DELETE /api/topics/{topic}",
        "GET /api/topics/{topic}/events",
        "GET /api/users",
        "GET /api/users/{userId}",
        "GET /api/events",
        "POST /api/broadcast",
        "GET /api/sse/events",
        "POST /api/users",
        "GET /api/games/{gameId}/stream",
        "POST /api/games/{gameId}/score",
        "GET /api/metrics/stream",
        "GET /sse",
        "GET /sse/connect/{userId}",
        "GET /sse/disconnect/{userId}",
        "GET /sse/task/{userId}",
        "POST /sse/task/{userId}",
        "GET /sse/task-with-obj/{userId}",
        "POST /sse/task-with-obj/{userId}",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /docs",
        "GET /",
        "GET /examples",
        "GET /examples/{file}",
    ] {
        assert!(described.contains(route), "{route} is not in {described:#?}");
    }
}

#[tokio::test]
async fn every_operation_says_what_it_does_and_what_it_refuses() {
    let api = description().await;
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&api) {
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{name} has no summary");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("421") && responses.contains_key("500"), "{name}: {responses:?}");
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{name}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name} shares its operation id");
    }
    let statuses = |path: &str, method: &str| -> BTreeSet<String> {
        api["paths"][path][method]["responses"].as_object().unwrap().keys().cloned().collect()
    };
    let expected = [
        "200", "400", "401", "403", "404", "408", "409", "410", "413", "415", "421", "422", "429", "500", "503", "503",
        "507",
    ];
    assert_eq!(statuses("/api/tasks/{taskId}", "patch"), expected.map(str::to_owned).into());
    let expected = ["200", "204", "303", "400", "401", "403", "404", "406", "410", "421", "429", "500", "503"];
    assert_eq!(statuses("/api/tasks/{taskId}/progress", "get"), expected.map(str::to_owned).into());
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let api = description().await;
    let mut found = Vec::new();
    references(&api, &mut found);
    assert!(found.iter().any(|reference| reference == "#/components/schemas/Problem"), "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

/// The members of a schema, and those of them that are always there.
fn members(api: &Value, schema: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return members(api, api.pointer(reference.strip_prefix('#').unwrap()).unwrap());
    }
    let texts = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut all: BTreeSet<String> =
        schema["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    let mut required = texts(&schema["required"]);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, more_required) = members(api, part);
        all.extend(more);
        required.extend(more_required);
    }
    (all, required)
}

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let app = TestApp::in_process().await;
    let api = app.get("/openapi.json").send().await.json();
    let check = |schema: &str, document: &Value| {
        let (known, required) = members(&api, &api["components"]["schemas"][schema]);
        let found: BTreeSet<String> = document.as_object().unwrap().keys().cloned().collect();
        assert!(found.is_subset(&known), "{schema} lacks {:?}", found.difference(&known));
        assert!(required.is_subset(&found), "{schema} promises {:?}", required.difference(&found));
    };
    let task = json!({
        "title": "a", "userId": "alice", "total": 9, "unit": "rows", "steps": [{ "name": "s" }],
        "input": 1, "metadata": 2,
    });
    let path = app.submit(task).await;
    check("TaskDocument", &app.get(&path).send().await.json());
    check("ReportAnswer", &app.report(&path, json!({ "step": 0, "current": 3, "message": "m" })).await.json());
    check("ReportAnswer", &app.report(&path, json!({ "status": "completed", "result": 1 })).await.json());
    check("TaskPage", &app.get("/api/tasks").send().await.json());
    check("Problem", &app.get("/nothing").send().await.json());
    let invalid = app.patch(&path).json(&json!({ "progress": 101 })).send().await.json();
    check("Problem", &invalid);
    check("FieldError", &invalid["errors"][0]);
    drop(app.get("/sse/connect/alice").open().await);
    check("UserPresence", &app.get("/api/users/alice").send().await.json());
    check("UserPage", &app.get("/api/users").send().await.json());
    check("Health", &app.get("/healthz").send().await.json());
}

/// That each answer is described is what the sender of a test looks at.
#[tokio::test]
async fn what_an_upload_is_refused_for_is_described() {
    let app = TestApp::with(|config| config.uploads.max_upload_bytes = 1000).await;
    let part = |disposition: &str, content: &str| {
        format!("--X\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
    };
    let file = part("name=\"file\"; filename=\"a\"", "hello");
    let head = format!("--X\r\n{}", "a: b\r\n".repeat(5000));
    for (form, refusal) in [
        (format!("{}--X--\r\n", part("name=\"file\"; filename=\"a\"", &"x".repeat(1001))), "413 upload_too_large"),
        (format!("{file}{file}--X--\r\n"), "422 too_many_files"),
        (format!("{}--X--\r\n", part("name=\"other\"", "x")), "422 unknown_field"),
        ("--X--\r\n".to_owned(), "422 file_missing"),
        (file.clone(), "400 malformed_form"),
        (head, "431 form_head_too_large"),
    ] {
        let asking = app.post("/api/tasks/upload").body("multipart/form-data; boundary=X", form);
        let answer = asking.send().await;
        assert_eq!(answer.refusal(), refusal);
        assert_eq!(answer.header("location"), format!("/api/tasks/{}", answer.json()["taskId"].as_str().unwrap()));
    }
    let other = app.submit(json!({ "kind": "other" })).await;
    let other = other.rsplit('/').next().unwrap();
    for (query, content_type, refusal) in [
        ("", "text/plain", "415 unsupported_content_type"),
        ("", "multipart/form-data", "400 malformed_request content-type"),
        ("?colour=red", "multipart/form-data; boundary=X", "400 unknown_parameter colour"),
        ("?userId=a%20b", "multipart/form-data; boundary=X", "422 invalid userId"),
        ("?title=a%0Ab", "multipart/form-data; boundary=X", "422 invalid title"),
        ("?taskId=7", "multipart/form-data; boundary=X", "422 invalid taskId"),
        (&format!("?taskId={other}"), "multipart/form-data; boundary=X", "422 invalid taskId"),
        (&format!("?taskId={other}&title=a"), "multipart/form-data; boundary=X", "422 invalid title"),
        ("?taskId=0199c0de-0000-7000-8000-000000000001", "multipart/form-data; boundary=X", "404 task_not_found"),
    ] {
        let answer = app.post(&format!("/api/tasks/upload{query}")).body(content_type, "--X--\r\n").send().await;
        assert_eq!(answer.refusal(), refusal, "{query}");
        assert!(answer.json().get("taskId").is_none(), "there is no task yet");
    }
}

#[tokio::test]
async fn its_page_is_served_from_the_binary() {
    let app = TestApp::in_process().await;
    let docs = app.get("/docs").send().await;
    assert_eq!((docs.status(), docs.header("location")), (307, "/docs/"));
    let index = app.get("/docs/").send().await;
    assert!(index.header("content-type").starts_with("text/html"));
    // What the page asks for by name is there, and nothing is asked of another site.
    for name in ["swagger-ui.css", "index.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert!(index.text().contains(name), "{name}");
        assert_eq!(app.get(&format!("/docs/{name}")).send().await.status(), 200, "{name}");
    }
    assert!(!index.text().contains("http://") && !index.text().contains("https://"), "{}", index.text());
    assert!(
        !index.text().contains("<script>") && !index.text().contains("<style>"),
        "the policy lets no inline code run"
    );
    let initializer = app.get("/docs/swagger-initializer.js").send().await;
    assert!(initializer.text().contains("/openapi.json"), "{}", initializer.text());
}

#[tokio::test]
async fn the_page_is_there_or_says_how_to_have_it() {
    let app = TestApp::in_process().await;
    let page = app.get("/").send().await;
    assert_eq!((page.status(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text().contains("progressd"));
    if page.has_header("etag") {
        let again = app.get("/").header("if-none-match", page.header("etag")).send().await;
        assert_eq!(again.status(), 304);
    }
    for path in [
        "/assets/../index.html",
        "/assets/%2e%2e/index.html",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/",
        "/examples/..%2fpackage.json",
        "/examples/none.html",
        "/examples/",
    ] {
        assert_eq!(app.get(path).send().await.refusal(), "404 route_not_found", "{path}");
    }
}

#[tokio::test]
async fn each_example_is_short_and_whole() {
    let app = TestApp::in_process().await;
    let index = app.get("/examples").send().await;
    assert_eq!((index.status(), index.header("content-type")), (200, "text/html; charset=utf-8"));
    let text = index.text();
    let pages: Vec<_> =
        text.split('"').filter(|part| part.starts_with("/examples/") && part.ends_with(".html")).collect();
    assert_eq!(pages.len(), 6, "{pages:?}");
    for path in pages {
        let page = app.get(path).send().await;
        assert_eq!((page.status(), page.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
        assert!(page.header("content-security-policy").contains("script-src 'self'"), "{path}");
        let again = app.get(path).header("if-none-match", page.header("etag")).send().await;
        assert_eq!(again.status(), 304, "{path}");
        let script = path.replace(".html", ".js");
        assert!(page.text().contains(&format!("src=\"{script}\"")), "{path}");
        let script = app.get(&script).send().await;
        assert_eq!((script.status(), script.header("content-type")), (200, "text/javascript; charset=utf-8"), "{path}");
        let lines = page.text().lines().count() + script.text().lines().count();
        assert!(lines <= 40, "{path} has {lines} lines");
    }
}
