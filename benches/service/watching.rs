//! Many watchers of one task: how fast they are told, and what they cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, task::JoinSet};

use crate::{
    client::{Ask, Client},
    server::Subject,
    table::Figures,
};

const WATCHERS: usize = 1_000;
const BROADCASTS: usize = 200;
const BROADCAST_INTERVAL: Duration = Duration::from_millis(25);
const IDLE_WATCHERS: usize = 10_000;

pub(crate) async fn fan_out(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&["--tick-interval", "1ms"]);
    let task = server.new_tasks(1).await.remove(0);
    let epoch = Instant::now();
    let delivered = Arc::new(AtomicU64::new(0));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (mut stream, delivered) = (server.watch(&task).await, Arc::clone(&delivered));
        watchers.spawn(async move {
            let (mut latencies, mut buffer) = (Vec::with_capacity(BROADCASTS), vec![0; 16 * 1024]);
            while latencies.len() < BROADCASTS {
                let Ok(count @ 1..) = stream.read(&mut buffer).await else { break };
                let now = epoch.elapsed();
                for part in String::from_utf8_lossy(&buffer[..count]).split("\"message\":\"sent ").skip(1) {
                    let sent: u64 = part.split('"').next().unwrap().parse().unwrap();
                    latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
                    delivered.fetch_add(1, Ordering::Relaxed);
                }
            }
            latencies
        });
    }
    let mut client = Client::connect(&server.address).await;
    let cpu = server.cpu_seconds();
    let mut ticker = tokio::time::interval(BROADCAST_INTERVAL);
    for _ in 0..BROADCASTS {
        ticker.tick().await;
        let body = format!(r#"{{"message":"sent {}"}}"#, epoch.elapsed().as_nanos());
        client.ask(&Ask::patch(&task, &body)).await;
    }
    let end = async {
        while delivered.load(Ordering::Relaxed) < (WATCHERS * BROADCASTS) as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Ticks may have been merged; then not all arrive, and the count says so.
    let _merged = tokio::time::timeout(Duration::from_secs(5), end).await;
    let cpu = server.cpu_seconds() - cpu;
    // With a message of its own, since the last one would count as delivered late.
    client.ask(&Ask::patch(&task, r#"{"status":"completed","message":"done"}"#)).await;
    drop(server);
    let latencies: Vec<_> = watchers.join_all().await.into_iter().flatten().collect();
    let interval_ms = BROADCAST_INTERVAL.as_millis();
    let mut figures =
        Figures::new(format!("one task, {WATCHERS} watchers, {BROADCASTS} reports {interval_ms} ms apart"));
    figures.row("deliveries", latencies.len() as f64);
    figures.row("deliveries per server CPU second", latencies.len() as f64 / cpu);
    figures.latencies("report to watcher", latencies);
    figures
}

pub(crate) async fn idle(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&["--max-streams-per-channel", "15000"]);
    let task = server.new_tasks(1).await.remove(0);
    let before = server.resident_kib();
    let mut watchers = Vec::with_capacity(IDLE_WATCHERS);
    for _ in 0..IDLE_WATCHERS {
        watchers.push(server.watch(&task).await);
    }
    let after = server.resident_kib();
    let mut figures = Figures::new(format!("{IDLE_WATCHERS} idle watchers of one task"));
    figures.row("resident memory per watcher, KiB", (after - before) / IDLE_WATCHERS as f64);
    figures.row("resident memory in all, MiB", after / 1024.0);
    figures
}
