//! What one of several nodes may cost where nothing else goes wrong: it reads anew what it knows, it is away, it dies.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{HEARS_WITHIN, choices::Choices, nodes::Nodes, writers::new_id};
use crate::support::{Answer, Asking, Events};

/// How soon the others say that what a node had is gone with it.
const GONE_WITHIN: Duration = Duration::from_secs(15);
/// How long a node is away, which is longer than others wait for it.
const AWAY: Duration = Duration::from_secs(20);
/// How soon a node that was away says what it has.
const BACK_WITHIN: Duration = Duration::from_secs(5);
const USER: &str = "dan";

pub(super) async fn one_fails(nodes: &Nodes, choices: &Choices) {
    let node = usize::try_from(choices.between(0, 2)).unwrap() % nodes.count();
    let other = (node + 1) % nodes.count();
    if other == node {
        return;
    }
    reads_anew(nodes, node, other, choices).await;
    let user = format!("/api/users/{USER}");
    let _stream = open(nodes, node, &format!("/sse/connect/{USER}")).await;
    let job = begin_job(nodes, node, choices).await;
    until_told(nodes, None, &user, HEARS_WITHIN, |told| told["status"] == "connected").await;
    nodes.be_away(node, AWAY);
    if choices.chance(50) {
        nodes.lapse(node);
    }
    is_gone(nodes, node, &user, &job).await;
    // Some of that time has passed.
    until_told(nodes, None, &user, AWAY + BACK_WITHIN, |told| told["status"] == "connected").await;
    let job = begin_job(nodes, node, choices).await;
    // By now it has said that it lives, and is known to have had no trouble.
    sleep(AWAY).await;
    nodes.kill(node);
    is_gone(nodes, node, &user, &job).await;
}

/// A node that has to read all anew ends no stream for it, and shows what it missed.
async fn reads_anew(nodes: &Nodes, node: usize, other: usize, choices: &Choices) {
    let path = format!("/api/tasks/{}", new_id(choices));
    let steps: Vec<_> = (0..4).map(|step| json!({ "name": step.to_string() })).collect();
    ask(nodes, other, "PUT", &path, &json!({ "start": true, "steps": steps })).await;
    let mut stream = open(nodes, node, &format!("{path}/progress")).await;
    assert_eq!(stream.state().await["status"], "processing");
    for report in [json!({ "step": 1 }), json!({ "step": 2 }), json!({ "step": 3 }), json!({ "status": "completed" })] {
        nodes.lapse(node);
        ask(nodes, other, "PATCH", &path, &report).await;
        let told = timeout(HEARS_WITHIN, stream.state()).await.expect("it is shown");
        for (member, value) in report.as_object().unwrap() {
            assert_eq!(told[member], *value, "each is shown");
        }
    }
    assert!(stream.next().await.is_none(), "a task has one end");
}

/// A job that a node has begun, and does not end.
async fn begin_job(nodes: &Nodes, node: usize, choices: &Choices) -> String {
    let input = json!({ "steps": 1, "intervalMs": 3_600_000 });
    let job = json!({ "kind": "simulate", "maxAttempts": 1, "input": input });
    // Others do those of which it is their turn.
    loop {
        let id = new_id(choices);
        let path = format!("/api/tasks/{id}");
        ask(nodes, node, "PUT", &path, &job).await;
        until_told(nodes, None, &path, HEARS_WITHIN, |told| told["status"] == "processing").await;
        if nodes.works_on(node, id).await {
            return path;
        }
    }
}

/// The others say so in time.
async fn is_gone(nodes: &Nodes, node: usize, user: &str, job: &str) {
    let is_gone = |told: &Value| told["status"] == "disconnected" || told["error"]["code"] == "worker_lost";
    tokio::join!(
        until_told(nodes, Some(node), user, GONE_WITHIN, is_gone),
        until_told(nodes, Some(node), job, GONE_WITHIN, is_gone),
    );
}

async fn until_told(nodes: &Nodes, but: Option<usize>, path: &str, within: Duration, is_so: impl Fn(&Value) -> bool) {
    let mut last = Vec::new();
    let told = async {
        loop {
            last = nodes.ask_each_but(but, path).await.iter().map(Answer::json).collect();
            if last.iter().all(&is_so) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let is_told = timeout(within, told).await.is_ok();
    assert!(is_told, "{path} is not as it should be after {within:?}: {last:?}");
}

async fn open(nodes: &Nodes, node: usize, path: &str) -> Events {
    let asking = Asking::of(nodes.router(node), "GET", path).header("accept", "text/event-stream");
    asking.events().await
}

async fn ask(nodes: &Nodes, node: usize, method: &str, path: &str, body: &Value) {
    let answer = Asking::of(nodes.router(node), method, path).json(body).send().await;
    assert!((200..=202).contains(&answer.status()), "{method} {path} {body}: {answer:?}");
}
