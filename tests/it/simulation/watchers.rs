//! Those who watch: they come and go, read slowly, lose their service, and resume by their cursor.

use std::{sync::Arc, time::Duration};

use progressd::testing::SseEvent;
use tokio::time::{sleep, timeout};

use super::{choices::Choices, nodes::Nodes, writers::Tasks};

/// What was seen of one channel: the events of streams that resumed exactly, and anew after each reset.
pub(super) type Streams = Vec<Vec<SseEvent>>;

#[derive(Clone)]
pub(super) struct Seen {
    pub(super) channel: String,
    pub(super) streams: Streams,
}

/// Who reads one URL to its end, over as many streams as that takes.
struct Reader<'a> {
    nodes: &'a Nodes,
    choices: &'a Choices,
    path: String,
    cursor: String,
    streams: Streams,
}

impl<'a> Reader<'a> {
    fn new(nodes: &'a Nodes, choices: &'a Choices, path: String) -> Self {
        Self { nodes, choices, path, cursor: String::new(), streams: vec![Vec::new()] }
    }

    async fn read(mut self, is_last: impl Fn(&SseEvent) -> bool) -> Streams {
        while !self.read_once(&is_last).await {
            sleep(Duration::from_millis(self.choices.between(1, 2_500))).await;
        }
        self.streams
    }

    /// One stream. True once the last event was seen.
    async fn read_once(&mut self, is_last: impl Fn(&SseEvent) -> bool) -> bool {
        let Some((mut events, end)) = self.nodes.stream(self.choices, &self.path, &self.cursor).await else {
            return false;
        };
        match events.status() {
            200 => {}
            204 => return true,
            503 | 429 => return false,
            other => panic!("{} with {:?}: {other}", self.path, self.cursor),
        }
        loop {
            if self.choices.chance(3) {
                return false;
            }
            if self.choices.chance(5) {
                sleep(Duration::from_millis(self.choices.between(1, 5_000))).await;
            }
            let patience = Duration::from_secs(self.choices.between(20, 100));
            let next = timeout(patience, end.run_until_cancelled(events.next())).await;
            let Ok(Some(Some(event))) = next else { return false };
            match event.event.as_str() {
                "reset" => self.streams.push(Vec::new()),
                "refused" => return false,
                "progress" | "notification" => {
                    self.cursor.clone_from(&event.id);
                    let is_last = is_last(&event);
                    self.streams.last_mut().expect("there is one").push(event);
                    if is_last {
                        return true;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Who watches some tasks to their ends, one after the other.
pub(super) struct Watcher {
    nodes: Arc<Nodes>,
    tasks: Arc<Tasks>,
    choices: Choices,
}

impl Watcher {
    pub(super) fn new(nodes: &Arc<Nodes>, tasks: &Arc<Tasks>, choices: Choices) -> Self {
        Self { nodes: Arc::clone(nodes), tasks: Arc::clone(tasks), choices }
    }

    pub(super) async fn run(self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            sleep(Duration::from_millis(self.choices.between(1, 3_000))).await;
            let (task, has_more) = self.tasks.any(&self.choices);
            if let Some(id) = task {
                let reader = Reader::new(&self.nodes, &self.choices, format!("/api/tasks/{id}/progress"));
                let streams = reader.read(|event| event.data.contains(r#""status":"completed""#)).await;
                seen.push(Seen { channel: format!("task:{id}"), streams });
            }
            if !has_more {
                return seen;
            }
        }
    }
}

/// Who listens to the notifications of one user.
pub(super) struct Listener {
    user: &'static str,
    nodes: Arc<Nodes>,
    choices: Choices,
}

impl Listener {
    pub(super) fn new(user: &'static str, nodes: &Arc<Nodes>, choices: Choices) -> Self {
        Self { user, nodes: Arc::clone(nodes), choices }
    }

    pub(super) async fn run(self) -> Vec<Seen> {
        let reader = Reader::new(&self.nodes, &self.choices, format!("/api/notifications/stream?userId={}", self.user));
        let streams = reader.read(|event| event.data.contains(r#""title":"the end""#)).await;
        vec![Seen { channel: format!("inbox:{}", self.user), streams }]
    }
}
