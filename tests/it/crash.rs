//! The real binary, killed at random under load, again and again: what was acknowledged or shown is still there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use progressd::{
    event::{Cursor, Seq},
    testing::SseParser,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::binary::Binary;

/// How often it is killed.
const KILLS: usize = 6;
/// Clients that report all the time.
const REPORTERS: usize = 8;

/// What was acknowledged, or shown to a watcher, of one task.
#[derive(Clone, Debug, Default)]
struct Known {
    seq: Seq,
    progress: f64,
    final_status: Option<String>,
}

type Ledger = Arc<Mutex<BTreeMap<String, Known>>>;

fn note(ledger: &Ledger, task: &Value) {
    let id = task["taskId"].as_str().expect("a task").to_owned();
    let cursor: Cursor = task["cursor"].as_str().expect("a cursor").parse().expect("a cursor");
    let status = task["status"].as_str().expect("a status");
    let mut ledger = ledger.lock().expect("no panic");
    let known = ledger.entry(id).or_default();
    known.seq = known.seq.max(cursor.seq);
    known.progress = known.progress.max(task["progress"].as_f64().unwrap_or(0.0));
    if matches!(status, "completed" | "error" | "cancelled") {
        known.final_status = Some(status.to_owned());
    }
}

/// Makes tasks and reports on them until the server is gone; `acknowledged` is told of each answer.
async fn report(base: String, ledger: Ledger, acknowledged: tokio::sync::mpsc::Sender<()>) {
    let client = reqwest::Client::new();
    let _gone: Result<(), reqwest::Error> = async {
        loop {
            let new = json!({ "start": true, "total": 8, "metadata": { "by": "crash" } });
            let task: Value = client.post(format!("{base}/api/tasks")).json(&new).send().await?.json().await?;
            note(&ledger, &task);
            let url = format!("{base}/api/tasks/{}", task["taskId"].as_str().expect("a task"));
            for current in 1..=8 {
                let status = if current == 8 { "completed" } else { "processing" };
                let told = json!({ "current": current, "status": status });
                let task: Value = client.patch(&url).json(&told).send().await?.json().await?;
                note(&ledger, &task);
                // The main task may have what it waits for and not listen any more.
                let _enough = acknowledged.send(()).await;
            }
        }
    }
    .await;
}

/// Follows one task, starting at a cursor, until the server is gone; notes what is shown.
async fn watch(base: String, id: String, cursor: Option<String>, ledger: Ledger) -> Option<String> {
    let mut request = reqwest::Client::new().get(format!("{base}/api/tasks/{id}/progress"));
    if let Some(cursor) = &cursor {
        request = request.header("last-event-id", cursor);
    }
    let mut response = request.send().await.ok()?;
    let (mut parser, mut last) = (SseParser::default(), cursor);
    while let Ok(Some(bytes)) = response.chunk().await {
        for event in parser.feed(&bytes) {
            assert_eq!(event.event, "progress", "a cursor of before the crash is still good");
            note(&ledger, &serde_json::from_str(&event.data).expect("a task"));
            last = Some(event.id);
        }
    }
    last
}

async fn check(base: &str, ledger: &Ledger) {
    let known = ledger.lock().expect("no panic").clone();
    let client = reqwest::Client::new();
    for (id, known) in known {
        let response = client.get(format!("{base}/api/tasks/{id}")).send().await.expect("the server answers");
        assert_eq!(response.status(), 200, "{id} was acknowledged and is gone");
        let task: Value = response.json().await.expect("a task");
        let cursor: Cursor = task["cursor"].as_str().expect("a cursor").parse().expect("a cursor");
        assert!(cursor.seq >= known.seq, "{id} went back: {task} {known:?}");
        assert!(task["progress"].as_f64().unwrap_or(0.0) >= known.progress, "{id} went back: {task} {known:?}");
        assert_eq!(task["metadata"]["by"], "crash");
        if let Some(status) = known.final_status {
            assert_eq!(task["status"], status.as_str(), "{id} was final");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_shown_is_lost() {
    let data = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::default();
    let mut watched: Option<(String, Option<String>)> = None;
    for kill in 0..=KILLS {
        let mut server = Binary::start(data.path(), &[]);
        let base = server.base();
        check(&base, &ledger).await;
        if kill == KILLS {
            break;
        }
        let client = reqwest::Client::new();
        let (id, cursor) = match watched.take() {
            Some(watched) => watched,
            None => {
                let new = json!({ "start": true, "metadata": { "by": "crash" } });
                let made = client.post(format!("{base}/api/tasks")).json(&new).send().await.expect("it answers");
                let task: Value = made.json().await.expect("a task");
                (task["taskId"].as_str().expect("a task").to_owned(), None)
            }
        };
        let watcher = tokio::spawn(watch(base.clone(), id.clone(), cursor, Arc::clone(&ledger)));
        let (acknowledged, mut acknowledgements) = tokio::sync::mpsc::channel(1);
        let mut reporters = JoinSet::new();
        for _ in 0..REPORTERS {
            reporters.spawn(report(base.clone(), Arc::clone(&ledger), acknowledged.clone()));
        }
        // Killed after a random number of acknowledgements, each moving the watched task on.
        let enough = 50 + uuid::Uuid::new_v4().as_u128() % 250;
        for count in 0..enough {
            acknowledgements.recv().await.expect("reports are acknowledged");
            if count % 10 == 0 {
                let told = json!({ "message": format!("{kill}-{count}") });
                let answer = client.patch(format!("{base}/api/tasks/{id}")).json(&told).send().await;
                note(&ledger, &answer.expect("it answers").json().await.expect("a task"));
            }
        }
        server.kill();
        drop(acknowledgements);
        reporters.join_all().await;
        watched = Some((id, watcher.await.expect("what was shown is consistent")));
    }
}
