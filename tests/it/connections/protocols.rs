//! What clients may send, and what comes back.

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use progressd::config::ConnectionConfig;
use tokio::io::AsyncWriteExt;

use super::fixture::{SHORT, Server, patient, soon};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(patient()).await;
    let two = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\noneGET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = server.send(two).await.rest().await;
    let (first, second) = answers.split_once("\r\n\r\none").expect("the first answer");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(second.starts_with("HTTP/1.1 200 OK\r\n") && second.ends_with("\r\n\r\nhello 127.0.0.1"), "{answers}");
}

#[tokio::test]
async fn each_frame_is_sent_before_the_next_exists() {
    let server = Server::start(patient()).await;
    let mut client = server.send(b"GET /frames HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for frame in ["first", "second", "third"] {
        server.frames.send(frame).await.expect("open");
        let chunk = client.read_until(&format!("{frame}\r\n")).await;
        assert_eq!(chunk, format!("{:X}\r\n{frame}\r\n", frame.len()));
    }
}

#[tokio::test]
async fn a_body_is_asked_for_where_the_client_waits() {
    let server = Server::start(patient()).await;
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut client = server.send(head).await;
    assert_eq!(client.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"yes").await;
    let answer = client.read_until("\r\n\r\nyes").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// A refusal of a head has a body.
#[track_caller]
fn assert_refused(answer: &str, status: &str) {
    let expected =
        format!("HTTP/1.1 {status}\r\nx-why: head\r\nconnection: close\r\ncontent-length: 10\r\n\r\nunreadable");
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(patient()).await;
    let head = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX-Bomb: {}\r\n\r\n", "a".repeat(16 * 1024));
    assert_refused(&server.send(head.as_bytes()).await.rest().await, "431 Request Header Fields Too Large");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Server::start(patient()).await;
    let mut client = server.send(b"GET /hello HTTP/1.1\r\nX-Bomb: ").await;
    client.send(&[b'a'; 16 * 1024]).await;
    assert_refused(&client.rest().await, "431 Request Header Fields Too Large");
}

#[tokio::test]
async fn a_head_of_too_many_lines_is_refused() {
    let server = Server::start(patient()).await;
    let head = format!("GET /hello HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-Bomb: a\r\n".repeat(100));
    assert_refused(&server.send(head.as_bytes()).await.rest().await, "431 Request Header Fields Too Large");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::start(patient()).await;
    // Far more than the kernels' buffers hold: the client could not send it if the connection were cut.
    let body = vec![b'a'; 32 << 20];
    let head = format!("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = server.send(head.as_bytes()).await;
    client.send(&body).await;
    let answer = client.read_until("refused").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let mut client = server.send(b"GET /hello HTTP/1.1\r\nX-Bomb: ").await;
    client.send(&body).await;
    assert_refused(&client.read_until("unreadable").await, "431 Request Header Fields Too Large");
}

#[tokio::test]
async fn a_client_that_was_refused_and_never_stops_sending_is_cut_off() {
    let server = Server::start(patient()).await;
    let head = b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000000\r\n\r\n";
    let mut client = server.send(head).await;
    let chunk = vec![b'a'; 1 << 20];
    let mut sent_mib = 0;
    while soon(client.0.write_all(&chunk)).await.is_ok() {
        sent_mib += 1;
        assert!(sent_mib < 256, "the whole body is read");
    }
    assert!(sent_mib >= 32, "a client is heard out that sends first and then reads");
}

#[tokio::test]
async fn a_head_within_the_bound_is_answered() {
    let server = Server::start(patient()).await;
    let head = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "a".repeat(15 * 1024));
    server.send(head.as_bytes()).await.read_until("hello 127.0.0.1").await;
}

#[tokio::test]
async fn garbage_ends_its_connection_only() {
    let server = Server::start(patient()).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\0",
        b"\xff\xfe\r\n\r\n",
        b"HELO a\r\n",
    ] {
        let answer = server.send(garbage).await.rest().await;
        assert_refused(&answer, "400 Bad Request");
    }
    server.send(HELLO).await.read_until("hello 127.0.0.1").await;
}

#[tokio::test]
async fn garbage_after_a_request_is_refused_after_its_answer() {
    let server = Server::start(patient()).await;
    let mut client = server.send(HELLO).await;
    client.read_until("hello 127.0.0.1").await;
    client.send(b"HELO a\r\n").await;
    assert_refused(&client.rest().await, "400 Bad Request");
}

#[tokio::test]
async fn a_panic_in_a_handler_ends_its_connection_only() {
    let server = Server::start(patient()).await;
    assert_eq!(server.send(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await.rest().await, "");
    server.send(HELLO).await.read_until("hello 127.0.0.1").await;
}

#[tokio::test]
async fn http2_is_spoken_with_those_who_begin_with_it() {
    let server = Server::start(patient()).await;
    let io = TokioIo::new(server.connect().await.0);
    let (mut sender, connection) = soon(http2::handshake(TokioExecutor::new(), io)).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::get("http://a/hello").body(Empty::<bytes::Bytes>::new()).expect("a request");
        let response = soon(sender.send_request(request)).await.expect("a response");
        assert_eq!((response.status(), response.version()), (http::StatusCode::OK, http::Version::HTTP_2));
        let body = soon(response.into_body().collect()).await.expect("a body").to_bytes();
        assert_eq!(body, "hello 127.0.0.1");
    }
    drop(sender);
    soon(driving).await.expect("no panic").expect("an orderly end");
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let server = Server::start(ConnectionConfig { idle_timeout: SHORT, ..patient() }).await;
    let io = TokioIo::new(server.connect().await.0);
    let (mut sender, connection) = soon(http2::handshake(TokioExecutor::new(), io)).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    let request = http::Request::get("http://a/hello").body(Empty::<bytes::Bytes>::new()).expect("a request");
    soon(sender.send_request(request)).await.expect("a response");
    // The sender is kept, so only the server can end the connection.
    let _ended = soon(driving).await.expect("no panic");
    server.assert_timed_out("idle").await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_are_not_refused() {
    let server = Server::start(ConnectionConfig { max_connections: 1, ..patient() }).await;
    let mut first = server.send(HELLO).await;
    first.read_until("hello 127.0.0.1").await;
    let mut second = server.send(HELLO).await;
    for _ in 0..20 {
        first.send(HELLO).await;
        first.read_until("hello 127.0.0.1").await;
    }
    second.assert_unanswered();
    assert_eq!(server.metrics.connections_open.get(), 1);
    drop(first);
    second.read_until("hello 127.0.0.1").await;
}
