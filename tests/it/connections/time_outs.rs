//! Clients that keep the server waiting.

use std::time::Duration;

use progressd::config::ConnectionConfig;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::{SHORT, Server, patient, soon};

#[tokio::test]
async fn a_silent_client_is_closed() {
    let server = Server::start(ConnectionConfig { first_byte_timeout: SHORT, ..patient() }).await;
    assert_eq!(server.connect().await.rest().await, "");
    server.assert_timed_out("first-byte").await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_closed() {
    let server = Server::start(ConnectionConfig { header_timeout: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    // The client never stops, so a time-out that each byte prolongs would never pass.
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for byte in b"GET /hello HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'a')) {
            ticks.tick().await;
            if client.0.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    soon(drip).await;
    server.assert_timed_out("header").await;
}

#[tokio::test]
async fn a_preface_that_never_ends_is_closed() {
    let server = Server::start(ConnectionConfig { header_timeout: SHORT, ..patient() }).await;
    assert_eq!(server.send(b"PRI * HTTP/2.0\r\n").await.rest().await, "");
    server.assert_timed_out("header").await;
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_nothing_follows() {
    let server = Server::start(ConnectionConfig { idle_timeout: SHORT, ..patient() }).await;
    let mut client = server.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.ends_with("hello 127.0.0.1"), "{answer}");
    server.assert_timed_out("idle").await;
}

#[tokio::test]
async fn a_second_head_has_the_time_of_a_head_and_not_of_idleness() {
    let server = Server::start(ConnectionConfig { header_timeout: SHORT, ..patient() }).await;
    let mut client = server.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_until("hello 127.0.0.1").await;
    client.send(b"GET /hello").await;
    assert_eq!(client.rest().await, "");
    server.assert_timed_out("header").await;
}

#[tokio::test]
async fn a_stream_outlives_the_time_outs_of_reading() {
    let server = Server::start(ConnectionConfig {
        first_byte_timeout: SHORT,
        header_timeout: SHORT,
        idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut stream = server.send(b"GET /frames HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.frames.send("first").await.expect("open");
    stream.read_until("first\r\n").await;
    // Another connection, begun later, meets the same time-outs twice over.
    for _ in 0..2 {
        assert_eq!(server.connect().await.rest().await, "");
    }
    server.frames.send("second").await.expect("open");
    stream.read_until("second\r\n").await;
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_an_error_of_its_request() {
    let server = Server::start(ConnectionConfig { body_timeout: SHORT, ..patient() }).await;
    let mut client = server.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_an_error_of_its_request() {
    let server = Server::start(ConnectionConfig { body_timeout: SHORT, ..patient() }).await;
    let client = server.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
    let (mut reader, mut writer) = client.0.into_split();
    // The client never stops, so a time-out that each byte prolongs would never pass.
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while writer.write_all(b"a").await.is_ok() {
            ticks.tick().await;
        }
    };
    let mut answer = [0; 12];
    soon(async {
        tokio::select! { _ = drip => {}, read = reader.read_exact(&mut answer) => drop(read) }
    })
    .await;
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let server = Server::start(ConnectionConfig { write_timeout: SHORT, ..patient() }).await;
    let mut client = server.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon(server.signals.ended.notified()).await;
    server.assert_timed_out("write").await;
    // What the kernel had taken still arrives, and then the end.
    let mut sink = vec![0; 1 << 16];
    soon(async { while client.0.read(&mut sink).await.is_ok_and(|count| count > 0) {} }).await;
}

#[tokio::test]
async fn a_peer_that_vanished_is_noticed_though_little_is_sent() {
    let server = Server::start(ConnectionConfig { write_timeout: SHORT, ..patient() }).await;
    let mut client = server.send(b"GET /frames HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.frames.send("seen").await.expect("open");
    client.read_until("seen\r\n").await;

    // From here on the client's kernel hears nothing, so it acknowledges nothing, and sends no reset either: a cable
    // that was pulled. A filter whose only instruction is "return 0" drops every segment.
    const RETURN: u16 = 0x06;
    SockRef::from(&client.0).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).expect("a filter");
    server.frames.send("lost").await.expect("open");
    soon(server.signals.ended.notified()).await;
    // The frame fitted into the kernel's buffer, so no write was ever blocked.
    assert!(!server.metrics.encode().contains("reason=\"write\""));
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_stream() {
    let server = Server::start(patient()).await;
    let mut client = server.send(b"GET /frames HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.frames.send("seen").await.expect("open");
    client.read_until("seen\r\n").await;
    drop(client);
    soon(server.signals.ended.notified()).await;
}

#[tokio::test]
async fn a_client_that_stops_sending_within_a_head_is_closed() {
    let server = Server::start(patient()).await;
    let mut client = server.send(b"GET /hello HTTP/1.1\r\nHo").await;
    soon(client.0.shutdown()).await.expect("half closed");
    client.rest().await;
}
