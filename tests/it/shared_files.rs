//! Uploads on many nodes: the real binary on a real PostgreSQL, with one directory of files.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use progressd::testing::{PostgresDatabase, PostgresServer};
use reqwest::{
    Body, Client, Response,
    multipart::{Form, Part},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::oneshot, time::timeout};

use crate::support::binary::Binary;

/// Nothing that is waited for takes longer.
const LONG: Duration = Duration::from_secs(30);

/// A node with a data directory of its own, and perhaps a directory of files.
struct FileNode {
    binary: Binary,
    client: Client,
    _data: TempDir,
}

impl FileNode {
    fn start(database: &PostgresDatabase, files: Option<&Path>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let url = database.url();
        let files = files.map(|files| ["--files-dir", files.to_str().unwrap()]);
        let arguments: Vec<_> = ["--store", &url].into_iter().chain(files.into_iter().flatten()).collect();
        Self { binary: Binary::start(data.path(), &arguments), client: Client::new(), _data: data }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.binary.base())
    }

    async fn send(&self, body: Body) -> Response {
        let form = Form::new().part("file", Part::stream(body).file_name("one.txt"));
        self.client.post(self.url("/api/tasks/upload")).multipart(form).send().await.unwrap()
    }

    /// Sends a file, and answers the id of its task.
    async fn upload(&self, body: impl Into<Body>) -> String {
        let answer = self.send(body.into()).await;
        assert_eq!(answer.status(), 202);
        answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn until_completed(&self, id: &str) {
        timeout(LONG, async {
            loop {
                let task: Value = self.get(&format!("/api/tasks/{id}")).await.json().await.unwrap();
                if task["status"] == "completed" {
                    break;
                }
                assert_ne!(task["status"], "error", "{task}");
            }
        })
        .await
        .unwrap();
    }

    async fn warnings(&self) -> Value {
        let ready = self.get("/readyz").await;
        assert_eq!(ready.status(), 200);
        ready.json::<Value>().await.unwrap()["warnings"].take()
    }
}

fn names(path: &Path) -> Vec<String> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Starts a node that is to refuse, and answers why.
fn refused(database: &PostgresDatabase, files: &Path) -> String {
    let data = tempfile::tempdir().unwrap();
    // It is not to go on.
    let mut command = Command::new("timeout");
    command.args([&LONG.as_secs().to_string(), env!("CARGO_BIN_EXE_progressd")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--store", &database.url()]);
    command.arg("--files-dir").arg(files).arg("--data-dir").arg(data.path());
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_to_one_node_is_read_and_deleted_at_another() {
    let database = PostgresServer::shared().database().await;
    let shared = tempfile::tempdir().unwrap();
    let one = FileNode::start(&database, Some(shared.path()));

    // An upload is under way while the other node starts and tidies up.
    let (release, released) = oneshot::channel::<()>();
    let held = stream::iter([Ok::<_, std::io::Error>("first ")])
        .chain(stream::once(async move { released.await.map(|()| "second").map_err(std::io::Error::other) }));
    let receiving = tokio::spawn({
        let (client, url) = (one.client.clone(), one.url("/api/tasks/upload"));
        let form = Form::new().part("file", Part::stream(Body::wrap_stream(held)));
        async move { client.post(url).multipart(form).send().await.unwrap() }
    });
    timeout(LONG, async { while names(&shared.path().join("incoming")).is_empty() {} }).await.unwrap();
    let two = FileNode::start(&database, Some(shared.path()));
    assert_eq!((one.warnings().await, two.warnings().await), (Value::Null, Value::Null));

    let id = one.upload("of one node").await;
    two.until_completed(&id).await;
    let path = format!("/api/tasks/{id}/file");
    assert_eq!(two.get(&path).await.text().await.unwrap(), "of one node");
    release.send(()).unwrap();
    let slow: Value = receiving.await.unwrap().json().await.unwrap();
    let slow = slow["taskId"].as_str().unwrap();
    two.until_completed(slow).await;
    assert_eq!(two.get(&format!("/api/tasks/{slow}/file")).await.text().await.unwrap(), "first second");

    let deleted = two.client.delete(two.url(&format!("/api/tasks/{id}"))).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(names(&shared.path().join("files")), [slow]);
    timeout(LONG, async { while one.get(&path).await.status() != 410 {} }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_directory_a_node_refuses_files_and_serves_the_rest() {
    let database = PostgresServer::shared().database().await;
    let [shared, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = FileNode::start(&database, Some(shared.path()));
    let id = one.upload("here").await;
    one.until_completed(&id).await;
    let path = format!("/api/tasks/{id}/file");

    let without = FileNode::start(&database, None);
    let [marker, away] = ["store", "away"].map(|name| shared.path().join(name));
    for node in [&without, &one] {
        let warnings = node.warnings().await;
        assert!(warnings[0].as_str().is_some_and(|warning| warning.contains("--files-dir")), "{warnings}");
        for answer in [node.send("no".into()).await, node.get(&path).await] {
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
                (503, &b"application/problem+json"[..])
            );
            assert!(answer.headers().contains_key("retry-after"));
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], "files_unavailable");
            assert!(problem["detail"].as_str().unwrap().contains("--files-dir"), "{problem}");
        }
        let tasks: Value = node.get("/api/tasks").await.json().await.unwrap();
        assert_eq!(tasks["counts"]["completed"], 1, "{tasks}");
        assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1, "no task was begun: {tasks}");
        // And then the same at the other node, from which the directory goes while it runs.
        if marker.exists() {
            fs::rename(&marker, &away).unwrap();
        }
    }
    assert!(refused(&database, shared.path()).contains("it has no marker. Is it mounted?"));
    fs::rename(&away, &marker).unwrap();
    assert_eq!(one.warnings().await, Value::Null);
    assert_eq!(one.get(&path).await.text().await.unwrap(), "here");

    assert!(refused(&database, other.path()).contains("it has no marker. Is it mounted?"));
    fs::write(other.path().join("store"), "anothers x").unwrap();
    assert!(refused(&database, other.path()).contains("has the files of another store (anothers)"));
}
