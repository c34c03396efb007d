//! What becomes of connections when the server ends.

use tokio::net::TcpStream;

use super::fixture::{Server, patient, soon};

#[tokio::test]
async fn requests_under_way_are_answered_and_the_rest_is_closed() {
    let server = Server::start(patient()).await;
    let mut silent = server.connect().await;
    let mut kept = server.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    kept.read_until("hello 127.0.0.1").await;
    let mut slow = server.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon(server.signals.began.notified()).await;

    server.shutdown.cancel();
    assert_eq!(silent.rest().await, "");
    assert_eq!(kept.rest().await, "");
    slow.assert_unanswered();
    assert!(!server.serving.is_finished());
    soon(TcpStream::connect(server.address)).await.expect_err("nobody listens any more");

    server.signals.release.notify_one();
    let answer = slow.rest().await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("\r\n\r\nslow"), "{answer}");
    soon(server.serving).await.expect("an orderly end");
    assert_eq!(server.metrics.connections_open.get(), 0);
}

#[tokio::test]
async fn dropping_the_server_drops_its_connections() {
    let server = Server::start(patient()).await;
    let mut client = server.send(b"GET /frames HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.frames.send("seen").await.expect("open");
    client.read_until("seen\r\n").await;
    server.serving.abort();
    soon(server.signals.ended.notified()).await;
    client.rest().await;
}
