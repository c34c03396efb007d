//! Which names it answers to, and which pages may make a browser ask.

use serde_json::json;

use crate::support::TestApp;

const TASK: &str = "{}";

async fn listed(app: &TestApp) -> usize {
    app.get("/api/tasks").send().await.json()["tasks"].as_array().unwrap().len()
}

#[tokio::test]
async fn only_its_own_names_are_answered() {
    let app = TestApp::with(|config| config.http.allowed_hosts = vec!["progress.example".into()]).await;
    for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "progress.example:443"] {
        assert_eq!(app.get("/api/tasks").header("host", host).send().await.status(), 200, "{host}");
    }
    for path in ["/api/tasks", "/", "/healthz", "/openapi.json", "/nothing", "/sse"] {
        let answer = app.get(path).header("host", "rebound.example").send().await;
        assert_eq!(answer.refusal(), "421 wrong_host", "{path}");
    }
    assert_eq!(app.get("/api/tasks").nameless().send().await.refusal(), "400 malformed_request host");
    let twice = app.get("/api/tasks").header("host", "localhost").header("host", "localhost");
    assert_eq!(twice.send().await.refusal(), "400 malformed_request host");
    let absolute = app.get("http://rebound.example/api/tasks").header("host", "localhost");
    assert_eq!(absolute.send().await.refusal(), "421 wrong_host");
    // HTTP/2 has an authority instead of a `Host`.
    assert_eq!(app.get("http://localhost/api/tasks").nameless().send().await.status(), 200);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "http://localhost:1"),
        ("origin", "null"),
        ("referer", "http://evil.example/page"),
    ] {
        for (method, path) in [
            ("POST", "/api/tasks"),
            ("PUT", "/api/tasks/0199c0de-0000-7000-8000-000000000001"),
            ("PATCH", &path),
            ("DELETE", &path),
            ("POST", &format!("{path}/cancel")),
            ("POST", "/sse/task/alice"),
            ("GET", "/sse/task/alice"),
            ("GET", "/sse/task-with-obj/alice"),
            ("GET", "/sse/connect/alice"),
            ("GET", "/sse/disconnect/alice"),
        ] {
            let asking = app.request(method, path).header(name, value).body("application/json", TASK);
            assert_eq!(asking.send().await.refusal(), "403 cross_site_request", "{name}: {value}, {method} {path}");
        }
        let reading = app.get(&path).header(name, value).send().await;
        assert_eq!(reading.status(), 200, "a page cannot read what has no access header");
        assert!(!reading.has_header("access-control-allow-origin"));
    }
    assert_eq!(listed(&app).await, 1);
    assert_eq!(app.get(&path).send().await.json()["status"], "pending");
    assert_eq!(app.get("/api/users/alice").send().await.status(), 404);
}

#[tokio::test]
async fn its_own_page_and_programs_may_ask() {
    let app = TestApp::in_process().await;
    let own = app.post("/api/tasks").header("host", "localhost:8080").header("origin", "http://localhost:8080");
    assert_eq!(own.header("sec-fetch-site", "same-origin").json(&json!({})).send().await.status(), 202);
    let proxied = app.post("/api/tasks").header("origin", "https://localhost").json(&json!({})).send().await;
    assert_eq!(proxied.status(), 202, "a proxy may have taken the encryption off");
    assert_eq!(app.post("/api/tasks").json(&json!({})).send().await.status(), 202, "curl says nothing");
    let typed = app.get("/sse/disconnect/alice").header("sec-fetch-site", "none").send().await;
    assert_eq!(typed.status(), 200);
}

#[tokio::test]
async fn head_has_no_effect() {
    let app = TestApp::in_process().await;
    let stream = "text/event-stream";
    for (path, content_type, length) in [
        ("/sse/task/alice", "application/json", None),
        ("/sse/task-with-obj/alice", "application/json", None),
        ("/sse/connect/alice", stream, None),
        ("/api/stream?channel=user:alice", stream, None),
        ("/sse", stream, None),
        ("/sse/disconnect/alice", "application/json", Some("39")),
    ] {
        let head = app.request("HEAD", path).send().await;
        assert_eq!((head.status(), head.header("content-type")), (200, content_type), "{path}");
        assert_eq!(head.headers.get("content-length").map(|value| value.to_str().unwrap()), length, "{path}");
    }
    assert_eq!(app.get("/sse/disconnect/alice").send().await.body.len(), 39);
    let at_once = app.request("HEAD", "/sse/task/alice").header("prefer", "respond-async").send().await;
    assert_eq!(at_once.status(), 202);
    assert_eq!(app.request("HEAD", "/sse/connect/alice").header("accept", "image/png").send().await.status(), 406);
    assert_eq!(listed(&app).await, 0);
    assert_eq!(app.get("/api/users").send().await.json(), json!({ "users": [] }));
}

