//! The real binary on a real PostgreSQL: nodes that are killed, a database that is away, and many nodes on one.

use std::time::{Duration, Instant};

use progressd::testing::{PostgresDatabase, PostgresServer, SseEvent, SseParser};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::binary::Binary;

/// Nothing that is waited for takes longer.
pub(super) const LONG: Duration = Duration::from_secs(30);
/// A node that fails is noticed within this.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
/// Clients that report while the database is stopped.
const REPORTERS: usize = 4;

/// A node with a data directory of its own.
pub(super) struct Node {
    binary: Binary,
    data: TempDir,
    pub(super) client: Client,
}

impl Node {
    pub(super) fn start(database: &PostgresDatabase) -> Self {
        let data = tempfile::tempdir().unwrap();
        let binary = Binary::start(data.path(), &["--store", &database.url()]);
        Self { binary, data, client: Client::new() }
    }

    /// As after a crash of its machine: the same node starts again.
    pub(super) fn restart(&mut self, database: &PostgresDatabase) {
        self.binary.kill();
        self.binary = Binary::start(self.data.path(), &["--store", &database.url()]);
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.binary.base())
    }

    pub(super) async fn submit(&self) -> String {
        let made = self.client.post(self.url("/api/tasks")).json(&json!({ "start": true })).send().await.unwrap();
        assert_eq!(made.status(), 202);
        made.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned()
    }

    pub(super) async fn report(&self, id: &str, report: Value) -> Response {
        self.client.patch(self.url(&format!("/api/tasks/{id}"))).json(&report).send().await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(super) async fn watch(&self, id: &str, cursor: Option<&str>) -> Watch {
        let request = self.client.get(self.url(&format!("/api/tasks/{id}/progress")));
        let request = cursor.into_iter().fold(request, |request, cursor| request.header("last-event-id", cursor));
        let response = request.send().await.unwrap();
        Watch::of(response)
    }

    async fn wait_until_ready(&self) {
        timeout(LONG, async { while self.get("/readyz").await.status() != 200 {} }).await.unwrap();
    }
}

/// An open stream.
pub(super) struct Watch {
    response: Response,
    parser: SseParser,
    read: Vec<SseEvent>,
}

impl Watch {
    pub(super) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { response, parser: SseParser::default(), read: Vec::new() }
    }

    /// The next event, or none when the stream has ended.
    pub(super) async fn next(&mut self) -> Option<SseEvent> {
        // All of it: comments come again and again.
        let reading = async {
            while self.read.is_empty() {
                let bytes = self.response.chunk().await.ok().flatten()?;
                self.read = self.parser.feed(&bytes);
            }
            Some(self.read.remove(0))
        };
        timeout(LONG, reading).await.expect("an event")
    }

    /// Reads on until a state, without a reset on the way; answers the cursor of its event.
    pub(super) async fn until(&mut self, is_meant: impl Fn(&Value) -> bool) -> String {
        loop {
            let event = self.next().await.expect("the stream goes on");
            assert_eq!(event.event, "progress", "{event:?}");
            if is_meant(&serde_json::from_str(&event.data).unwrap()) {
                return event.id;
            }
        }
    }
}

fn current(at_least: u64) -> impl Fn(&Value) -> bool {
    move |task| task["current"].as_f64().is_some_and(|current| current >= at_least as f64)
}

