//! Nodes that share a PostgreSQL server, beside the embedded store: all of them, the server and the load are on this machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use progressd::testing::{PostgresDatabase, PostgresServer};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};

use crate::{
    client::{Ask, Load},
    paced::Paced,
    server::{Server, Subject},
    table::Figures,
};

const NODES_MAX: usize = 3;
const CLIENTS: usize = 48;
const SPAN: Duration = Duration::from_secs(5);
const WATCHED_TASKS: usize = 12;
const WATCHERS: usize = 240;
/// Until the watchers were told of the last report.
const TOLD_MAX: Duration = Duration::from_secs(1);
const PACED: usize = 12;
const PACED_INTERVAL: Duration = Duration::from_millis(100);

/// Nodes of one store, and the database that they share, if any.
struct Nodes {
    nodes: Vec<Server>,
    database: Option<PostgresDatabase>,
}

impl Nodes {
    async fn start(subject: &Subject<'_>, count: usize) -> Self {
        let database = match count {
            0 => None,
            _ => Some(PostgresServer::shared().database().await),
        };
        let url = database.as_ref().map(PostgresDatabase::url);
        // Each report is delivered, so that they can be counted.
        let mut arguments = vec!["--tick-interval", "1ms"];
        arguments.extend(url.iter().flat_map(|url| ["--store", url]));
        let nodes = (0..count.max(1)).map(|_| subject.start(&arguments)).collect();
        Self { nodes, database }
    }

    fn name(&self) -> String {
        match (&self.database, self.nodes.len()) {
            (None, _) => "embedded".into(),
            (Some(_), 1) => "1 node".into(),
            (Some(_), count) => format!("{count} nodes"),
        }
    }

    fn cpu_seconds(&self) -> f64 {
        self.nodes.iter().map(Server::cpu_seconds).sum()
    }

    /// Reports on these tasks as fast as they are answered, spread over the nodes; gives how many in a second, and in a
    /// second of the nodes' CPU time.
    async fn report(&self, tasks: &[String], clients: usize) -> (f64, f64) {
        let (mut loads, cpu) = (Vec::new(), self.cpu_seconds());
        for (place, node) in self.nodes.iter().enumerate() {
            let asks = |client: usize| {
                let task = tasks[(place + client * self.nodes.len()) % tasks.len()].clone();
                move |nth| Ask::patch(&task, &format!(r#"{{"current":{nth},"total":1000000,"message":"working"}}"#))
            };
            loads.push(Load::start(node, clients / self.nodes.len(), asks).await);
        }
        tokio::time::sleep(SPAN).await;
        let (mut per_second, mut count) = (0.0, 0);
        for load in loads {
            let answers = load.end().await;
            per_second += answers.per_second();
            count += answers.latencies.len();
        }
        (per_second, count as f64 / (self.cpu_seconds() - cpu))
    }

    /// How many events watchers get in a second, while reports come as fast as they are answered.
    async fn deliver(&self) -> f64 {
        let tasks = self.nodes[0].new_tasks(WATCHED_TASKS).await;
        let (delivered, mut watchers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        for watcher in 0..WATCHERS {
            let stream = self.nodes[watcher % self.nodes.len()].watch(&tasks[watcher % WATCHED_TASKS]).await;
            let delivered = Arc::clone(&delivered);
            watchers.spawn(read(stream, move |text| {
                delivered.fetch_add(text.matches("\nid:").count() as u64, Ordering::Relaxed);
            }));
        }
        let started = Instant::now();
        self.report(&tasks, WATCHED_TASKS).await;
        delivered.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
    }

    /// How long a report at the first node takes to a watcher at the last one.
    async fn latencies(&self) -> Vec<Duration> {
        // What was measured before has written much, and its checkpoint would begin at some time in between.
        if let Some(database) = &self.database {
            database.execute("CHECKPOINT").await;
        }
        let (first, last) = (&self.nodes[0], &self.nodes[self.nodes.len() - 1]);
        let tasks = first.new_tasks(PACED).await;
        let (epoch, (found, mut latencies)) = (Instant::now(), tokio::sync::mpsc::unbounded_channel());
        let mut watchers = JoinSet::new();
        for task in &tasks {
            let (stream, found) = (last.watch(task).await, found.clone());
            watchers.spawn(read(stream, move |text| {
                let now = epoch.elapsed();
                for part in text.split("\"message\":\"sent ").skip(1) {
                    let sent: u64 = part.split('"').next().unwrap().parse().unwrap();
                    found.send(now.saturating_sub(Duration::from_nanos(sent))).unwrap();
                }
            }));
        }
        let paced = Paced::start_each(first, PACED, PACED_INTERVAL, |number| {
            let task = tasks[number].clone();
            move |_| Ask::patch(&task, &format!(r#"{{"message":"sent {}"}}"#, epoch.elapsed().as_nanos()))
        });
        tokio::time::sleep(SPAN).await;
        let sent = paced.end().len();
        let mut all = Vec::new();
        let told = async {
            while all.len() < sent {
                all.push(latencies.recv().await.unwrap());
            }
        };
        // Ticks may have been merged; then not all arrive.
        let _merged = tokio::time::timeout(TOLD_MAX, told).await;
        all
    }
}

/// Reads a stream to its end. Each piece of it is a whole frame or more.
async fn read(mut stream: TcpStream, mut seen: impl FnMut(&str)) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        seen(&String::from_utf8_lossy(&buffer[..count]));
    }
}

pub(crate) async fn cluster(subject: &Subject<'_>) -> Figures {
    let mut figures =
        Figures::new(format!("nodes on one PostgreSQL beside embedded; {CLIENTS} clients, {WATCHERS} watchers"));
    for count in 0..=NODES_MAX {
        let nodes = Nodes::start(subject, count).await;
        let name = nodes.name();
        let tasks = nodes.nodes[0].new_tasks(CLIENTS).await;
        let (per_second, per_cpu_second) = nodes.report(&tasks, CLIENTS).await;
        figures.row(format!("{name}: reports per second"), per_second);
        figures.row(format!("{name}: reports per node CPU second"), per_cpu_second);
        figures.row(format!("{name}: deliveries per second"), nodes.deliver().await);
        figures.latencies(&format!("{name}: report to watcher"), nodes.latencies().await);
    }
    follower(subject, &mut figures).await;
    figures
}

/// What a node costs that nobody asks, and that does nothing but follow another.
async fn follower(subject: &Subject<'_>, figures: &mut Figures) {
    let mut nodes = Nodes::start(subject, 2).await;
    let follower = nodes.nodes.pop().unwrap();
    let tasks = nodes.nodes[0].new_tasks(CLIENTS).await;
    tokio::time::sleep(SPAN / 5).await;
    let cpu = follower.cpu_seconds();
    tokio::time::sleep(SPAN * 2).await;
    let idle = (follower.cpu_seconds() - cpu) / SPAN.as_secs_f64() / 2.0;
    figures.row("idle node, ms of CPU per second", idle * 1e3);
    let cpu = follower.cpu_seconds();
    let (per_second, _) = nodes.report(&tasks, CLIENTS).await;
    let each = (follower.cpu_seconds() - cpu) / (per_second * SPAN.as_secs_f64());
    figures.row("follower, us of CPU per event of others", each * 1e6);
}
