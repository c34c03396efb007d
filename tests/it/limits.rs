//! What one client may use: each limit, what is answered beyond it, and who is not touched by it.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http_body::{Frame, SizeHint};
use progressd::{access::Scope, config::Rate};
use reqwest::{
    Client,
    multipart::{Form, Part},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    access::{guarded_with, token},
    support::{Answer, TestApp, binary::Binary},
};

const HERE: &str = "192.0.2.1";
const ELSEWHERE: &str = "192.0.2.2";

fn rate(count: u32, seconds: u64) -> Rate {
    Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) }
}

/// The value of a metric of a limit.
fn counted(app: &TestApp, setting: &str) -> u64 {
    app.service.app.metrics.refused.get_or_create(&progressd::telemetry::LimitLabels { limit: name(setting) }).get()
}

/// Labels are static.
fn name(setting: &str) -> &'static str {
    [
        "max-connections-per-address",
        "requests-per-address",
        "requests-per-principal",
        "submits-per-principal",
        "max-streams-per-address",
        "max-streams-per-principal",
        "failed-credentials-per-address",
        "max-live-tasks-per-user",
        "max-files-per-user",
        "max-file-data-per-user",
        "max-streams",
    ]
    .into_iter()
    .find(|name| *name == setting)
    .unwrap()
}

/// The items of a header that is a list of strings with integer parameters (RFC 9651).
fn items(answer: &Answer, header: &str) -> Vec<(String, Vec<(String, u64)>)> {
    let lines = answer.headers.get_all(header).iter().map(|line| line.to_str().unwrap());
    let items = lines.flat_map(|line| line.split(", "));
    items
        .map(|item| {
            let mut parts = item.split(';');
            let name = parts.next().unwrap().strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            let parameters = parts.map(|part| part.split_once('=').unwrap());
            (name.to_owned(), parameters.map(|(key, value)| (key.to_owned(), value.parse().unwrap())).collect())
        })
        .collect()
}

fn item(name: &str, parameters: &[(&str, u64)]) -> (String, Vec<(String, u64)>) {
    (name.to_owned(), parameters.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect())
}

#[tokio::test(start_paused = true)]
async fn an_address_makes_so_many_requests_in_a_time() {
    let app = TestApp::with(|config| config.limits.requests_per_address = Some(rate(3, 60))).await;
    for left in [2, 1, 0] {
        let answer = app.get("/api/tasks").from(HERE).send().await;
        assert_eq!(answer.status(), 200);
        assert_eq!(items(&answer, "ratelimit-policy"), [item("requests-per-address", &[("q", 3), ("w", 60)])]);
        assert_eq!(items(&answer, "ratelimit"), [item("requests-per-address", &[("r", left), ("t", 20)])]);
    }
    for path in ["/api/tasks", "/", "/nothing/there"] {
        let answer = app.get(path).from(HERE).send().await;
        assert_eq!(answer.refusal(), "429 requests_per_address");
        assert_eq!(answer.header("retry-after"), "20");
        assert_eq!(items(&answer, "ratelimit"), [item("requests-per-address", &[("r", 0), ("t", 20)])]);
        assert!(answer.text().contains("3 in 60 seconds, by the setting requests-per-address"), "{}", answer.text());
    }
    assert_eq!(counted(&app, "requests-per-address"), 3);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = app.get(path).from(HERE).send().await;
        assert_eq!((answer.status(), answer.headers.get("ratelimit")), (200, None), "{path}");
    }
    assert_eq!(app.get("/api/tasks").from(ELSEWHERE).send().await.status(), 200);
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(app.get("/api/tasks").from(HERE).send().await.status(), 200);
    assert_eq!(app.get("/api/tasks").from(HERE).send().await.status(), 429);
}

