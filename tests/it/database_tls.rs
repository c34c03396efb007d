//! A node and its database by TLS.

use std::{path::Path, process::Output, time::Duration};

use progressd::testing::PostgresServer;
use reqwest::Client;
use serde_json::json;
use tokio::{process::Command, time::timeout};

use crate::{
    nginx::free_port,
    support::{authority::Authority, binary::Binary},
};

/// A node that cannot use its database has ended by then.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

/// What a node says that cannot use its database.
async fn refused(store: &str, trusted: &Path) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--store", store, "--data-dir"]).arg(data.path());
    let ended = timeout(ENDED_WITHIN, command.env("SSL_CERT_FILE", trusted).kill_on_drop(true).output()).await;
    let Output { status, stderr, .. } = ended.expect("it does not serve").unwrap();
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
    let said = refused(&store, &stranger).await;
    assert!(said.contains("certificate"), "{said}");
    let elsewhere = format!("postgres://progressd@ip6-localhost:{port}/postgres?hostaddr=127.0.0.1&sslmode=require");
    let said = refused(&elsewhere, &trusted).await;
    assert!(said.contains("not valid for name"), "{said}");
}
