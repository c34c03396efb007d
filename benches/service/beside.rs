//! What a report takes while something else goes on. The reporters have tasks of their own and keep a steady pace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::{io::AsyncReadExt, task::JoinSet};

use crate::{
    client::{Ask, Client, Load, fill},
    paced::{Paced, REPORTERS},
    server::{Server, Subject},
    table::Figures,
};

/// How long each looks at the reports.
const SPAN: Duration = Duration::from_secs(4);
const SWEEP_MAX: Duration = Duration::from_secs(120);
const FINISHED: &str = "/api/tasks?status=completed&limit=1";
const LISTERS: usize = 16;
const REPLAYERS: usize = 64;
/// Finished tasks among which is listed, and whose keys are replayed.
const OLD_TASKS: usize = 20_000;
const WATCHERS: usize = 10_000;
const BUSY_INTERVAL: Duration = Duration::from_millis(200);
/// Until all watchers were told of the last report; ticks that merged are never told.
const TOLD_MAX: Duration = Duration::from_secs(1);

/// A start finds everything past its retention at once.
pub(crate) async fn sweep(subject: &Subject<'_>) -> Figures {
    let count = subject.size(30_000, 149_000);
    let mut server = subject.start(&["--stalled-after", "1d"]);
    let tasks = server.new_tasks(REPORTERS).await;
    fill(&server, 0..count, |_| false).await;
    server.settle().await;
    server.restart(Signal::TERM, &["--stalled-after", "1d", "--retention", "1s"]);
    let (paced, started) = (Paced::start(&server, &tasks), Instant::now());
    let mut client = Client::connect(&server.address).await;
    while client.ask(&Ask::get(FINISHED)).await.contains("taskId") {
        assert!(started.elapsed() < SWEEP_MAX, "finished tasks are left");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    // What was forgotten last is swept a little later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut figures =
        Figures::new(format!("{REPORTERS} paced reporters beside {count} tasks and keys that expire at once"));
    figures.row("until the last task was forgotten, s", seconds);
    figures.latencies("report", paced.end());
    figures
}

pub(crate) async fn lists(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&["--stalled-after", "1d"]);
    let tasks = server.new_tasks(REPORTERS).await;
    fill(&server, 0..OLD_TASKS, |_| false).await;
    server.settle().await;
    let mut figures = Figures::new(format!(
        "{REPORTERS} paced reporters beside {LISTERS} clients that list and {REPLAYERS} that replay old keys"
    ));
    let list = async || Load::start(&server, LISTERS, |_| |_| Ask::get("/api/tasks?limit=50")).await;
    let replay = async || {
        // Each client has keys of its own, in an order that is not that of the store.
        let key = |client, nth| (client + nth * REPLAYERS * 7) % OLD_TASKS;
        Load::start(&server, REPLAYERS, move |client| move |nth| Ask::keyed(key(client, nth))).await
    };
    figures.latencies("report alone", reports(&server, &tasks).await);

    let lists = list().await;
    figures.latencies("report beside lists", reports(&server, &tasks).await);
    figures.row("lists per second", lists.end().await.per_second());

    let replays = replay().await;
    figures.latencies("report beside replays", reports(&server, &tasks).await);
    figures.row("replays per second", replays.end().await.per_second());

    let (lists, replays) = (list().await, replay().await);
    figures.latencies("report beside both", reports(&server, &tasks).await);
    figures.row("lists per second", lists.end().await.per_second());
    figures.row("replays per second", replays.end().await.per_second());
    figures
}

/// What the reports of some time took.
async fn reports(server: &Server, tasks: &[String]) -> Vec<Duration> {
    let paced = Paced::start(server, tasks);
    tokio::time::sleep(SPAN).await;
    paced.end()
}

pub(crate) async fn busy(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&["--max-streams-per-channel", "15000"]);
    let busy = server.new_tasks(1).await.remove(0);
    let delivered = Arc::new(AtomicU64::new(0));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (mut stream, delivered) = (server.watch(&busy).await, Arc::clone(&delivered));
        watchers.spawn(async move {
            let mut buffer = vec![0; 2048];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                // A frame ends with an empty line; of the comments between, there are none on a busy task.
                let frames = buffer[..count].windows(4).filter(|bytes| bytes == b"\nid:").count();
                delivered.fetch_add(frames as u64, Ordering::Relaxed);
            }
        });
    }
    let tasks = server.new_tasks(REPORTERS).await;
    let (paced, mut client) = (Paced::start(&server, &tasks), Client::connect(&server.address).await);
    let (mut own, mut ticker) = (Vec::new(), tokio::time::interval(BUSY_INTERVAL));
    let (cpu, before, started) = (server.cpu_seconds(), delivered.load(Ordering::Relaxed), Instant::now());
    while started.elapsed() < SPAN {
        ticker.tick().await;
        let report = Ask::patch(&busy, &format!(r#"{{"message":"{}"}}"#, own.len()));
        let sent = Instant::now();
        client.ask(&report).await;
        own.push(sent.elapsed());
    }
    let latencies = paced.end();
    // Whoever is answered before the watchers are told is not to be charged for what was not counted.
    let all = before + (WATCHERS * own.len()) as u64;
    let told = Instant::now();
    while delivered.load(Ordering::Relaxed) < all && told.elapsed() < TOLD_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (cpu, delivered) = (server.cpu_seconds() - cpu, delivered.load(Ordering::Relaxed) - before);
    let interval_ms = BUSY_INTERVAL.as_millis();
    let mut figures = Figures::new(format!(
        "{REPORTERS} paced reporters beside {WATCHERS} watchers of a task with a report each {interval_ms} ms"
    ));
    figures.row("deliveries per report", delivered as f64 / own.len() as f64);
    figures.row("deliveries per server CPU second", delivered as f64 / cpu);
    figures.latencies("report", latencies);
    figures.latencies("report on the busy task", own);
    figures
}
