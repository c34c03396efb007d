//! Those who write: workers who report on their tasks, who notifies users, who gives jobs to the services, who joins groups,
//! and who comes and goes. Each asks again until it has an answer that
//! tells what became of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::{choices::Choices, nodes::Nodes};
use crate::support::Asking;

/// The tasks that are acknowledged, for watchers to choose from.
#[derive(Default)]
pub(super) struct Tasks(Mutex<(Vec<Uuid>, bool)>);

impl Tasks {
    fn add(&self, id: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.push(id);
    }

    /// There will be no more; all of them.
    pub(super) fn close(&self) -> Vec<Uuid> {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.1 = true;
        tasks.0.clone()
    }

    /// One of them, and whether there may be more.
    pub(super) fn any(&self, choices: &Choices) -> (Option<Uuid>, bool) {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (choices.of(&tasks.0).copied(), !tasks.1)
    }
}

/// What was acknowledged: a text, and the channel which must have it.
pub(super) type Acknowledged = Vec<(String, String)>;

/// Who works on some tasks, one after the other.
pub(super) struct Worker {
    name: u64,
    nodes: Arc<Nodes>,
    tasks: Arc<Tasks>,
    choices: Choices,
}

impl Worker {
    pub(super) fn new(name: u64, nodes: &Arc<Nodes>, tasks: &Arc<Tasks>, choices: Choices) -> Self {
        Self { name, nodes: Arc::clone(nodes), tasks: Arc::clone(tasks), choices }
    }

    pub(super) async fn run(self) -> Acknowledged {
        let mut acknowledged = Vec::new();
        for _ in 0..self.choices.between(1, 3) {
            let id = new_id(&self.choices);
            let steps: Vec<Value> =
                (0..self.choices.between(1, 6)).map(|step| json!({ "name": step.to_string() })).collect();
            let path = format!("/api/tasks/{id}");
            self.until_done("PUT", &path, &json!({ "start": true, "steps": steps })).await;
            is_there(&self.nodes, &self.choices, &path).await;
            self.tasks.add(id);
            let channel = format!("task:{id}");
            for step in 0..steps.len() {
                for tick in 0..self.choices.between(0, 5) {
                    self.choices.pause(Duration::from_millis(300)).await;
                    let text = format!("tick {} {step} {tick}", self.name);
                    self.until_done("PATCH", &path, &json!({ "progress": tick * 10, "message": text })).await;
                }
                let text = format!("step {} {step}", self.name);
                self.until_done("PATCH", &path, &json!({ "step": step, "message": text })).await;
                // The first step is the current one from the beginning: that is a tick.
                if step > 0 {
                    acknowledged.push((channel.clone(), text));
                }
            }
            self.until_done("PATCH", &path, &json!({ "status": "completed", "message": "the end" })).await;
            acknowledged.push((channel, "the end".to_owned()));
        }
        acknowledged
    }

    async fn until_done(&self, method: &str, path: &str, body: &Value) {
        ask_until_done(&self.nodes, &self.choices, method, path, body).await;
    }
}

pub(super) fn new_id(choices: &Choices) -> Uuid {
    let bytes = (u128::from(choices.number()) << 64 | u128::from(choices.number())).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// Gives the services some work of their own.
pub(super) async fn submit(nodes: Arc<Nodes>, jobs: Arc<Tasks>, choices: Choices) -> Acknowledged {
    for _ in 0..choices.between(1, 4) {
        choices.pause(Duration::from_secs(5)).await;
        let id = new_id(&choices);
        let input = json!({ "steps": choices.between(1, 5), "intervalMs": choices.between(1, 8_000) });
        let job = json!({ "kind": "simulate", "maxAttempts": choices.between(1, 3), "input": input });
        ask_until_done(&nodes, &choices, "PUT", &format!("/api/tasks/{id}"), &job).await;
        jobs.add(id);
    }
    Vec::new()
}

/// Connects to some service again and again, and stays for a while.
pub(super) async fn visit(user: &'static str, nodes: Arc<Nodes>, choices: Choices) -> Acknowledged {
    for _ in 0..choices.between(2, 6) {
        choices.pause(Duration::from_secs(8)).await;
        let stream = nodes.stream(&choices, &format!("/sse/connect/{user}"), "").await;
        choices.pause(Duration::from_secs(20)).await;
        drop(stream);
    }
    Vec::new()
}

async fn ask_until_done(nodes: &Nodes, choices: &Choices, method: &str, path: &str, body: &Value) {
    let mut is_repeated = false;
    loop {
        let answer = nodes.ask(choices, |router| Asking::of(router, method, path).json(body)).await;
        match answer.map(|answer| (answer.status(), answer)) {
            Some((200..=202, _)) => return,
            // It had been done, and the answer was lost.
            Some((409, _)) if is_repeated && body["status"] == "completed" => return,
            Some((503 | 429, _)) | None => {}
            Some((_, answer)) => panic!("{method} {path} {body}: {answer:?}"),
        }
        is_repeated = true;
        sleep(Duration::from_millis(choices.between(1, 2_000))).await;
    }
}

/// Notifies a user now and then, and ends with `the end`.
pub(super) async fn notify(user: &'static str, nodes: Arc<Nodes>, choices: Choices) -> Acknowledged {
    let mut acknowledged = Vec::new();
    let last = choices.between(3, 12);
    for number in 0..=last {
        choices.pause(Duration::from_secs(4)).await;
        let title = if number == last { "the end".to_owned() } else { format!("{user} {number}") };
        let body = json!({ "id": format!("{user}-{number}"), "title": title, "message": "m" });
        ask_until_done(&nodes, &choices, "POST", &format!("/api/users/{user}/notifications"), &body).await;
        is_there(&nodes, &choices, &format!("/api/users/{user}/notifications")).await;
        acknowledged.push((format!("inbox:{user}"), title));
    }
    acknowledged
}

/// What is acknowledged is there for all of them at once.
async fn is_there(nodes: &Nodes, choices: &Choices, path: &str) {
    let answer = nodes.ask(choices, |router| Asking::of(router, "GET", path)).await;
    assert!(answer.as_ref().is_none_or(|answer| [200, 429, 503].contains(&answer.status())), "{path}: {answer:?}");
}

/// Joins one group after the other, each of which is notified then.
pub(super) async fn gather(user: &'static str, nodes: Arc<Nodes>, choices: Choices) -> Acknowledged {
    let mut acknowledged = Vec::new();
    for number in 0..choices.between(1, 6) {
        choices.pause(Duration::from_secs(6)).await;
        let (group, title) = (format!("{user}-{number}"), format!("to group {number}"));
        let path = format!("/api/users/{user}/groups");
        ask_until_done(&nodes, &choices, "PUT", &path, &json!([group])).await;
        is_there(&nodes, &choices, &path).await;
        let body = json!({ "id": title, "title": title, "message": "m" });
        ask_until_done(&nodes, &choices, "POST", &format!("/api/groups/{group}/notifications"), &body).await;
        acknowledged.push((format!("group:{group}"), title));
    }
    acknowledged
}
