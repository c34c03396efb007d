//! Moving an embedded store into PostgreSQL with the real binary: clients go on where they were.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use progressd::testing::{PostgresDatabase, PostgresServer};
use reqwest::{
    Client, Method, Response, StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::binary::Binary;

/// Nothing that is waited for takes longer.
const LONG: Duration = Duration::from_secs(30);

/// A server before or after the move.
struct MovingServer {
    binary: Binary,
    client: Client,
}

impl MovingServer {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        Self { binary: Binary::start(data, arguments), client: Client::new() }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.binary.base())).json(&body);
        let request = if path == "/api/tasks" { request.header("idempotency-key", key_of(&body)) } else { request };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn submit(&self, task: Value) -> String {
        self.ask(Method::POST, "/api/tasks", task).await["taskId"].as_str().unwrap().to_owned()
    }

    /// Reports, and answers the cursor.
    async fn report(&self, id: &str, report: Value) -> String {
        let task = self.ask(Method::PATCH, &format!("/api/tasks/{id}"), report).await;
        task["cursor"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.client.get(format!("{}{path}", self.binary.base()));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    async fn task(&self, id: &str) -> Value {
        self.get(&format!("/api/tasks/{id}"), &[]).await.json().await.unwrap()
    }

    async fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) {
        timeout(LONG, async { while !is_so(&self.task(id).await) {} }).await.unwrap();
    }

    /// What is said at each of these paths, with the ETag.
    async fn everything(&self, paths: &[String]) -> Vec<(String, Option<String>)> {
        let mut all = Vec::new();
        for path in paths {
            let answer = self.get(path, &[]).await;
            let etag = answer.headers().get("etag").map(|etag| etag.to_str().unwrap().to_owned());
            all.push((format!("{path}: {} {}", answer.status(), answer.text().await.unwrap()), etag));
        }
        all
    }
}

