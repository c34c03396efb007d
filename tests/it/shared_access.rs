//! Access on many nodes: the real binary on a real PostgreSQL. What one node gives or ends holds at the others.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use progressd::{
    event::{ChannelName, Class, Draft, Timestamp},
    journal::{
        Group, Journal,
        postgres::{PostgresJournal, PostgresOptions},
    },
    testing::{Fault, PostgresDatabase, PostgresServer},
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::binary::Binary;

/// Nothing that is waited for takes longer.
const LONG: Duration = Duration::from_secs(30);
/// How soon all nodes know of a change.
const SOON: Duration = Duration::from_secs(1);

/// A node with a data directory of its own.
struct GuardedNode {
    binary: Binary,
    data: TempDir,
    client: Client,
}

impl GuardedNode {
    fn start(database: &PostgresDatabase) -> Self {
        Self::start_on(&database.url())
    }

    fn start_on(store: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        // A proxy lets others in: without a key there it would not start.
        let arguments = ["--store", store, "--trusted-proxies", "10.0.0.1"];
        // Keys are tried until they are believed, or not any more.
        let arguments = [&arguments[..], &["--failed-credentials-per-address", "1000000/1s"]].concat();
        Self { binary: Binary::start(data.path(), &arguments), data, client: Client::new() }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.binary.base()))
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.binary.base())).bearer_auth(key).json(body)
    }

    async fn status(&self, key: &str) -> u16 {
        self.status_of("/api/tasks", key).await
    }

    async fn status_of(&self, path: &str, key: &str) -> u16 {
        self.get(path).bearer_auth(key).send().await.unwrap().status().as_u16()
    }

    async fn until_status(&self, key: &str, status: u16) {
        timeout(SOON, async { while self.status(key).await != status {} }).await.unwrap();
    }

    /// Makes a task that is worked on, and answers its path.
    async fn started(&self, key: &str) -> String {
        let made = self.post("/api/tasks", key, &json!({ "start": true })).send().await.unwrap();
        format!("/api/tasks/{}", made.json::<Value>().await.unwrap()["taskId"].as_str().unwrap())
    }
}

