//! Clients of HTTP/2 that open their windows as little as they like.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::future::{FutureExt, join_all, select_all};
use h2::{
    Reason, RecvStream,
    client::{ResponseFuture, SendRequest},
};
use progressd::config::ConnectionConfig;

use serde_json::json;
use tokio::{net::TcpStream, time::timeout};

use super::fixture::{SHORT, Server, patient, soon};
use crate::support::{TestApp, binary::Binary};

/// A client whose streams may send it so many bytes; more only when the test says so.
async fn client(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 30);
    let (sender, connection) =
        soon(builder.handshake(TcpStream::connect(address).await.expect("connected"))).await.expect("HTTP/2");
    tokio::spawn(connection);
    soon(sender.ready()).await.expect("a connection")
}

/// Asks, without waiting for the answer.
fn ask(client: &SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let request = http::Request::get(format!("http://localhost{path}")).body(()).expect("a request");
    client.clone().send_request(request, true).expect("a stream").0
}

/// The response to a GET.
async fn get(client: &SendRequest<Bytes>, path: &str) -> RecvStream {
    soon(ask(client, path)).await.expect("a head").into_body()
}

/// Takes all that comes without opening the window any further.
async fn drain(body: &mut RecvStream) -> (usize, Option<Reason>) {
    let mut count = 0;
    loop {
        match soon(body.data()).await {
            Some(Ok(bytes)) => count += bytes.len(),
            Some(Err(error)) => return (count, error.reason()),
            None => return (count, None),
        }
    }
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_is_reset_alone() {
    for window in [0, 1, 20_000, 65_535] {
        let server = Server::start(ConnectionConfig { write_timeout: SHORT, ..patient() }).await;
        let client = client(server.address, window).await;
        let mut body = get(&client, "/endless").await;
        assert_eq!(drain(&mut body).await, (window as usize, Some(Reason::CANCEL)));
        soon(server.signals.ended.notified()).await;
        server.assert_timed_out("stream").await;
        // The connection is as good as before.
        drop(get(&client, "/hello").await);
    }
}

#[tokio::test]
async fn a_quiet_stream_is_not_reset() {
    let server = Server::start(ConnectionConfig { write_timeout: SHORT, ..patient() }).await;
    let client = client(server.address, 65_535).await;
    let mut quiet = get(&client, "/frames").await;
    server.frames.send("first").await.expect("open");
    assert_eq!(soon(quiet.data()).await.expect("a frame").expect("a frame"), "first");
    // Another one that is reset meanwhile shows that the time has passed.
    drain(&mut get(&client, "/endless").await).await;
    server.frames.send("second").await.expect("open");
    assert_eq!(soon(quiet.data()).await.expect("a frame").expect("a frame"), "second");
}

#[tokio::test]
async fn a_large_frame_arrives_whole() {
    let server = Server::start(patient()).await;
    let client = client(server.address, 1 << 20).await;
    let frame: &'static str = "0123456789abcdef".repeat(4097).leak();
    let mut body = get(&client, "/frames").await;
    server.frames.send(frame).await.expect("open");
    let mut read = Vec::new();
    while read.len() < frame.len() {
        read.extend_from_slice(&soon(body.data()).await.expect("a piece").expect("a piece"));
    }
    assert_eq!(read, frame.as_bytes());
}

/// That of so many answers whose clients take nothing, so many begin, and the others once these are given up.
async fn assert_begun(app: &TestApp, path: &str, asked: usize, begun: usize) {
    let client = client(app.address(), 0).await;
    let mut waiting: Vec<_> = (0..asked).map(|_| ask(&client, path)).collect();
    let mut first = Vec::new();
    for _ in 0..begun {
        let (answer, _, others) = soon(select_all(waiting)).await;
        first.push(answer.expect("a head"));
        waiting = others;
    }
    // Other requests on the same connection go on meanwhile.
    for _ in 0..20 {
        assert_eq!(soon(ask(&client, "/healthz")).await.expect("a head").status(), 200);
    }
    let more = waiting.iter_mut().filter_map(|answer| answer.now_or_never()).count();
    assert_eq!(more, 0, "{more} more than {begun} answers to {path} were begun");
    drop(first);
    assert!(soon(join_all(waiting)).await.into_iter().all(|answer| answer.expect("a head").status() == 200), "{path}");
}

#[tokio::test]
async fn a_connection_that_takes_nothing_holds_few_pages_and_files() {
    let app = TestApp::on_socket().await;
    let large = "x".repeat(60_000);
    for _ in 0..35 {
        app.submit(json!({ "input": large, "metadata": large })).await;
    }
    assert_begun(&app, "/api/tasks?limit=500", 8, 4).await;

    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc\r\n--b--\r\n";
    let uploaded = app.post("/api/tasks/upload").body("multipart/form-data; boundary=b", form).send().await;
    let path = uploaded.header("location").to_owned();
    let saved = async {
        while app.get(&format!("{path}/file")).open().await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon(saved).await;
    assert_begun(&app, &format!("{path}/file"), 32, 16).await;
}

/// Files that the binary may have open.
const OPEN_FILES: usize = 128;
/// How long others may wait for it: less than until streams of which nothing is taken are reset.
const REACHED_MAX: Duration = Duration::from_secs(10);

#[tokio::test]
async fn connections_that_take_nothing_leave_files_for_others() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Binary::start_with_files(data.path(), OPEN_FILES);
    let part = reqwest::multipart::Part::text("x".repeat(100_000)).file_name("a");
    let form = reqwest::multipart::Form::new().part("file", part);
    let upload = reqwest::Client::new().post(format!("{}/api/tasks/upload", server.base())).multipart(form).send();
    let path = upload.await.expect("it answers").headers()["location"].to_str().expect("a path").to_owned() + "/file";
    let saved = async {
        while reqwest::get(server.base() + &path).await.expect("it answers").status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon(saved).await;
    let address = server.base().strip_prefix("http://").expect("a URL").parse().expect("an address");
    // Each connection may have 16 files open, and all of them a quarter of what the process may have.
    let clients: Vec<_> = join_all((0..12).map(|_| client(address, 0))).await;
    let mut waiting: Vec<_> = clients.iter().flat_map(|client| (0..16).map(|_| ask(client, &path))).collect();
    let mut begun = Vec::new();
    for _ in 0..OPEN_FILES / 4 {
        let (answer, _, others) = soon(select_all(waiting)).await;
        begun.push(answer.expect("a head"));
        waiting = others;
    }
    assert_eq!(waiting.iter_mut().filter_map(|answer| answer.now_or_never()).count(), 0, "more files are open");
    for _ in 0..20 {
        // Each on a connection of its own.
        for path in ["/readyz", "/api/tasks"] {
            let answer = timeout(REACHED_MAX, reqwest::get(server.base() + path)).await;
            assert_eq!(answer.expect("it is reached").expect("it answers").status(), 200);
        }
    }
    assert!(begun.iter().all(|answer| answer.status() == 200));
}

/// Four pages, each of which took about four times its size while it was built, with what the store keeps of
/// them.
const GROWTH_KIB_MAX: u64 = 112 * 1024;

#[tokio::test]
async fn connections_that_take_nothing_pin_little_memory() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Binary::start(data.path(), &[]);
    let large = "x".repeat(60_000);
    for _ in 0..35 {
        let new = json!({ "input": large, "metadata": large });
        let made = reqwest::Client::new().post(format!("{}/api/tasks", server.base())).json(&new).send();
        assert_eq!(made.await.expect("it answers").status(), 202);
    }
    let page = format!("{}/api/tasks?limit=500", server.base());
    let read = reqwest::get(&page).await.expect("it answers").bytes().await.expect("a page");
    assert!(read.len() > 4_000_000);
    let before_kib = server.resident_kib();
    let address = server.base().strip_prefix("http://").expect("a URL").parse().expect("an address");
    let client = client(address, 0).await;
    let mut pages: Vec<_> = (0..100).map(|_| ask(&client, "/api/tasks?limit=500")).collect();
    for _ in 0..4 {
        let (answer, _, others) = soon(select_all(pages)).await;
        answer.expect("a head");
        pages = others;
    }
    for _ in 0..100 {
        assert_eq!(soon(ask(&client, "/healthz")).await.expect("a head").status(), 200);
    }
    let growth_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(growth_kib < GROWTH_KIB_MAX, "100 pages that are not taken hold {growth_kib} KiB");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_in_words() {
    let app = TestApp::on_socket().await;
    let client = client(app.address(), 65_535).await;
    // As large as allowed, larger than allowed, and larger than anything that is read.
    for (bytes, status) in [(10 << 10, 404), (17 << 10, 431), (100 << 10, 431), (200 << 10, 431)] {
        let request = http::Request::get("http://localhost/api/tasks/none").header("x-bomb", "a".repeat(bytes));
        let sent = client.clone().send_request(request.body(()).expect("a request"), true).expect("a stream").0;
        let answer = soon(sent).await.expect("a head");
        assert_eq!(answer.status(), status, "{bytes}");
        let mut text = Vec::new();
        let mut body = answer.into_body();
        while let Some(data) = soon(body.data()).await {
            text.extend(data.expect("a body"));
        }
        let said = String::from_utf8(text).expect("text");
        assert_eq!(said.contains("--max-header"), status == 431 && bytes < 128 << 10, "{bytes}: {said}");
    }
}
