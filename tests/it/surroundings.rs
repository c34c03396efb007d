//! What happens around a running server: it says what it cannot promise any more.

use std::{
    fs,
    process::{Command, Stdio},
};

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::binary::Binary;

async fn ready(server: &Binary) -> u16 {
    Client::new().get(format!("{}/readyz", server.base())).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_directory_is_gone_acknowledges_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Binary::start(&data, &[]);
    let tasks = format!("{}/api/tasks", server.base());
    let made = Client::new().post(&tasks).json(&json!({ "start": true })).send().await.unwrap();
    let id = made.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    assert_eq!(ready(&server).await, 200);
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(ready(&server).await, 503);
    let report = Client::new().patch(format!("{tasks}/{id}")).json(&json!({ "progress": 1 })).send().await.unwrap();
    assert_eq!(report.status(), 503);
    let new = Client::new().post(&tasks).json(&json!({})).send().await.unwrap();
    assert_eq!(new.status(), 503);
    // Nor does another begin anew at its path.
    let second = Command::new(env!("CARGO_BIN_EXE_progressd"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && told.contains("another progressd is using"), "{told}");
    drop(server);
    let server = Binary::start(&data, &[]);
    assert_eq!(ready(&server).await, 200);
}
