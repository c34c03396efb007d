//! A node and its database by TLS.

use std::{
    path::Path,
    process::{Command, Output},
};

use progressd::testing::PostgresServer;
use reqwest::Client;
use serde_json::json;

use crate::{
    nginx::free_port,
    support::{authority::Authority, binary::Binary},
};

/// What a node says that cannot use its database.
fn refused(store: &str, trusted: &Path) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--store", store, "--data-dir"]).arg(data.path());
    let Output { status, stderr, .. } = command.env("SSL_CERT_FILE", trusted).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_proves_who_it_is() {
    let (authority, other, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let (trusted, stranger) = (folder.path().join("trusted.pem"), folder.path().join("stranger.pem"));
    std::fs::write(&trusted, authority.pem()).unwrap();
    std::fs::write(&stranger, other.pem()).unwrap();
    let (pair, port) = (authority.issue(), free_port());
    let server = PostgresServer::start_tls(port, &pair.cert, &pair.key);

    // The certificate names this host, and its authority is trusted.
    let data = tempfile::tempdir().unwrap();
    let store = format!("postgres://progressd@localhost:{port}/postgres?sslmode=require");
    let node = Binary::start_with(data.path(), &["--store", &store], &[("SSL_CERT_FILE", &trusted)]);
    let made = Client::new().post(format!("{}/api/tasks", node.base())).json(&json!({})).send().await.unwrap();
    assert_eq!(made.status(), 202);
    let unencrypted = "SELECT 1 / (count(*) = 0)::int FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'progressd' AND NOT ssl";
    server.execute("postgres", unencrypted).await;
    server.execute("postgres", &unencrypted.replace("= 0", "> 0").replace("NOT ssl", "ssl")).await;

    // Neither one whose authority is not trusted, nor one that names another host.
    assert!(refused(&store, &stranger).contains("certificate"), "{}", refused(&store, &stranger));
    let elsewhere = format!("postgres://progressd@ip6-localhost:{port}/postgres?hostaddr=127.0.0.1&sslmode=require");
    assert!(refused(&elsewhere, &trusted).contains("not valid for name"), "{}", refused(&elsewhere, &trusted));
}
