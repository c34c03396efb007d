//! What is refused, and how it is said.

use std::io;

use axum::body::Body;
use progressd::journal::{Journal, JournalError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::TestApp;

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_problems() {
    let app = TestApp::in_process().await;
    for path in ["/nothing", "/api", "/api/tasks/", "/api/tasks/a/b/c", "/assets/none.js", "/docs/none.js", "/%ff"] {
        assert_eq!(app.get(path).send().await.refusal(), "404 route_not_found", "{path}");
    }
    for (method, path, allow) in [
        ("DELETE", "/api/tasks", "GET,HEAD,POST"),
        ("POST", "/api/tasks/0199c0de-0000-7000-8000-000000000001", "GET,HEAD,PUT,PATCH,DELETE"),
        ("TRACE", "/healthz", "GET,HEAD"),
        ("BREW", "/api/users", "GET,HEAD,POST"),
    ] {
        let answer = app.request(method, path).send().await;
        assert_eq!(answer.refusal(), "405 method_not_allowed", "{method} {path}");
        let mut allowed: Vec<_> = answer.header("allow").split(',').collect();
        let mut expected: Vec<_> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {path}");
    }
    let options = app.request("OPTIONS", "/api/tasks").send().await;
    assert_eq!(options.status(), 204);
    assert!(options.header("allow").contains("POST"));
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    for path in [path.as_str(), "/api/tasks", "/api/users", "/healthz", "/openapi.json", "/"] {
        let get = app.get(path).send().await;
        let head = app.request("HEAD", path).send().await;
        assert_eq!((head.status(), head.body.len()), (get.status(), 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn ids_that_are_none_are_of_no_task() {
    let app = TestApp::in_process().await;
    for id in ["x", "..", "%2e%2e", "0199c0de", "{0199c0de-0000-7000-8000-000000000001}", "a%00b", &"9".repeat(500)] {
        for path in [format!("/api/tasks/{id}"), format!("/api/tasks/{id}/progress")] {
            assert_eq!(app.get(&path).send().await.refusal(), "404 task_not_found", "{path}");
        }
    }
    assert_eq!(app.get("/api/tasks/%ff").send().await.refusal(), "400 malformed_request");
    assert_eq!(app.get("/api/users/%ff%fe").send().await.refusal(), "400 malformed_request");
}

#[tokio::test]
async fn bodies_that_are_no_json_are_malformed() {
    let app = TestApp::in_process().await;
    let deep_input = format!("{{\"input\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    for body in ["", "{", "{} {}", "nonsense", "{\"title\":\"\u{0}\"}", "{\"total\":1e999}", &deep_input] {
        let answer = app.post("/api/tasks").body("application/json", body.to_owned()).send().await;
        assert_eq!(answer.refusal(), "400 malformed_request", "{}", &body[..body.len().min(20)]);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("line 1 column"), "{detail}");
    }
    let invalid_utf8 = app.post("/api/tasks").body("application/json", b"{\"title\":\"\xff\"}".to_vec()).send().await;
    assert_eq!(invalid_utf8.refusal(), "400 malformed_request");
}

#[tokio::test]
async fn bodies_that_are_not_accepted_name_their_members() {
    let app = TestApp::in_process().await;
    for (body, refusal) in [
        (json!({ "kind": "" }), "422 invalid kind"),
        (json!({ "kind": "a\u{0}b", "userId": "a\r\nb" }), "422 invalid kind userId"),
        (json!({ "title": "a\nb" }), "422 invalid title"),
        (json!({ "title": "x".repeat(257) }), "422 invalid title"),
        (json!({ "total": -1 }), "422 invalid total"),
        (json!({ "total": 1.5 }), "422 invalid total"),
        (json!({ "maxAttempts": 101 }), "422 invalid maxAttempts"),
        (json!({ "steps": [{ "name": "a" }, { "name": "b", "weight": 0 }] }), "422 invalid steps[1].weight"),
        (json!({ "steps": vec![json!({ "name": "a" }); 101] }), "422 invalid steps"),
        (json!({ "metadata": "x".repeat(65 * 1024) }), "422 invalid metadata"),
        (json!({ "colour": "red" }), "422 invalid colour"),
        (json!([]), "422 invalid"),
        (json!(["import"]), "422 invalid"),
        (json!("import"), "422 invalid"),
    ] {
        let text = body.to_string();
        let answer = app.post("/api/tasks").json(&body).send().await;
        assert_eq!(answer.refusal(), refusal, "{}", &text[..text.len().min(80)]);
    }
    let path = app.submit(json!({})).await;
    for (report, refusal, detail) in [
        (json!({ "status": 1 }), "422 invalid status", "expected a string"),
        (json!({ "progress": "x" }), "422 invalid progress", "expected a number, found a string"),
        (json!({ "current": -1 }), "422 invalid current", "expected a whole number, 0 or more, found -1"),
        (json!({ "error": { "colour": 1 } }), "422 invalid error.colour", "is not known"),
    ] {
        let answer = app.patch(&path).json(&report).send().await;
        assert_eq!(answer.refusal(), refusal);
        assert_eq!(answer.json()["errors"][0]["detail"], detail);
    }
    let twice = app.post("/api/tasks").body("application/json", "{\"kind\":\"a\",\"kind\":\"b\"}").send().await;
    assert_eq!(twice.refusal(), "422 invalid kind");
}

#[tokio::test]
async fn bodies_of_other_types_sizes_and_paces_are_refused() {
    let app = TestApp::with(|config| config.http.max_body_bytes = 1000).await;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""]
    {
        let answer = app.post("/api/tasks").body(content_type, "{}").send().await;
        assert_eq!(answer.refusal(), "415 unsupported_content_type", "{content_type}");
    }
    for content_type in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
        assert_eq!(app.post("/api/tasks").body(content_type, "{}").send().await.status(), 202, "{content_type}");
    }
    assert_eq!(app.post("/api/tasks").send().await.refusal(), "415 unsupported_content_type");
    let large = json!({ "input": "x".repeat(1000) });
    assert_eq!(app.post("/api/tasks").json(&large).send().await.refusal(), "413 body_too_large");
    let chunks = futures_util::stream::iter(vec![Ok::<_, io::Error>(" ".repeat(600)), Ok(" ".repeat(600))]);
    let unannounced = app.post("/api/tasks").body("application/json", Body::from_stream(chunks)).send().await;
    assert_eq!(unannounced.refusal(), "413 body_too_large");

    let broken = |error: io::ErrorKind| {
        let pieces = futures_util::stream::iter(vec![Ok("{"), Err(io::Error::from(error))]);
        app.post("/api/tasks").body("application/json", Body::from_stream(pieces))
    };
    assert_eq!(broken(io::ErrorKind::TimedOut).send().await.refusal(), "408 body_timed_out");
    assert_eq!(broken(io::ErrorKind::ConnectionReset).send().await.refusal(), "400 malformed_request");
}

#[tokio::test]
async fn a_failing_store_says_nothing_of_the_inside() {
    let app = TestApp::in_process().await;
    let submit = async |error: JournalError| {
        app.journal.fail_next_append(error);
        app.post("/api/tasks").json(&json!({})).send().await
    };
    let full = submit(JournalError::Full).await;
    assert_eq!((full.refusal().as_str(), full.header("retry-after")), ("507 disk_full", "30"));
    let away = submit(JournalError::Unavailable("secret".into())).await;
    assert_eq!((away.refusal().as_str(), away.header("retry-after")), ("503 store_unavailable", "1"));
    let damaged = submit(JournalError::Damaged("secret".into())).await;
    assert_eq!(damaged.refusal(), "500 internal_error");
    for answer in [away, damaged] {
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    assert_eq!(app.post("/api/tasks").json(&json!({})).send().await.status(), 202, "it goes on");
}

#[tokio::test]
async fn too_many_tasks_are_refused_with_the_setting() {
    let app = TestApp::with(|config| config.tasks.max_live_tasks = 1).await;
    app.submit(json!({})).await;
    let refused = app.post("/api/tasks").json(&json!({})).send().await;
    assert_eq!((refused.refusal().as_str(), refused.header("retry-after")), ("429 too_many_tasks", "30"));
    assert!(refused.text().contains("--max-live-tasks"), "{}", refused.text());
    let path = "/api/tasks/0199c0de-0000-7000-8000-000000000001";
    assert_eq!(app.request("PUT", path).json(&json!({})).send().await.refusal(), "429 too_many_tasks");
    assert_eq!(app.post("/sse/task/alice").send().await.refusal(), "429 too_many_tasks");
    let form = app.post("/api/tasks/upload").body("multipart/form-data; boundary=b", "--b--\r\n");
    assert_eq!(form.send().await.refusal(), "429 too_many_tasks");
    let mut stream = app.post("/api/tasks").header("accept", "text/event-stream").json(&json!({})).events().await;
    assert_eq!((stream.status(), stream.next().await.unwrap().event.as_str()), (200, "refused"));
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_problems_too() {
    let app = TestApp::on_socket().await;
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n", "x".repeat(20_000));
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000));
    for (head, code) in [("GET\r\n\r\n", "malformed_request"), (&large, "head_too_large"), (&long, "head_too_large")] {
        let mut client = tokio::net::TcpStream::connect(app.address()).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", problem["status"])), "{head}");
    }
}

#[tokio::test]
async fn the_service_as_a_whole_says_what_it_can_do() {
    let app = TestApp::in_process().await;
    let options = app.request("OPTIONS", "*").send().await;
    assert_eq!((options.status(), options.header("allow")), (204, "GET, HEAD, POST, PUT, PATCH, DELETE"));
    assert_eq!(app.get("*").send().await.refusal(), "404 route_not_found");
}

#[tokio::test]
async fn requests_have_an_id() {
    let app = TestApp::in_process().await;
    let id = async |given: Option<&str>| {
        let request = app.get("/nothing");
        let request = given.map(|given| app.get("/nothing").header("x-request-id", given)).unwrap_or(request);
        request.send().await.header("x-request-id").to_owned()
    };
    assert_eq!(id(Some("abc-123")).await, "abc-123");
    let made = id(None).await;
    assert_eq!(made.len(), 32);
    assert_ne!(id(None).await, made);
    for given in ["a b", "", "é", &"x".repeat(65)] {
        assert_eq!(id(Some(given)).await.len(), 32, "{given:?}");
    }
}

#[tokio::test]
async fn operations_tell_how_it_is() {
    let app = TestApp::in_process().await;
    for path in ["/healthz", "/readyz"] {
        let answer = app.get(path).send().await;
        assert_eq!((answer.status(), answer.json()), (200, json!({ "status": "ok" })), "{path}");
    }
    app.get("/api/tasks/0199c0de-0000-7000-8000-000000000001?token=secret").send().await;
    let metrics = app.get("/metrics").send().await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let counted = "progressd_http_requests_total{route=\"/api/tasks/{taskId}\",method=\"GET\",status=\"404\"} 1\n";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    assert!(!metrics.text().contains("0199c0de") && !metrics.text().contains("secret"));

    app.journal.close().await.unwrap();
    assert_eq!(app.get("/readyz").send().await.refusal(), "503 store_unavailable");
    assert_eq!(app.get("/healthz").send().await.status(), 200);
    app.service.app.draining.cancel();
    assert_eq!(app.get("/readyz").send().await.refusal(), "503 stopping");
}
