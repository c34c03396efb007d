//! Clients of HTTP/2 that open their windows as little as they like.

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use progressd::config::ConnectionConfig;

use super::fixture::{SHORT, Server, patient, soon};

/// A client whose streams may send it so many bytes; more only when the test says so.
async fn client(server: &Server, window: u32) -> SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 30);
    let (sender, connection) = soon(builder.handshake(server.connect().await.0)).await.expect("HTTP/2");
    tokio::spawn(connection);
    soon(sender.ready()).await.expect("a connection")
}

/// The response to a GET.
async fn get(client: &SendRequest<Bytes>, path: &str) -> RecvStream {
    let request = http::Request::get(format!("http://a{path}")).body(()).expect("a request");
    let (response, _) = client.clone().send_request(request, true).expect("a stream");
    soon(response).await.expect("a head").into_body()
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
        let client = client(&server, window).await;
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
    let client = client(&server, 65_535).await;
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
    let client = client(&server, 1 << 20).await;
    let frame: &'static str = "0123456789abcdef".repeat(4097).leak();
    let mut body = get(&client, "/frames").await;
    server.frames.send(frame).await.expect("open");
    let mut read = Vec::new();
    while read.len() < frame.len() {
        read.extend_from_slice(&soon(body.data()).await.expect("a piece").expect("a piece"));
    }
    assert_eq!(read, frame.as_bytes());
}