fn key_of(body: &Value) -> String {
    let digest = Sha256::digest(body.to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn migrate(data: &Path, database: &PostgresDatabase, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
    command.args(["migrate", "--to", &database.url()]).args(more).arg("--from").arg(data).output().unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(output: Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A watcher resumes: what it has not seen, and nothing else, then what comes.
async fn resumes(new: &MovingServer, live: &str, [seen, latest]: [&str; 2]) {
    let url = format!("/api/tasks/{live}/progress");
    let mut watch = new.get(&url, &[("last-event-id", seen)]).await;
    let end = new.report(live, json!({ "status": "completed", "message": "three" })).await;
    let mut text = String::new();
    while let Some(bytes) = timeout(LONG, watch.chunk()).await.unwrap().unwrap() {
        text += std::str::from_utf8(&bytes).unwrap();
    }
    assert!(!text.contains("event: reset") && !text.contains("\"one\""), "{text}");
    for cursor in [latest, &end] {
        assert!(text.contains(&format!("id: {cursor}")), "{text}");
    }
    assert_eq!(new.get(&url, &[("last-event-id", &end)]).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_where_they_were() {
    let [data, node_data, files] = [(); 3].map(|()| TempDir::new().unwrap());
    let database = PostgresServer::shared().database().await;
    let mut old = MovingServer::start(data.path(), &[]);
    let live = old.submit(json!({ "title": "live", "start": true, "metadata": { "a": 1 } })).await;
    let seen = old.report(&live, json!({ "message": "one" })).await;
    let latest = old.report(&live, json!({ "message": "two", "progress": 40 })).await;
    let ended = old.submit(json!({ "start": true, "userId": "alice" })).await;
    let end = old.report(&ended, json!({ "status": "completed", "result": { "x": 1 } })).await;
    let deleted = old.submit(json!({ "title": "deleted", "start": true })).await;
    old.report(&deleted, json!({ "status": "completed", "message": "gone" })).await;
    old.ask(Method::DELETE, &format!("/api/tasks/{deleted}"), Value::Null).await;
    old.ask(Method::PUT, "/api/users/alice/groups", json!(["team"])).await;
    for text in ["first", "second"] {
        let path = "/api/groups/team/notifications";
        old.ask(Method::POST, path, json!({ "title": text, "message": text })).await;
        old.ask(Method::PUT, "/api/topics/news", json!({ "data": text })).await;
    }
    let topics: Value = old.get("/api/topics/news", &[]).await.json().await.unwrap();
    let file = Form::new().part("file", Part::bytes(vec![7; 100_000]).file_name("a.bin"));
    let upload = old.client.post(format!("{}/api/tasks/upload", old.binary.base())).multipart(file);
    let upload = upload.send().await.unwrap().json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    old.until(&upload, |task| task["status"] == "completed").await;
    let working = old.submit(json!({ "kind": "simulate", "maxAttempts": 3 })).await;
    old.until(&working, |task| task["status"] == "processing").await;
    let connected = old.get("/sse/connect/bob", &[]).await;

    let said = refused(migrate(data.path(), &database, &[]));
    assert!(said.contains("another progressd is using the data directory"), "{said}");
    let paths = [
        "/api/users/alice/groups",
        "/api/groups/team",
        "/api/users/alice/notifications",
        "/api/users/alice",
        "/api/topics/news",
    ];
    let tasks = [&live, &ended, &deleted, &upload].map(|id| format!("/api/tasks/{id}"));
    let paths: Vec<_> = paths.into_iter().map(str::to_owned).chain(tasks).collect();
    let before = old.everything(&paths).await;
    old.binary.kill();
    drop((old, connected));

    let said = done(migrate(data.path(), &database, &["--files-dir", files.path().to_str().unwrap()]));
    assert!(said.contains("copied 1 files") && !said.contains("postgres://"), "{said}");
    let url = database.url();
    let arguments = ["--store", &url, "--files-dir", files.path().to_str().unwrap()];
    let new = MovingServer::start(node_data.path(), &arguments);
    let after = new.everything(&paths).await;
    assert_eq!(before, after);
    let etag = before[before.len() - 4].1.as_deref().unwrap();
    assert_eq!(new.get(&paths[paths.len() - 4], &[("if-none-match", etag)]).await.status(), StatusCode::NOT_MODIFIED);

    resumes(&new, &live, [&seen, &latest]).await;
    let url = format!("/api/tasks/{ended}/progress");
    assert_eq!(new.get(&url, &[("last-event-id", &end)]).await.status(), StatusCode::NO_CONTENT);
    // What is submitted again is known, and what was a job's is done again at once.
    assert_eq!(new.submit(json!({ "start": true, "userId": "alice" })).await, ended);
    new.until(&working, |task| task["attempt"] == 2).await;
    let saved = new.get(&format!("/api/tasks/{upload}/file"), &[]).await;
    assert_eq!(saved.bytes().await.unwrap(), vec![7; 100_000]);
    let bob = "/api/users/bob";
    let is_gone = async || new.get(bob, &[]).await.json::<Value>().await.unwrap()["status"] == "disconnected";
    timeout(LONG, async { while !is_gone().await {} }).await.unwrap();
    let put = new.ask(Method::PUT, "/api/topics/news", json!({ "data": "third" })).await;
    assert_ne!(put["cursor"], topics["cursor"]);

    let said = refused(migrate(data.path(), &database, &[]));
    assert!(said.contains("has a store already"), "{said}");
    // The data directory is as it was.
    let old = MovingServer::start(data.path(), &[]);
    assert_eq!(old.task(&live).await["message"], "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_store_is_not_moved() {
    let data = TempDir::new().unwrap();
    let database = PostgresServer::shared().database().await;
    let said = refused(migrate(data.path(), &database, &[]));
    assert!(said.contains("journal.db"), "{said}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "nothing was made");
    let old = MovingServer::start(data.path(), &[]);
    for number in 0..40 {
        old.submit(json!({ "title": format!("{number} {}", "x".repeat(200)) })).await;
    }
    let mut binary = old.binary;
    binary.terminate();

    let other = TempDir::new().unwrap();
    fs::write(other.path().join("store"), "other x").unwrap();
    let said = refused(migrate(data.path(), &database, &["--files-dir", other.path().to_str().unwrap()]));
    assert!(said.contains("has the files of another store"), "{said}");
    let path = data.path().join("journal.db");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let text = whole.windows(200).rposition(|bytes| bytes == "x".repeat(200).as_bytes()).unwrap();
    damaged[text] ^= 1;
    fs::write(&path, damaged).unwrap();
    let said = refused(migrate(data.path(), &database, &[]));
    assert!(said.contains("is damaged"), "{said}");
    // Each of these left the database empty, so what is whole can be moved.
    fs::write(&path, whole).unwrap();
    let said = done(migrate(data.path(), &database, &[]));
    assert!(said.contains("moved the store") && !said.contains("files were not copied"), "{said}");
}