/// A server that a test may stop, with a database.
async fn own_server() -> (&'static PostgresServer, PostgresDatabase) {
    let server: &'static PostgresServer = Box::leak(Box::new(PostgresServer::start()));
    (server, server.database().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_goes_on_where_it_was() {
    let database = PostgresServer::shared().database().await;
    let mut node = Node::start(&database);
    let id = node.submit().await;
    let mut watch = node.watch(&id, None).await;
    assert_eq!(node.report(&id, json!({ "current": 1, "total": 9 })).await.status(), 200);
    let cursor = watch.until(current(1)).await;
    assert_eq!(node.report(&id, json!({ "current": 2 })).await.status(), 200);
    node.restart(&database);

    let mut watch = node.watch(&id, Some(&cursor)).await;
    watch.until(current(2)).await;
    assert_eq!(node.report(&id, json!({ "status": "completed" })).await.status(), 200);
    let end = watch.until(|task| task["status"] == "completed").await;
    assert!(watch.next().await.is_none_or(|event| event.event != "progress"));
    let path = format!("/api/tasks/{id}/progress");
    let again = node.client.get(node.url(&path)).header("last-event-id", end).send().await.unwrap();
    assert_eq!(again.status(), 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_nothing_is_lost_and_no_stream_ends() {
    let (server, database) = own_server().await;
    let node = Node::start(&database);
    let mut ids = Vec::new();
    for _ in 0..REPORTERS {
        ids.push(node.submit().await);
    }
    // What they read is looked at only in the end.
    let mut watches = Vec::new();
    for id in &ids {
        watches.push(node.watch(id, None).await);
    }
    let phase = tokio::sync::watch::Sender::new(Phase::Reporting);
    let reporting = ids.iter().map(|id| report_until_told(&node, id, phase.subscribe()));
    let stopping = async {
        for id in &ids {
            node.watch(id, None).await.until(current(1)).await;
        }
        server.stop();
        timeout(LONG, async { while node.get("/readyz").await.status() != 503 {} }).await.unwrap();
        phase.send_replace(Phase::Away);
        let refused = node.report(&ids[0], json!({ "message": "now?" })).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let task: Value = node.get(&format!("/api/tasks/{}", ids[0])).await.json().await.unwrap();
        let known = task["current"].as_u64().unwrap();
        server.start_again();
        node.wait_until_ready().await;
        phase.send_replace(Phase::Reporting);
        node.watch(&ids[0], None).await.until(current(known + 1)).await;
        phase.send_replace(Phase::Over);
    };
    let (acknowledged, ()) = tokio::join!(futures_util::future::join_all(reporting), stopping);
    for ((id, watch), (acknowledged, was_refused)) in ids.iter().zip(&mut watches).zip(acknowledged) {
        assert!(acknowledged > 0 && was_refused, "{acknowledged} reports, refused: {was_refused}");
        // The same streams as before; what was acknowledged is in the store, too.
        watch.until(current(acknowledged)).await;
        let task: Value = node.get(&format!("/api/tasks/{id}")).await.json().await.unwrap();
        assert!(current(acknowledged)(&task), "{task}");
    }
    drop(node);
    server.end();
}

/// What those who report do.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Reporting,
    /// Who is refused waits for another phase.
    Away,
    Over,
}

/// Reports until told, and answers the last report that was acknowledged and whether one was refused meanwhile.
async fn report_until_told(node: &Node, id: &str, mut phase: tokio::sync::watch::Receiver<Phase>) -> (u64, bool) {
    let (mut acknowledged, mut was_refused) = (0, false);
    for count in 1.. {
        if *phase.borrow_and_update() == Phase::Over {
            break;
        }
        match node.report(id, json!({ "current": count, "total": 1_000_000 })).await.status().as_u16() {
            200 => acknowledged = count,
            503 => {
                was_refused = true;
                phase.wait_for(|phase| *phase != Phase::Away).await.unwrap();
            }
            other => panic!("{other}"),
        }
    }
    (acknowledged, was_refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_one_store() {
    let database = PostgresServer::shared().database().await;
    let [one, two, three] = [(); 3].map(|()| Node::start(&database));
    let id = one.submit().await;
    // Known everywhere as soon as it is acknowledged.
    assert_eq!(two.get(&format!("/api/tasks/{id}")).await.status(), 200);
    let mut watches = [two.watch(&id, None).await, three.watch(&id, None).await, one.watch(&id, None).await];
    for count in 1..=20 {
        let reporter = if count % 2 == 0 { &one } else { &two };
        assert_eq!(reporter.report(&id, json!({ "current": count, "total": 100 })).await.status(), 200);
    }
    let mut cursors = Vec::new();
    for watch in &mut watches {
        cursors.push(watch.until(current(20)).await);
    }
    assert!(cursors.iter().all(|cursor| *cursor == cursors[0]), "{cursors:?}");
    // A cursor of one node is good on the others, also one that they have not come to yet.
    let ended = one.report(&id, json!({ "status": "completed" })).await;
    let end = ended.json::<Value>().await.unwrap()["cursor"].as_str().unwrap().to_owned();
    for (node, watch) in [&two, &three, &one].into_iter().zip(&mut watches) {
        assert_eq!(watch.until(|task| task["status"] == "completed").await, end);
        let path = format!("/api/tasks/{id}/progress");
        let seen = node.client.get(node.url(&path)).header("last-event-id", &end).send().await.unwrap();
        assert_eq!(seen.status(), 204);
    }
    assert_eq!(two.client.delete(two.url(&format!("/api/tasks/{id}"))).send().await.unwrap().status(), 204);
    timeout(LONG, async { while three.get(&format!("/api/tasks/{id}")).await.status() != 410 {} }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_passed_over_by_nobody() {
    let database = PostgresServer::shared().database().await;
    let [one, two] = [(); 2].map(|()| Node::start(&database));
    let (slow, quick) = (one.submit().await, one.submit().await);
    let mut watches = [two.watch(&slow, None).await, two.watch(&quick, None).await];
    // A third node is in the middle of its append, and stays there for a while: nobody gets a later seq before it.
    let late = database.try_execute("BEGIN; SELECT progressd.lock_log(); SELECT pg_sleep(1); COMMIT");
    let reports = async {
        database
            .wait_until("SELECT EXISTS (SELECT FROM pg_locks WHERE classid = x'70726764'::int::oid AND objid = 1)")
            .await;
        tokio::join!(
            one.report(&slow, json!({ "current": 1, "total": 2 })),
            two.report(&quick, json!({ "current": 1, "total": 2 })),
        )
    };
    let (late, reported) = tokio::join!(late, reports);
    late.unwrap();
    assert_eq!((reported.0.status().as_u16(), reported.1.status().as_u16()), (200, 200));
    for watch in &mut watches {
        watch.until(current(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_user_and_no_job_is_left_behind_by_a_node_that_is_killed() {
    let database = PostgresServer::shared().database().await;
    let mut one = Node::start(&database);
    let mut jobs = Vec::new();
    for attempts in [1, 2] {
        let job = json!({ "kind": "simulate", "maxAttempts": attempts, "input": { "intervalMs": 3_600_000 } });
        let made = one.client.post(one.url("/api/tasks")).json(&job).send().await.unwrap();
        jobs.push(made.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned());
        let mut watch = one.watch(&jobs[jobs.len() - 1], None).await;
        watch.until(|task| task["status"] == "processing").await;
    }
    let two = Node::start(&database);
    let _connected =
        [one.get("/sse/connect/alice").await, one.get("/sse/connect/bob").await, two.get("/sse/connect/bob").await];
    let response = two.get("/api/topics/presence/events").await;
    let mut told = Watch::of(response);

    one.binary.kill();
    let killed_at = Instant::now();
    loop {
        let event = told.next().await.expect("the stream goes on");
        let told: Value = serde_json::from_str(&event.data).unwrap();
        assert!(told["userId"] != "bob" || told["status"] == "connected", "{told}");
        if told["userId"] == "alice" && told["status"] == "disconnected" {
            break;
        }
    }
    let mut lost = two.watch(&jobs[0], None).await;
    lost.until(|task| task["error"]["code"] == "worker_lost").await;
    let mut again = two.watch(&jobs[1], None).await;
    again.until(|task| task["status"] == "processing" && task["attempt"] == 2).await;
    assert!(killed_at.elapsed() <= NOTICED_WITHIN, "{:?}", killed_at.elapsed());
    for (user, status) in [("alice", "disconnected"), ("bob", "connected")] {
        let known: Value = two.get(&format!("/api/users/{user}")).await.json().await.unwrap();
        assert_eq!(known["status"], status, "{known}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_touches_nothing_of_the_others() {
    let database = PostgresServer::shared().database().await;
    let mut one = Node::start(&database);
    let connected = one.get("/sse/connect/alice").await;
    let made = one.client.post(one.url("/api/tasks")).json(&json!({ "kind": "simulate", "maxAttempts": 3 })).send();
    let id = made.await.unwrap().json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    let mut watch = one.watch(&id, None).await;
    watch.until(|task| task["status"] == "processing").await;

    let two = Node::start(&database);
    // What it would do at its start comes before this.
    two.submit().await;
    let task: Value = two.get(&format!("/api/tasks/{id}")).await.json().await.unwrap();
    assert_eq!((&task["status"], &task["attempt"]), (&json!("processing"), &json!(1)), "{task}");
    for node in [&one, &two] {
        let alice: Value = node.get("/api/users/alice").await.json().await.unwrap();
        assert_eq!(alice["status"], "connected", "{alice}");
    }

    // What it held itself, a node gives back when it starts again: who was there is not, and the job is done anew.
    drop(connected);
    one.restart(&database);
    timeout(LONG, async {
        loop {
            let alice: Value = two.get("/api/users/alice").await.json().await.unwrap();
            let task: Value = two.get(&format!("/api/tasks/{id}")).await.json().await.unwrap();
            if alice["status"] == "disconnected" && task["attempt"] == 2 {
                break;
            }
        }
    })
    .await
    .unwrap();
}