fn key_command(place: &[&str], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_progressd")).arg("key").args(arguments).args(place).output().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

/// Opens a stream, which goes on.
async fn opened(request: RequestBuilder) -> Response {
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(timeout(LONG, response.chunk()).await.unwrap().unwrap().is_some());
    response
}

/// Reads streams to their ends, all of which come soon.
async fn end(streams: impl IntoIterator<Item = Response>) {
    let ends = streams.into_iter().map(|mut stream| async move { while let Ok(Some(_)) = stream.chunk().await {} });
    timeout(SOON, join_all(ends)).await.expect("the streams end");
}

async fn ticket(node: &GuardedNode, key: &str, channel: &str) -> String {
    let issued = node.post("/api/tickets", key, &json!({ "channels": [channel] })).send().await.unwrap();
    issued.json::<Value>().await.unwrap()["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_tickets_and_sessions_hold_at_all_nodes() {
    let database = PostgresServer::shared().database().await;
    let url = database.url();
    let place = ["--store", url.as_str()];
    let early = said(&key_command(&place, &["create", "--name", "early", "--scope", "admin"]));
    let [one, two] = [(); 2].map(|()| GuardedNode::start(&database));
    for node in [&one, &two] {
        assert_eq!(
            (node.status(&early).await, node.get("/api/tasks").send().await.unwrap().status()),
            (200, 401.try_into().unwrap())
        );
    }
    let late = said(&key_command(&place, &["create", "--name", "late", "--scope", "tasks:read"]));
    assert!(!key_command(&place, &["create", "--name", "late", "--scope", "admin"]).status.success());
    one.until_status(&late, 200).await;
    two.until_status(&late, 200).await;

    let path = one.started(&early).await;
    let by_ticket = ticket(&one, &late, &path.replace("/api/tasks/", "task:")).await;
    let path = format!("{path}/progress");
    let streams = [
        opened(one.get(&path).bearer_auth(&late)).await,
        opened(two.get(&path).bearer_auth(&late)).await,
        opened(two.get(&format!("{path}?ticket={by_ticket}"))).await,
    ];
    let lasting = opened(two.get(&path).bearer_auth(&early)).await;
    said(&key_command(&place, &["revoke", "late"]));
    end(streams).await;
    assert_eq!((one.status(&late).await, two.status(&late).await), (401, 401));
    assert_eq!(two.get(&format!("{path}?ticket={by_ticket}")).send().await.unwrap().status(), 401);
    assert!(!key_command(&place, &["revoke", "late"]).status.success());

    // A session that one node opened is known at the other, and ends everywhere.
    let session = one.post("/api/session", &early, &json!({})).send().await.unwrap();
    let cookie = session.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let with = |request: RequestBuilder| request.header("cookie", &cookie).header("sec-fetch-site", "same-origin");
    let stream = opened(with(two.get(&path))).await;
    let signed_out = with(one.client.delete(format!("{}/api/session", one.binary.base()))).send().await.unwrap();
    assert_eq!(signed_out.status(), 204);
    end([stream]).await;
    assert_eq!(with(two.get("/api/tasks")).send().await.unwrap().status(), 401);
    drop(lasting);

    // What ended stays ended, and what a key was used for last is known without any node.
    let late_node = GuardedNode::start(&database);
    assert_eq!(with(late_node.get("/api/tasks")).send().await.unwrap().status(), 401);
    assert_eq!((late_node.status(&early).await, late_node.status(&late).await), (200, 401));
    for mut node in [one, two, late_node] {
        node.binary.terminate();
        assert!(!node.data.path().join("access").exists(), "nothing is kept beside the store");
    }
    let table = said(&key_command(&place, &["list"]));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), ["name", "early", "late"]);
    assert!(rows[1][5] == "-" && rows[1][6].starts_with("20") && rows[2][5].starts_with("20"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_believes_what_it_knew_until_it_is_back() {
    let database = PostgresServer::shared().database().await;
    let url = database.url();
    let place = ["--store", url.as_str()];
    let key = said(&key_command(&place, &["create", "--name", "ci", "--scope", "admin"]));
    let proxy = database.proxy();
    let [cut_off, other] = [database.url_through(&[&proxy]), url.clone()].map(|store| GuardedNode::start_on(&store));
    let path = cut_off.started(&key).await;
    let stream = opened(cut_off.get(&format!("{path}/progress")).bearer_auth(&key)).await;

    proxy.set(Fault::Refuse);
    proxy.cut();
    said(&key_command(&place, &["revoke", "ci"]));
    timeout(SOON, async { while other.status_of(&path, &key).await != 401 {} }).await.unwrap();
    assert_eq!(cut_off.status_of(&path, &key).await, 200, "it has not heard of it");
    assert_eq!(cut_off.post("/api/tasks", &key, &json!({})).send().await.unwrap().status(), 503);
    proxy.set(Fault::None);
    timeout(LONG, async { while cut_off.status_of(&path, &key).await != 401 {} }).await.unwrap();
    end([stream]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_tickets_of_an_embedded_store_move_with_it() {
    let database = PostgresServer::shared().database().await;
    let data = tempfile::tempdir().unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let place = ["--data-dir", &path(data.path())];
    let key = said(&key_command(&place, &["create", "--name", "early", "--scope", "admin"]));
    let gone = said(&key_command(&place, &["create", "--name", "gone", "--scope", "admin"]));
    said(&key_command(&place, &["revoke", "gone"]));
    let mut old = GuardedNode { binary: Binary::start(data.path(), &[]), data, client: Client::new() };
    let topic = json!({ "data": 1 });
    let put = old.client.put(format!("{}/api/topics/news", old.binary.base())).bearer_auth(&key).json(&topic);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let by_ticket = ticket(&old, &key, "topic:news").await;
    old.binary.terminate();
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_progressd"));
    migrate.args(["migrate", "--to", &database.url()]).arg("--from").arg(old.data.path());
    said(&migrate.output().unwrap());
    let node = GuardedNode::start(&database);
    assert_eq!((node.status(&key).await, node.status(&gone).await), (200, 401));
    opened(node.get(&format!("/api/topics/news/events?ticket={by_ticket}"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_others_reach_needs_a_key_in_the_store() {
    let database = PostgresServer::shared().database().await;
    let data = tempfile::tempdir().unwrap();
    // A key in the data directory is none of the store.
    said(&key_command(&["--data-dir", data.path().to_str().unwrap()], &["create", "--name", "a", "--scope", "admin"]));
    // It is not to go on.
    let mut command = Command::new("timeout");
    command.args([&LONG.as_secs().to_string(), env!("CARGO_BIN_EXE_progressd")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--trusted-proxies", "10.0.0.1", "--store", &database.url()]);
    let output = command.arg("--data-dir").arg(data.path()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("access is off: whoever reaches it could do everything"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_node_cannot_read_are_not_believed() {
    let database = PostgresServer::shared().database().await;
    let key = said(&key_command(&["--store", &database.url()], &["create", "--name", "ci", "--scope", "tasks:read"]));
    let node = GuardedNode::start(&database);
    node.until_status(&key, 200).await;
    let stream = opened(node.get("/api/tasks").header("accept", "text/event-stream").bearer_auth(&key)).await;
    // A newer version writes scopes that this one does not know.
    let newer = PostgresJournal::open(&database.url(), &PostgresOptions::default()).await.unwrap();
    let channel = ChannelName::shared("access-keys").unwrap();
    let known = newer.last(&channel).await.unwrap().unwrap();
    let memo = String::from_utf8(known.memo.unwrap().to_vec()).unwrap().replace("tasks:read", "tasks:paint");
    let (name, data, class) = (None, Bytes::new(), Class::Hidden);
    let draft = Draft { channel, name, class, data, memo: Some(memo.into()), origin: None };
    let group = Group { id: uuid::Uuid::now_v7(), at: Timestamp::now(), expects: Vec::new(), drafts: vec![draft] };
    newer.append(newer.head().await.unwrap(), vec![group]).await.unwrap();
    node.until_status(&key, 401).await;
    end([stream]).await;
    assert_eq!(node.get("/api/tasks").send().await.unwrap().status(), 401, "access stays on");
}
