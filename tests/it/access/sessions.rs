//! The cookie of a browser: what it allows, from where, and for how long.

use std::time::Duration;

use progressd::{
    access::{Pass, Principal, Scope},
    event::Timestamp,
};
use serde_json::json;

use super::{guarded, guarded_with, now, signed, token};
use crate::support::{Answer, TestApp};

const ANOTHER: &str = "must not be given beside another credential";

async fn read(app: &TestApp, cookie: &str) -> Answer {
    app.get("/api/session").header("cookie", cookie).send().await
}

#[tokio::test]
async fn a_token_becomes_a_cookie_that_says_who_one_is() {
    let app = guarded().await;
    let exp = now() + 3600;
    let answer = app.post("/api/session").bearer(&signed(&json!({ "sub": "alice", "exp": exp }))).send().await;
    let session = answer.json();
    assert_eq!((&session["kind"], &session["name"]), (&json!("person"), &json!("alice")));
    assert_eq!(session["expiresAt"], Timestamp::from_millis(exp * 1000).to_string());
    let cookie = answer.header("set-cookie").to_owned();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    let (fixed, max_age) = attributes.rsplit_once('=').unwrap();
    assert_eq!(fixed, "Path=/; HttpOnly; SameSite=Strict; Max-Age");
    assert!((3590..=3600).contains(&max_age.parse::<u64>().unwrap()), "{max_age}");
    assert!(value.starts_with("progressd_session="));
    assert_eq!(read(&app, value).await.json(), session);
    assert_eq!(read(&app, &format!("a=1; {value};b=2")).await.json(), session, "among others");

    let key = app.key(&[Scope::Read, Scope::Report]);
    let cookie = app.sign_in(&key).await;
    let session = read(&app, &cookie).await.json();
    assert_eq!((&session["kind"], &session["name"]), (&json!("program"), &json!("key-0")));
    assert_eq!(session["scopes"], json!(["tasks:read", "tasks:report"]));
    let until: Timestamp = session["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!((86_390..=86_400).contains(&until.since(Timestamp::now()).as_secs()), "a key without an end: for a day");
    assert_eq!(app.get("/api/tasks").header("cookie", &cookie).send().await.status(), 200);
    assert_eq!(app.post("/api/tasks").header("cookie", &cookie).json(&json!({})).send().await.status(), 403);
}

#[tokio::test]
async fn while_access_is_off_there_is_nothing_to_sign_in_to() {
    let app = TestApp::in_process().await;
    assert_eq!(app.get("/api/session").send().await.json(), json!({ "kind": "open" }));
    let answer = app.post("/api/session").bearer(&token("alice")).send().await;
    assert_eq!((answer.status(), answer.json()), (200, json!({ "kind": "open" })));
    assert!(!answer.headers.contains_key("set-cookie"));
    assert_eq!(app.get("/api/tasks").header("cookie", "progressd_session=x").send().await.status(), 200);
}

#[tokio::test]
async fn only_a_token_or_a_key_that_is_valid_can_be_signed_in_with() {
    let app = guarded().await;
    let old = app.cookie_of(&signed(&json!({ "sub": "alice", "exp": now() - 1 })));
    let sign_in = || app.post("/api/session").header("cookie", &old);
    assert_eq!(sign_in().send().await.refusal(), "401 credential_required");
    let expired = signed(&json!({ "sub": "alice", "exp": now() - 1 }));
    let channels = json!({ "channels": ["user:alice"] });
    let ticket = app.post("/api/tickets").bearer(&token("alice")).json(&channels).send().await.json();
    let ticket = ticket["ticket"].as_str().unwrap();
    for wrong in [expired.as_str(), "x", "", ticket, old.split_once('=').unwrap().1] {
        let answer = sign_in().bearer(wrong).send().await;
        assert_eq!(answer.refusal(), "401 credential_invalid", "{wrong}");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(sign_in().bearer(&token("alice")).send().await.status(), 200, "an old cookie is no obstacle");
    let foreign = sign_in().bearer(&token("alice")).header("origin", "https://evil.example").send().await;
    assert_eq!(foreign.refusal(), "403 cross_site_request");
}

#[tokio::test]
async fn a_token_that_is_too_long_for_a_cookie_is_said_to_be_so() {
    let app = guarded().await;
    let of_length = |length| signed(&json!({ "sub": "alice", "exp": now() + 60, "roles": "r".repeat(length) }));
    let answer = app.post("/api/session").bearer(&of_length(3000)).send().await;
    assert_eq!(answer.refusal(), "422 invalid authorization");
    assert!(answer.json()["errors"][0]["detail"].as_str().unwrap().contains("too long for a cookie"));
    let cookie = app.sign_in(&of_length(2000)).await;
    assert!(cookie.len() <= 4096 && read(&app, &cookie).await.status() == 200, "{}", cookie.len());
}

#[tokio::test]
async fn a_session_that_was_ended_is_over_everywhere() {
    let app = guarded().await;
    let alice = token("alice");
    let (cookie, other) = (app.sign_in(&alice).await, app.sign_in(&alice).await);
    let stream = async |cookie: &str| app.get("/api/stream?channel=user:alice").header("cookie", cookie).events().await;
    let (mut events, mut kept) = (stream(&cookie).await, stream(&other).await);
    assert!(events.bytes().await.is_some() && kept.bytes().await.is_some());
    let left = app.request("DELETE", "/api/session").header("cookie", &cookie).send().await;
    assert_eq!(left.status(), 204);
    let cleared = "progressd_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0";
    assert_eq!(left.header("set-cookie"), cleared);
    let ended = tokio::time::timeout(Duration::from_secs(1), async { while events.bytes().await.is_some() {} });
    ended.await.expect("within a second");
    let replayed = read(&app, &cookie).await;
    assert_eq!(replayed.refusal(), "401 credential_invalid");
    assert_eq!(replayed.json()["detail"], "The session was ended. Sign in again.");
    assert_eq!(read(&app, &other).await.status(), 200, "other sessions go on");
    assert_eq!(app.get("/api/session").bearer(&alice).send().await.status(), 200, "and so does the token");
    let written = std::fs::read_to_string(app.service.app.config.data_dir.join("access/ended-sessions.json")).unwrap();
    assert_eq!(written.matches(':').count(), 3, "one id and one time: {written}");

    for cookie in [&cookie, "progressd_session=x", "a=b"] {
        let again = app.request("DELETE", "/api/session").header("cookie", cookie).send().await;
        assert_eq!((again.status(), again.header("set-cookie")), (204, cleared), "{cookie}");
    }
}

#[tokio::test]
async fn what_a_token_may_not_do_its_cookie_may_not() {
    let app = guarded().await;
    let key = app.key(&[Scope::Read]);
    let cookie = app.sign_in(&key).await;
    let mut events =
        app.get("/api/tasks").header("accept", "text/event-stream").header("cookie", &cookie).events().await;
    assert_eq!(events.next().await.unwrap().event, "page");
    app.access_files().revoke("key-0").unwrap();
    assert_eq!(read(&app, &cookie).await.refusal(), "401 credential_invalid");
    let ended = tokio::time::timeout(Duration::from_secs(1), events.next()).await;
    assert!(ended.expect("within a second").is_none());

    let value = app.sign_in(&token("alice")).await;
    let (name, sealed) = value.split_once('=').unwrap();
    assert!(!sealed.contains('.') && token("alice").split('.').all(|part| !sealed.contains(part)), "it is sealed");
    assert_eq!(app.get("/api/tasks").bearer(sealed).send().await.refusal(), "401 credential_invalid", "no token");
    for place in ["token", "ticket"] {
        let stream = app.get(&format!("/api/stream?channel=user:alice&{place}={sealed}")).send().await;
        assert_eq!(stream.refusal(), "401 credential_invalid", "{place}");
    }
    let (first, rest) = sealed.split_at(1);
    let flipped = format!("{}{rest}", if first == "A" { "B" } else { "A" });
    for forged in [&sealed[..sealed.len() - 4], &sealed[4..], &flipped, "", "AAAA", &"A".repeat(4000), &token("alice")]
    {
        assert_eq!(read(&app, &format!("{name}={forged}")).await.refusal(), "401 credential_invalid", "{forged}");
    }
    let elsewhere = guarded().await;
    assert_eq!(read(&elsewhere, &value).await.refusal(), "401 credential_invalid", "another service's");
    // It is sealed by this service, and says what it wants: the token in it is checked all the same.
    let (sealed, _) = app.service.app.access.open_session("x", &Pass::of(Principal::Open), Timestamp::now()).unwrap();
    assert_eq!(read(&app, &format!("{name}={sealed}")).await.refusal(), "401 credential_invalid");
}

#[tokio::test]
async fn a_cookie_counts_for_our_own_pages_only() {
    let app = guarded_with(|config| config.http.allowed_origins = vec!["https://app.example".into()]).await;
    let cookie = app.sign_in(&token("alice")).await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("referer", "https://evil.example/page"),
    ] {
        for (method, path) in [
            ("GET", "/api/tasks"),
            ("GET", "/api/session"),
            ("GET", "/api/stream?channel=user:alice"),
            ("GET", "/sse/connect/alice"),
            ("GET", "/sse/disconnect/alice"),
            ("GET", "/sse/task/alice"),
            ("POST", "/api/tasks"),
            ("DELETE", "/api/session"),
        ] {
            let asking = app.request(method, path).header("cookie", &cookie).header(name, value);
            let answer = asking.json(&json!({})).send().await;
            assert_eq!(answer.refusal(), "403 cross_site_request", "{name}: {value}, {method} {path}");
        }
    }
    for (name, value) in [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", "http://localhost")]
    {
        assert_eq!(app.get("/api/tasks").header("cookie", &cookie).header(name, value).send().await.status(), 200);
    }
    let named = app.get("/api/tasks").header("cookie", &cookie).header("origin", "https://app.example").send().await;
    assert_eq!((named.status(), named.header("access-control-allow-credentials")), (200, "true"));
    let other = app.get("/healthz").header("origin", "https://evil.example").send().await;
    assert!(!other.headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn header_cookie_and_query_must_not_be_given_together() {
    let app = guarded().await;
    let (alice, bob) = (token("alice"), token("bob"));
    let cookie = app.sign_in(&alice).await;
    let channels = json!({ "channels": ["user:alice"] });
    let ticket = app.post("/api/tickets").bearer(&alice).json(&channels).send().await.json();
    let ticket = ticket["ticket"].as_str().unwrap();
    let stream = "/api/stream?channel=user:alice";
    for (asking, place) in [
        (app.get("/api/tasks").bearer(&bob).header("cookie", &cookie), "cookie"),
        (app.get("/api/tasks").bearer(&alice).header("cookie", &cookie), "cookie"),
        (app.get("/api/tasks").bearer(&alice).header("cookie", "progressd_session=x"), "cookie"),
        (app.get(&format!("{stream}&token={bob}")).header("cookie", &cookie), "token"),
        (app.get(&format!("{stream}&ticket={ticket}")).header("cookie", &cookie), "ticket"),
        (app.get(&format!("{stream}&token={bob}")).bearer(&alice), "token"),
        (app.get(&format!("{stream}&token={alice}&ticket={ticket}")), "ticket"),
    ] {
        let answer = asking.send().await;
        assert_eq!(answer.refusal(), format!("400 malformed_request {place}"));
        assert_eq!(answer.json()["errors"][0]["detail"], ANOTHER);
    }
    let twice = app.get("/api/tasks").header("cookie", &format!("{cookie}; {cookie}")).send().await;
    assert_eq!(twice.refusal(), "400 malformed_request cookie");
    // What is for everybody asks for nothing, and trips over nothing.
    assert_eq!(app.get("/healthz").bearer(&bob).header("cookie", &cookie).send().await.status(), 200);
}

#[tokio::test]
async fn on_https_the_cookie_is_for_https_and_this_host_only() {
    let trusted = vec!["127.0.0.1/32".parse().unwrap()];
    let app = guarded_with(|config| config.http.trusted_proxies = trusted).await;
    let https = |method: &str, path: &str| app.request(method, path).header("x-forwarded-proto", "https");
    let answer = https("POST", "/api/session").bearer(&token("alice")).send().await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-progressd_session=") && cookie.ends_with("; Secure"), "{cookie}");
    let value = cookie.split(';').next().unwrap();
    let tossed = value.strip_prefix("__Host-").unwrap();
    assert_eq!(https("GET", "/api/session").header("cookie", value).send().await.status(), 200);
    let plain = https("GET", "/api/session").header("cookie", tossed).send().await;
    assert_eq!(plain.refusal(), "401 credential_required", "a sibling of this host could have set it");
    let beside = https("GET", "/api/session").header("cookie", &format!("progressd_session=x; {value}"));
    assert_eq!(beside.send().await.status(), 200);
    let left = https("DELETE", "/api/session").header("cookie", value).send().await;
    assert!(left.header("set-cookie").starts_with("__Host-progressd_session=; Path=/"), "{left:?}");
}