#[tokio::test]
async fn an_allow_listed_page_may_ask_and_read() {
    let app = TestApp::with(|config| config.http.allowed_origins = vec!["https://app.example".into()]).await;
    let preflight = |origin: &str| {
        app.request("OPTIONS", "/api/tasks").header("origin", origin).header("access-control-request-method", "POST")
    };
    let allowed = preflight("https://app.example").header("access-control-request-private-network", "true");
    let allowed = allowed.send().await;
    assert_eq!((allowed.status(), allowed.body.len()), (204, 0));
    assert_eq!(allowed.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(allowed.header("access-control-allow-methods"), "GET,HEAD,POST", "those of the route");
    assert!(allowed.header("access-control-allow-headers").contains("idempotency-key"));
    assert_eq!(allowed.header("access-control-allow-private-network"), "true");
    let other = preflight("https://evil.example").send().await;
    assert!(!other.has_header("access-control-allow-origin") && !other.has_header("access-control-allow-methods"));
    assert_eq!(other.header("vary"), "origin");

    let asking = app.post("/api/tasks").header("origin", "https://app.example").header("sec-fetch-site", "cross-site");
    let answer = asking.json(&json!({})).send().await;
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    let exposed = answer.header("access-control-expose-headers").to_owned();
    for name in ["location", "etag", "x-request-id"] {
        assert!(exposed.contains(name) && answer.has_header(name), "{name}");
    }
    let refused = app.get("/nothing").header("origin", "https://app.example").send().await;
    assert_eq!(refused.header("access-control-allow-origin"), "https://app.example", "it may read refusals too");
}

#[tokio::test]
async fn every_route_answers_preflights_with_its_own_methods() {
    let origin = "https://app.example";
    let app = TestApp::with(|config| {
        config.http.allowed_origins = vec![origin.into()];
        config.access.jwt_secret = Some("of this test".into());
    })
    .await;
    let description = app.get("/openapi.json").send().await.json();
    let ask = async |path: &str, origin: &str, method: &str| {
        let asking = app.request("OPTIONS", path).header("origin", origin);
        asking.header("access-control-request-method", method).open().await
    };
    let allowed = |answer: &http::Response<axum::body::Body>, name: &str| {
        let value = answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default().split(',').map(|item| item.trim().to_lowercase()).collect::<Vec<_>>()
    };
    for (template, operations) in description["paths"].as_object().unwrap() {
        let path = template.replace("{taskId}", "0199c0de-0000-7000-8000-000000000001").replace(['{', '}'], "");
        let operations: Vec<_> =
            operations.as_object().unwrap().iter().filter(|(_, of)| of["responses"].is_object()).collect();
        for (method, operation) in &operations {
            let answer = ask(&path, origin, &method.to_uppercase()).await;
            assert_eq!(answer.status(), 204, "{method} {path}");
            assert_eq!(answer.headers()["access-control-allow-origin"], origin, "{path}");
            assert_eq!(answer.headers()["access-control-allow-credentials"], "true", "{path}");
            let methods = allowed(&answer, "access-control-allow-methods");
            assert!(methods.contains(method), "{method} {path}: {methods:?}");
            let described = |name: &String| operations.iter().any(|(method, _)| *method == name) || name == "head";
            assert!(methods.iter().all(described), "{path} does not have all of {methods:?}");
            let headers = allowed(&answer, "access-control-allow-headers");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            for header in parameters.filter(|parameter| parameter["in"] == "header") {
                let name = header["name"].as_str().unwrap().to_lowercase();
                assert!(headers.contains(&name), "a page cannot send {name} to {path}");
            }
            let exposed = allowed(&answer, "access-control-expose-headers");
            for response in operation["responses"].as_object().unwrap().values() {
                for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
                    let name = name.to_lowercase();
                    assert!(exposed.contains(&name) || name == "set-cookie", "a page cannot read {name} of {path}");
                }
            }
            let stranger = ask(&path, "https://evil.example", &method.to_uppercase()).await;
            assert!(!stranger.headers().keys().any(|name| name.as_str().starts_with("access-control-")), "{path}");
        }
    }
    let nowhere = ask("/nowhere", origin, "GET").await;
    assert_eq!(nowhere.status(), 404);
    assert!(!nowhere.headers().contains_key("access-control-allow-methods"));
}

#[tokio::test]
async fn every_answer_carries_what_keeps_browsers_careful() {
    let app = TestApp::in_process().await;
    for path in ["/", "/api/tasks", "/nothing", "/docs/", "/healthz"] {
        let answer = app.get(path).send().await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("script-src 'unsafe"), "{path}");
    }
}