#[tokio::test(start_paused = true)]
async fn a_network_of_64_bits_is_one_address() {
    let app = TestApp::with(|config| config.limits.requests_per_address = Some(rate(1, 60))).await;
    for (address, status) in [
        ("2001:db8::1", 200),
        ("2001:db8::ffff:2", 429),
        ("2001:db8:0:1::1", 200),
        ("::ffff:192.0.2.1", 200),
        ("192.0.2.1", 429),
    ] {
        assert_eq!(app.get("/api/tasks").from(address).send().await.status(), status, "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_settings_nothing_is_counted() {
    let app = TestApp::in_process().await;
    for _ in 0..300 {
        let answer = app.get("/api/tasks").from(HERE).send().await;
        assert_eq!((answer.status(), answer.headers.get("ratelimit")), (200, None));
    }
    assert!(!app.service.app.limits.are_of_addresses());
}

#[tokio::test(start_paused = true)]
async fn a_principal_makes_so_many_requests_and_others_are_not_touched() {
    let app = guarded_with(|config| {
        config.limits.requests_per_principal = Some(rate(2, 10));
        config.limits.requests_per_address = Some(rate(100, 10));
    })
    .await;
    let (alice, bob) = (token("alice"), token("bob"));
    let keys = [app.key(&[Scope::Read]), app.key(&[Scope::Read])];
    for credential in [&alice, &bob, &keys[0], &keys[1]] {
        for left in [1, 0] {
            let answer = app.get("/api/tasks").from(HERE).bearer(credential).send().await;
            assert_eq!(answer.status(), 200);
            let told = items(&answer, "ratelimit");
            assert!(told.contains(&item("requests-per-principal", &[("r", left), ("t", 5)])), "{told:?}");
            assert_eq!(items(&answer, "ratelimit-policy").len(), 2, "that of the address is told, too");
        }
        let answer = app.get("/api/tasks").from(HERE).bearer(credential).send().await;
        assert_eq!((answer.refusal().as_str(), answer.header("retry-after")), ("429 requests_per_principal", "5"));
    }
    // Another token of the same person is no other person.
    assert_eq!(app.get("/api/tasks").bearer(&token("alice")).send().await.status(), 429);
    assert_eq!(counted(&app, "requests-per-principal"), 5);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(app.get("/api/tasks").bearer(&alice).send().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_principal_submits_so_many_tasks_in_a_time() {
    let app = guarded_with(|config| config.limits.submits_per_principal = Some(rate(2, 60))).await;
    let (alice, bob) = (token("alice"), token("bob"));
    let submit = |credential: &str| app.post("/api/tasks").bearer(credential).json(&json!({})).send();
    assert_eq!(submit(&alice).await.status(), 202);
    let id = uuid::Uuid::now_v7();
    let put = app.request("PUT", &format!("/api/tasks/{id}")).bearer(&alice).json(&json!({})).send().await;
    assert_eq!(put.status(), 202);
    let refused = submit(&alice).await;
    assert_eq!((refused.refusal().as_str(), refused.header("retry-after")), ("429 submits_per_principal", "30"));
    let upload = app.post("/api/tasks/upload").bearer(&alice).body("multipart/form-data; boundary=x", "").send().await;
    assert_eq!(upload.refusal(), "429 submits_per_principal");
    let seed = app.post("/sse/task/alice").bearer(&alice).header("prefer", "respond-async").send().await;
    assert_eq!(seed.refusal(), "429 submits_per_principal");
    assert_eq!(app.get("/api/tasks").bearer(&alice).send().await.status(), 200, "reading is no submit");
    assert_eq!(submit(&bob).await.status(), 202);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(submit(&alice).await.status(), 202);
    assert_eq!(counted(&app, "submits-per-principal"), 3);
}

#[tokio::test]
async fn a_principal_has_so_many_streams_and_a_browser_is_told_on_a_stream() {
    let app = guarded_with(|config| config.limits.max_streams_per_principal = 2).await;
    let (alice, bob) = (token("alice"), token("bob"));
    let stream = |credential: &str| app.get("/api/stream?channel=user:alice").bearer(credential);
    let list = || app.get("/api/tasks").bearer(&alice).header("accept", "text/event-stream");
    let open = [stream(&alice).open().await, list().open().await];
    assert_eq!(open.each_ref().map(|answer| answer.status().as_u16()), [200, 200]);

    for asking in [list(), stream(&alice).header("accept", "text/event-stream")] {
        let refused = asking.send().await;
        assert_eq!((refused.status(), refused.header("connection")), (200, "close"));
        let text = refused.text();
        assert!(text.contains("event: refused") && text.contains("max_streams_per_principal"), "{text}");
        assert!(text.contains("retry: "), "{text}");
    }
    for asking in [stream(&alice), stream(&alice).header("accept", "application/json")] {
        let refused = asking.send().await;
        assert_eq!(refused.refusal(), "429 max_streams_per_principal");
        assert!(refused.headers.contains_key("retry-after") && refused.header("connection") == "close");
    }
    assert_eq!(counted(&app, "max-streams-per-principal"), 4);
    let bobs = app.get("/api/stream?channel=user:bob").bearer(&bob).header("accept", "text/event-stream").open().await;
    assert_eq!(bobs.headers().get("connection"), None, "others have places of their own");
    drop(open);
    let again = stream(&alice).header("accept", "text/event-stream").open().await;
    assert_eq!((again.status().as_u16(), again.headers().get("connection")), (200, None), "there is room again");
}

#[tokio::test]
async fn each_ticket_has_places_of_its_own() {
    let app = guarded_with(|config| config.limits.max_streams_per_principal = 1).await;
    let alice = token("alice");
    let mut tickets = Vec::new();
    for seconds in [300, 301] {
        let body = json!({ "channels": ["user:alice"], "ttlSeconds": seconds });
        let answer = app.post("/api/tickets").bearer(&alice).json(&body).send().await;
        tickets.push(answer.json()["ticket"].as_str().unwrap().to_owned());
    }
    let stream = |ticket: &str| app.get(&format!("/api/stream?channel=user:alice&ticket={ticket}")).open();
    let open = [stream(&tickets[0]).await, stream(&tickets[1]).await];
    assert_eq!(open.each_ref().map(|answer| answer.status().as_u16()), [200, 200]);
    assert_eq!(stream(&tickets[0]).await.status(), 429);
}

#[tokio::test(start_paused = true)]
async fn an_address_has_so_many_streams_and_who_waits_has_one() {
    let app = TestApp::with(|config| config.limits.max_streams_per_address = Some(1)).await;
    let path = app.submit(json!({})).await;
    let etag = app.get(&path).send().await.header("etag").to_owned();
    let stream = |address: &str| app.get(&format!("{path}/progress")).from(address);
    let wait = || app.get(&path).from(HERE).header("prefer", "wait=30").header("if-none-match", &etag);
    let open = stream(HERE).open().await;
    assert_eq!(stream(HERE).send().await.refusal(), "429 max_streams_per_address");
    assert_eq!(wait().send().await.refusal(), "429 max_streams_per_address");
    assert_eq!(stream(ELSEWHERE).open().await.status(), 200);
    assert_eq!(app.get(&path).from(HERE).send().await.status(), 200, "who does not wait needs no place");
    // A task that is made with its stream is there, though its stream is not.
    let create = app.post("/api/tasks").from(HERE).json(&json!({})).header("accept", "text/event-stream").send().await;
    assert!(create.text().contains("event: refused"), "{}", create.text());
    assert_eq!(app.get(create.header("location")).send().await.status(), 200);
    drop(open);
    let waiting = wait().open();
    let (waited, refused) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream(HERE).send().await
    });
    assert_eq!((waited.status().as_u16(), refused.refusal().as_str()), (304, "429 max_streams_per_address"));
    assert_eq!(stream(HERE).open().await.status(), 200);
}

#[tokio::test]
async fn ten_thousand_guesses_are_refused_and_a_good_token_never() {
    let app = guarded_with(|_| {}).await;
    let alice = token("alice");
    let (mut wrong, mut refused) = (0, 0);
    for guess in 0..10_000 {
        let credential = match guess % 3 {
            0 => format!("pd_0123456789abcdef_{guess:032x}"),
            1 => format!("{alice}{guess}"),
            _ => format!("guess{guess}"),
        };
        let answer = app.get("/api/tasks").from(HERE).bearer(&credential).open().await;
        match answer.status().as_u16() {
            401 => wrong += 1,
            429 => {
                refused += 1;
                assert_eq!(answer.headers()["connection"], "close");
                assert!(answer.headers().contains_key("retry-after"));
            }
            other => panic!("{other}"),
        }
        if guess % 100 == 0 {
            let good = app.get("/api/tasks").from(HERE).bearer(&alice).send().await;
            assert_eq!(good.status(), 200, "who has a good token at that address notices nothing");
        }
    }
    assert!((60..200).contains(&wrong) && wrong + refused == 10_000, "{wrong} were answered with 401");
    assert_eq!(counted(&app, "failed-credentials-per-address"), refused);
    assert_eq!(app.get("/api/tasks").from(ELSEWHERE).bearer("guess").send().await.status(), 401);
    let lease = app.patch("/api/tasks/0199c0de-0000-7000-8000-000000000001").from(HERE);
    let lease = lease.header("lease-token", "0199c0de-0000-7000-8000-000000000001").json(&json!({})).send().await;
    assert_eq!(lease.refusal(), "429 failed_credentials_per_address");
}

#[tokio::test]
async fn limits_of_the_whole_service_are_counted_too() {
    let app = TestApp::with(|config| {
        config.streams.max_streams = 1;
        config.streams.max_streams_per_channel = 1;
    })
    .await;
    let path = app.submit(json!({})).await;
    let stream = || app.get(&format!("{path}/progress")).header("accept", "text/event-stream");
    let _open = stream().open().await;
    assert!(stream().send().await.text().contains("too_many_streams"));
    assert_eq!(counted(&app, "max-streams"), 1);
    assert!(app.service.app.metrics.encode().contains("progressd_refused_total{limit=\"max-streams\"} 1"));
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let app = TestApp::with(|config| config.connections.max_connections_per_address = Some(2)).await.listening().await;
    let ask = async |mut socket: TcpStream| {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let length = socket.read(&mut answer).await.unwrap();
        (String::from_utf8_lossy(&answer[..length]).into_owned(), socket)
    };
    let connect = || TcpStream::connect(app.address());
    let (first, one) = ask(connect().await.unwrap()).await;
    let (second, other) = ask(connect().await.unwrap()).await;
    assert!(first.starts_with("HTTP/1.1 200") && second.starts_with("HTTP/1.1 200"), "{first} {second}");
    let (refused, mut socket) = ask(connect().await.unwrap()).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("max_connections_per_address"), "{refused}");
    assert!(refused.contains("connection: close") && refused.contains("retry-after: "), "{refused}");
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
    assert_eq!(counted(&app, "max-connections-per-address"), 1);
    drop((one, other));
    let answered = async { while !ask(connect().await.unwrap()).await.0.starts_with("HTTP/1.1 200") {} };
    tokio::time::timeout(Duration::from_secs(10), answered).await.expect("there is room again");
}

#[tokio::test]
async fn a_user_has_so_many_tasks_that_have_not_ended() {
    let app = guarded_with(|config| config.limits.max_live_tasks_per_user = 1).await;
    let submit = |user: &str| app.post("/api/tasks").bearer(&token(user)).json(&json!({})).send();
    let first = submit("alice").await;
    let refused = submit("alice").await;
    assert_eq!(refused.refusal(), "429 too_many_tasks");
    assert!(refused.text().contains("--max-live-tasks-per-user, which is 1"), "{}", refused.text());
    assert_eq!(counted(&app, "max-live-tasks-per-user"), 1);
    assert_eq!(submit("bob").await.status(), 202);
    let key = app.key(&[Scope::Submit]);
    let for_alice = app.post("/api/tasks").bearer(&key).json(&json!({ "userId": "alice" })).send().await;
    assert_eq!(for_alice.refusal(), "429 too_many_tasks", "whoever submits it");
    assert_eq!(app.post("/api/tasks").bearer(&key).json(&json!({})).send().await.status(), 202);
    let cancel = app.post(&format!("{}/cancel", first.header("location"))).bearer(&token("alice")).send().await;
    assert_eq!(cancel.status(), 200);
    assert_eq!(submit("alice").await.status(), 202);
}

const FORM: &str = "multipart/form-data; boundary=b";

fn form(content: usize) -> String {
    let head = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    format!("{head}{}\r\n--b--\r\n", "x".repeat(content))
}

/// A body that says how long it is, and must not be read.
struct Unread(u64);

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("it is read")
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// Waits until a task has completed.
async fn completed(app: &TestApp, path: &str) {
    loop {
        let task = app.get(path).send().await;
        if task.json()["status"] == "completed" {
            return;
        }
        let changed = app.get(path).header("if-none-match", task.header("etag")).header("prefer", "wait=10");
        changed.send().await;
    }
}

#[tokio::test]
async fn a_user_keeps_so_many_files_and_bytes() {
    let app = TestApp::with(|config| {
        config.limits.max_files_per_user = 2;
        config.limits.max_file_bytes_per_user = 1000;
    })
    .await;
    let upload = |user: &str, body: Body| app.post(&format!("/api/tasks/upload?userId={user}")).body(FORM, body);
    let sent = |user: &str, content: usize| upload(user, form(content).into()).send();
    let first = sent("alice", 600).await;
    assert_eq!(first.status(), 202);

    let tasks = async || app.get("/api/tasks").send().await.json()["tasks"].as_array().unwrap().len();
    let refused = upload("alice", Body::new(Unread(100_000))).send().await;
    assert_eq!(refused.refusal(), "507 max_file_data_per_user");
    assert!(refused.text().contains("--max-file-data-per-user, which is 1000 bytes"), "{}", refused.text());
    assert_eq!(tasks().await, 1, "no task is made for it");
    assert_eq!(sent("alice", 401).await.refusal(), "507 max_file_data_per_user");
    let pieces =
        form(500).into_bytes().chunks(100).map(|piece| Ok::<_, Infallible>(piece.to_vec())).collect::<Vec<_>>();
    let unannounced = upload("alice", Body::from_stream(stream::iter(pieces))).send().await;
    assert_eq!(unannounced.refusal(), "507 max_file_data_per_user", "it is noticed while it is read");
    assert_eq!(sent("bob", 1000).await.status(), 202, "others are not touched");
    assert_eq!(app.post("/api/tasks/upload").body(FORM, form(2000)).send().await.status(), 202);

    assert_eq!(sent("alice", 400).await.status(), 202, "what was refused takes nothing");
    assert_eq!(sent("alice", 0).await.refusal(), "507 max_files_per_user");
    assert_eq!((counted(&app, "max-file-data-per-user"), counted(&app, "max-files-per-user")), (3, 1));
    completed(&app, first.header("location")).await;
    assert_eq!(app.service.app.metrics.files_kept.get(), 4);
    assert_eq!(app.request("DELETE", first.header("location")).send().await.status(), 204);
    assert_eq!(app.service.app.metrics.files_kept_bytes.get(), 400 + 1000 + 2000);
    assert_eq!(sent("alice", 600).await.status(), 202, "what was deleted takes nothing");
}

#[tokio::test]
async fn files_are_counted_after_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let settings = ["--max-file-data-per-user", "1000"];
    let client = Client::new();
    let send = async |binary: &Binary, user: &str, content: usize| {
        let form = Form::new().part("file", Part::bytes(vec![b'x'; content]).file_name("a"));
        let url = format!("{}/api/tasks/upload?userId={user}", binary.base());
        client.post(url).multipart(form).send().await.unwrap()
    };
    let mut binary = Binary::start(data.path(), &settings);
    let first = send(&binary, "alice", 600).await;
    assert_eq!(first.status(), 202);
    let first = first.headers()["location"].to_str().unwrap().to_owned();
    // Wherever the steps after the 202 are.
    binary.kill();

    let binary = Binary::start(data.path(), &settings);
    for (user, content, status) in [("alice", 401, 507), ("bob", 1000, 202), ("alice", 400, 202), ("alice", 1, 507)] {
        assert_eq!(send(&binary, user, content).await.status(), status, "{content} bytes of {user}");
    }
    let mut etag = String::from("\"none\"");
    loop {
        let request = client.get(format!("{}{first}", binary.base())).header("prefer", "wait=30");
        let answer = request.header("if-none-match", &etag).send().await.unwrap();
        etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let task: serde_json::Value = answer.json().await.unwrap();
        if task["status"] == "completed" {
            break;
        }
    }
    assert_eq!(client.delete(format!("{}{first}", binary.base())).send().await.unwrap().status(), 204);
    assert_eq!(send(&binary, "alice", 600).await.status(), 202);
    let metrics = client.get(format!("{}/metrics", binary.base())).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("progressd_files_kept_bytes 2000"), "{metrics}");
}
