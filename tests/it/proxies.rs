//! What proxies may say of their clients, and who is a proxy.

use serde_json::json;

use crate::support::TestApp;

/// Behind a proxy on loopback, which is where requests in process come from.
async fn behind_a_proxy(trusted: &str) -> TestApp {
    let trusted = vec![trusted.parse().unwrap()];
    TestApp::with(|config| {
        config.http.allowed_hosts = vec!["progress.example".into()];
        config.http.trusted_proxies = trusted;
        config.access.insecure_open = true;
    })
    .await
}

#[tokio::test]
async fn words_of_a_trusted_proxy_are_heeded() {
    let app = behind_a_proxy("127.0.0.1/32").await;
    let host = |name: &str, value: &str| app.get("/api/tasks").header(name, value);
    assert_eq!(host("x-forwarded-host", "progress.example").send().await.status(), 200);
    assert_eq!(host("x-forwarded-host", "evil.example").send().await.refusal(), "421 wrong_host");
    assert_eq!(host("forwarded", "for=203.0.113.7;host=evil.example").send().await.refusal(), "421 wrong_host");
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7, evil"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "user@progress.example"),
        ("forwarded", "for=\"203.0.113.7"),
    ] {
        let refusal = host(name, value).send().await.refusal();
        assert_eq!(refusal, format!("400 malformed_request {name}"), "{value}");
    }
    let contradictory = host("x-forwarded-for", "203.0.113.7").header("forwarded", "for=198.51.100.1");
    assert_eq!(contradictory.send().await.refusal(), "400 malformed_request forwarded");
}

#[tokio::test]
async fn its_own_page_is_known_through_the_proxy() {
    let app = behind_a_proxy("127.0.0.1/32").await;
    let status = async |origin: &str, scheme: &str| {
        let asking = app.post("/api/tasks").header("origin", origin).header("x-forwarded-proto", scheme);
        asking.header("x-forwarded-host", "progress.example").json(&json!({})).send().await.status()
    };
    assert_eq!(status("https://progress.example", "https").await, 202);
    assert_eq!(status("http://progress.example", "http").await, 202);
    assert_eq!(status("http://progress.example", "https").await, 403);
    assert_eq!(status("http://localhost", "http").await, 403);
}

#[tokio::test]
async fn words_of_anybody_else_are_not_even_read() {
    let app = behind_a_proxy("192.0.2.0/24").await;
    for (name, value) in [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-for", "\"evil"),
        ("forwarded", "for=\"; host=evil.example"),
    ] {
        assert_eq!(app.get("/api/tasks").header(name, value).send().await.status(), 200, "{name}: {value}");
    }
    let own = app.post("/api/tasks").header("origin", "https://progress.example");
    let claimed = own.header("x-forwarded-host", "progress.example").json(&json!({})).send().await;
    assert_eq!(claimed.refusal(), "403 cross_site_request");
}
