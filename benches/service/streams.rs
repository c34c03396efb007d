//! Streams of many tasks: one stream of many busy channels, and many watchers of one live list.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};

use crate::{
    client::{Ask, fill},
    paced::Paced,
    server::{Server, Subject},
    table::Figures,
};

/// How long each looks at what goes on.
const SPAN: Duration = Duration::from_secs(5);
const CHANNELS: usize = 100;
const CHANNEL_INTERVAL: Duration = Duration::from_millis(50);
const LIST_TASKS: usize = 10_000;
const LIST_WATCHERS: usize = 1_000;
/// Of the watchers of a list, one in so many reads what it is told; the others only count its bytes.
const ONE_READS_IN: usize = 50;
/// Connections that report on the tasks of a list in turn, and how often each does.
const LIST_REPORTERS: usize = 50;
const LIST_INTERVAL: Duration = Duration::from_millis(100);
const QUIET: [&str; 2] = ["--stalled-after", "1d"];
/// What is in the message of a report before the time at which it was sent.
const SENT: &str = "\"message\":\"sent ";

pub(crate) async fn channels(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&QUIET);
    let tasks = server.new_tasks(CHANNELS).await;
    let names: Vec<_> = tasks.iter().map(|task| task.replace("/api/tasks/", "channel=task:")).collect();
    let path = format!("/api/stream?{}", names.join("&"));
    let told = Told::new();
    let reports = told.reports(&server, tasks, CHANNELS, CHANNEL_INTERVAL);
    let interval_ms = CHANNEL_INTERVAL.as_millis();
    let mut figures =
        Figures::new(format!("one stream of {CHANNELS} tasks, each with a report every {interval_ms} ms"));
    figures.row("server CPU seconds per second, unwatched", cpu_per_second(&server).await);
    let mut watchers = JoinSet::new();
    watchers.spawn(told.clone().read(server.stream(&path, "data: ").await));
    told.measure(&server, &mut figures).await;
    figures.latencies("answer to a report", reports.end());
    drop(server);
    figures.latencies("report to watcher", watchers.join_all().await.concat());
    figures
}

pub(crate) async fn live(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&QUIET);
    let tasks = fill(&server, 0..LIST_TASKS, |_| true).await;
    server.settle().await;
    let told = Told::new();
    let reports = || told.reports(&server, tasks.clone(), LIST_REPORTERS, LIST_INTERVAL);
    let per_second = LIST_REPORTERS * 1_000 / LIST_INTERVAL.as_millis() as usize;
    let mut figures = Figures::new(format!(
        "{LIST_WATCHERS} watchers of a live list of {LIST_TASKS} tasks with {per_second} reports a second"
    ));
    let unwatched = reports();
    figures.row("server CPU seconds per second, unwatched", cpu_per_second(&server).await);
    figures.latencies("answer to a report, unwatched", unwatched.end());
    let before = server.resident_kib();
    let (mut readers, mut counters) = (JoinSet::new(), JoinSet::new());
    for nth in 0..LIST_WATCHERS {
        let stream = server.stream("/api/tasks", "event: page").await;
        if nth.is_multiple_of(ONE_READS_IN) {
            readers.spawn(told.clone().read(stream));
        } else {
            counters.spawn(told.clone().count(stream));
        }
    }
    let per_watcher = || (server.resident_kib() - before) / LIST_WATCHERS as f64;
    figures.row("resident memory per watcher, idle, KiB", per_watcher());
    let reports = reports();
    told.measure(&server, &mut figures).await;
    figures.row("resident memory per watcher, KiB", per_watcher());
    figures.latencies("answer to a report", reports.end());
    drop(server);
    counters.join_all().await;
    figures.latencies("report to watcher", readers.join_all().await.concat());
    figures
}

/// CPU seconds of the server in a second, as things are now.
async fn cpu_per_second(server: &Server) -> f64 {
    let (cpu, started) = (server.cpu_seconds(), Instant::now());
    tokio::time::sleep(SPAN).await;
    (server.cpu_seconds() - cpu) / started.elapsed().as_secs_f64()
}

/// What watchers were told, by reports that say when they were sent.
#[derive(Clone)]
struct Told {
    epoch: Instant,
    changes: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Told {
    fn new() -> Self {
        Self { epoch: Instant::now(), changes: Arc::default(), bytes: Arc::default() }
    }

    /// Reporters that report on the tasks in turn.
    fn reports(&self, server: &Server, tasks: Vec<String>, reporters: usize, interval: Duration) -> Paced {
        let (epoch, tasks) = (self.epoch, Arc::new(tasks));
        Paced::start_each(server, reporters, interval, move |number| {
            let tasks = Arc::clone(&tasks);
            move |nth| {
                let task = &tasks[(number + nth * reporters) % tasks.len()];
                Ask::patch(task, &format!(r#"{{"message":"sent {}"}}"#, epoch.elapsed().as_nanos()))
            }
        })
    }

    /// Reads a stream to its end; how long each change was under way.
    async fn read(self, mut stream: TcpStream) -> Vec<Duration> {
        let (mut latencies, mut buffer) = (Vec::new(), Vec::with_capacity(256 * 1024));
        while let Ok(count @ 1..) = stream.read_buf(&mut buffer).await {
            let now = self.epoch.elapsed();
            self.bytes.fetch_add(count as u64, Ordering::Relaxed);
            // What comes after the last whole line waits for the rest.
            let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let text = String::from_utf8_lossy(&buffer[..whole]);
            for rest in text.split(SENT).skip(1) {
                let sent: u64 = rest.split('"').next().unwrap().parse().unwrap();
                latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            buffer.drain(..whole);
        }
        latencies
    }

    /// Reads a stream to its end as cheaply as can be.
    async fn count(self, mut stream: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// What arrives in a while, and what that takes.
    async fn measure(&self, server: &Server, figures: &mut Figures) {
        let now = || (self.changes.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let ((changes, bytes), started) = (now(), Instant::now());
        figures.row("server CPU seconds per second", cpu_per_second(server).await);
        let ((changes_now, bytes_now), seconds) = (now(), started.elapsed().as_secs_f64());
        figures.row("changes per second, of those who read", (changes_now - changes) as f64 / seconds);
        figures.row("MB per second to all", (bytes_now - bytes) as f64 / seconds / 1e6);
    }
}
