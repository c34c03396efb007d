//! The same connections, encrypted.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, process::Command};

use http::Version;
use progressd::{config::ConnectionConfig, server::Tls, testing::SseParser};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use super::fixture::{Client, SHORT, Server, patient, soon};
use crate::support::{
    TestApp,
    authority::{Authority, Pair, tls_files},
    binary::Binary,
};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// The head of a record of a handshake, without the rest.
const BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01";

async fn server(limits: ConnectionConfig) -> (Server, Authority) {
    let (authority, config, _folder) = tls_files();
    let tls = Tls::load(&config, limits.max_handshakes).expect("a pair");
    (Server::start_with(limits, tls).await, authority)
}

async fn secure(connector: TlsConnector, client: Client) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
    soon(connector.connect(ServerName::try_from("localhost").expect("a name"), client.0)).await
}

/// The answer of a server that is well.
async fn hello(server: &Server, authority: &Authority) -> String {
    let mut client = secure(authority.connector(), server.connect().await).await.expect("a handshake");
    client.write_all(HELLO).await.expect("room");
    let mut answer = String::new();
    // An end without a farewell would be an error.
    soon(client.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

fn assert_counted(server: &Server, reason: &str) {
    let line = format!("progressd_connections_timed_out_total{{reason=\"{reason}\"}} 1");
    let metrics = server.metrics.encode();
    assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
}

#[tokio::test]
async fn requests_and_streams_come_over_both_protocols() {
    let (authority, tls, _folder) = tls_files();
    let app = TestApp::with(|config| config.tls = tls).await.listening().await;
    let url = |path: &str| app.url(path).replace("http://", "https://");
    let newest = authority.client();
    let old_tls = authority.client().tls_version_max(reqwest::tls::Version::TLS_1_2);
    for (client, version) in
        [(newest, Version::HTTP_2), (authority.client().http1_only(), Version::HTTP_11), (old_tls, Version::HTTP_2)]
    {
        let client = client.build().unwrap();
        let path = app.submit(json!({})).await;
        let mut stream = client.get(url(&format!("{path}/progress"))).send().await.unwrap();
        assert_eq!((stream.status().as_u16(), stream.version()), (200, version));
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        let report = client.patch(url(&path)).json(&json!({ "status": "completed" }));
        assert_eq!(report.send().await.unwrap().status(), 200);
        while let Some(bytes) = soon(stream.chunk()).await.unwrap() {
            events.extend(parser.feed(&bytes));
        }
        assert!(events.last().unwrap().data.contains(r#""status":"completed""#), "{events:?}");
    }
}

#[tokio::test]
async fn a_page_is_its_own_by_https_only() {
    let (authority, tls, _folder) = tls_files();
    let app = TestApp::with(|config| config.tls = tls).await.listening().await;
    let client = authority.client().build().unwrap();
    let url = app.url("/api/tasks").replace("http://", "https://");
    let status = async |origin: String| {
        let asking = client.post(&url).header("origin", origin).json(&json!({}));
        asking.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(format!("https://{}", app.address())).await, 202);
    assert_eq!(status(format!("http://{}", app.address())).await, 403);
}

#[tokio::test]
async fn a_client_that_stalls_in_the_handshake_is_closed() {
    let (server, authority) = server(ConnectionConfig { handshake_timeout: SHORT, ..patient() }).await;
    assert_eq!(server.send(BEGUN).await.rest().await, "");
    assert_counted(&server, "handshake");
    assert_eq!(server.connect().await.rest().await, "");
    assert!(hello(&server, &authority).await.ends_with("hello 127.0.0.1"));
}

#[tokio::test]
async fn so_many_handshakes_are_in_progress_and_no_more() {
    let (server, authority) = server(ConnectionConfig { max_handshakes: 1, ..patient() }).await;
    // Who has said nothing yet keeps nobody waiting.
    let _silent = server.connect().await;
    assert!(hello(&server, &authority).await.ends_with("hello 127.0.0.1"));
    let stalled = server.send(BEGUN).await;
    let mut waiting = std::pin::pin!(hello(&server, &authority));
    assert!(tokio::time::timeout(SHORT, waiting.as_mut()).await.is_err());
    drop(stalled);
    assert!(waiting.await.ends_with("hello 127.0.0.1"));
}

#[tokio::test]
async fn garbage_ends_its_connection_and_nothing_else() {
    let (server, authority) = server(patient()).await;
    for garbage in [&b"\x16\x03\x01\x00\x05hello"[..], b"\0\0\0\0\0\0\0\0", b"\x80\x2e\x01\x00\x02", &[0xff; 4096]] {
        let mut client = server.send(garbage).await;
        let mut alert = Vec::new();
        // A reset is an end, too.
        let _end = soon(client.0.read_to_end(&mut alert)).await;
        assert!(alert.is_empty() || alert[0] == 21, "{alert:?}");
    }
    let stranger = secure(Authority::new().connector(), server.connect().await).await;
    stranger.expect_err("another authority");
    let mut gone = server.send(BEGUN).await;
    soon(gone.0.shutdown()).await.expect("half closed");
    gone.rest().await;
    assert!(hello(&server, &authority).await.ends_with("hello 127.0.0.1"));
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let (_authority, tls, _folder) = tls_files();
    let app = TestApp::with(|config| config.tls = tls).await.listening().await;
    let answer = reqwest::get(app.url("/healthz")).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (400, &"application/problem+json".parse().unwrap())
    );
    assert!(answer.text().await.unwrap().contains("use https"));
    let body = "a".repeat(1 << 20);
    let refused = reqwest::Client::new().post(app.url("/api/tasks")).body(body).send().await.unwrap();
    assert_eq!(refused.status(), 400, "also in the middle of a body");
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let (server, authority) = server(ConnectionConfig { write_timeout: SHORT, ..patient() }).await;
    let mut client = secure(authority.connector(), server.connect().await).await.expect("a handshake");
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("room");
    soon(server.signals.ended.notified()).await;
    drop(client);
    assert!(hello(&server, &authority).await.ends_with("hello 127.0.0.1"));
    assert_counted(&server, "write");
}

#[tokio::test]
async fn the_time_outs_of_requests_hold_after_the_handshake() {
    let (server, authority) = server(ConnectionConfig { first_byte_timeout: SHORT, ..patient() }).await;
    let mut silent = secure(authority.connector(), server.connect().await).await.expect("a handshake");
    let mut nothing = String::new();
    // The connection is cut: a client that says nothing is told nothing.
    let _end = soon(silent.read_to_string(&mut nothing)).await;
    assert_eq!(nothing, "");
    assert_counted(&server, "first-byte");
}

#[tokio::test]
async fn a_shutdown_ends_what_is_secure_in_order() {
    let (server, authority) = server(patient()).await;
    let mut shaking = server.send(BEGUN).await;
    let mut slow = secure(authority.connector(), server.connect().await).await.expect("a handshake");
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("room");
    soon(server.signals.began.notified()).await;
    server.shutdown.cancel();
    shaking.rest().await;
    server.signals.release.notify_one();
    let mut answer = String::new();
    soon(slow.read_to_string(&mut answer)).await.expect("a farewell");
    assert!(answer.ends_with("\r\n\r\nslow"), "{answer}");
    soon(server.serving).await.expect("an orderly end");
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over() {
    let (authority, tls, folder) = tls_files();
    let app = TestApp::with(|config| config.tls = tls).await.listening().await;
    let url = app.url("/healthz").replace("http://", "https://");
    let kept = authority.client().build().unwrap();
    assert_eq!(kept.get(&url).send().await.unwrap().status(), 200);

    let other = Authority::new();
    let Pair { cert, key } = other.issue();
    std::fs::write(folder.path().join("cert.pem"), cert).unwrap();
    std::fs::write(folder.path().join("next.pem"), key).unwrap();
    std::fs::rename(folder.path().join("next.pem"), folder.path().join("key.pem")).unwrap();
    let taken_over = async {
        // Each time a new connection.
        while other.client().build().unwrap().get(&url).send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(taken_over).await;
    assert_eq!(kept.get(&url).send().await.unwrap().status(), 200, "an open connection goes on");
    authority.client().build().unwrap().get(&url).send().await.expect_err("the old one is gone");
}

/// What the binary says of files that it cannot use.
fn refusal(arguments: &[&str]) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path()).args(arguments);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (pair, stranger) = (Authority::new().issue(), Authority::new().issue());
    let (cert, key) = (file("cert.pem", &pair.cert), file("key.pem", &pair.key));
    let (other, empty) = (file("other.pem", &stranger.key), file("empty.pem", ""));
    let damaged = file("damaged.pem", &pair.key.replace("-----END", "secret"));
    for (cert, key, expected) in [
        (&*cert, "/nowhere/key.pem", "cannot read the private key from /nowhere/key.pem: No such file"),
        ("/nowhere/cert.pem", &key, "cannot read the certificate from /nowhere/cert.pem: No such file"),
        (&empty, &key, "empty.pem: it holds none in PEM form"),
        (&cert, &cert, "cannot read the private key from"),
        (&cert, &damaged, "damaged.pem: its PEM form is damaged"),
        (&cert, &other, "other.pem: they do not belong together"),
    ] {
        let said = refusal(&["--tls-cert", cert, "--tls-key", key]);
        assert!(said.contains(expected) && !said.contains("secret"), "{said}");
    }
    assert!(refusal(&["--tls-cert", &cert]).contains("tls-cert (flag --tls-cert)"));
    assert!(refusal(&["--tls-key", &key]).contains("given together with tls-cert"));
}

#[test]
fn the_binary_says_that_it_speaks_tls_and_who_may_read_its_key() {
    let (_authority, tls, _folder) = tls_files();
    let (cert, key) = (tls.cert.unwrap(), tls.key.unwrap());
    let said = |mode: u32| {
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let data = tempfile::tempdir().unwrap();
        let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
        let mut binary = Binary::start(data.path(), &["--tls-cert", cert, "--tls-key", key]);
        assert!(binary.base().starts_with("https://127.0.0.1:"));
        binary.terminate();
        binary.log()
    };
    let warning = "everybody on this machine may read or change the private key";
    assert!(said(0o644).contains(warning));
    assert!(!said(0o640).contains(warning), "a group is often meant");
}
