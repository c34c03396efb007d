//! What this process uses, once a second, for a chart.

use std::{fs, time::Duration};

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::Method;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::{runtime::Handle, time::Instant};

use super::{
    super::{
        App,
        event_streams::{AcceptsStream, event_stream, head, refused},
        refusals::Refusals,
        topics::named,
    },
    periodic::{Periodic, Waiting},
};
use crate::{event::Timestamp, stream::StreamBody, tracker::Clock, wire};

const EVERY: Duration = Duration::from_secs(1);

/// Watches what this process uses.
///
/// `metrics` once a second: `cpu_usage` in percent of one core since the event before; in bytes, the memory that is
/// resident and not of files (`alloc`), the most that was resident (`total_alloc`), and what is resident now (`sys`);
/// and the number of the runtime's tasks (`goroutines`).
#[utoipa::path(
    get, path = "/api/metrics/stream", operation_id = "watchMetrics", tag = "compatibility",
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", example = json!(
            "event: metrics\ndata: {\"timestamp\":\"2026-01-31T08:15:00.042Z\",\"cpu_usage\":1.5,\"memory\":\
             {\"alloc\":9000000,\"total_alloc\":12000000,\"sys\":11000000},\"goroutines\":12}\n\n")),
        Refusals<AcceptsStream>))]
pub(super) async fn watch(State(app): State<App>, _accepts: AcceptsStream, method: Method) -> Response {
    if method == Method::HEAD {
        return head();
    }
    let permit = match app.tracker.admit() {
        Ok(permit) => permit,
        Err(error) => return refused(&error.into()),
    };
    let watcher = Periodic::at_once(EVERY, Waiting::new(app.draining.clone(), permit), samples(app.tracker.clock()));
    event_stream(StreamBody::opened(Vec::new(), watcher, named(&app), app.metrics.clone()))
}

fn samples(clock: Clock) -> impl FnMut() -> Bytes + Send {
    let (mut cpu_before, mut before) = (cpu_time(), Instant::now());
    move || {
        let (cpu, now) = (cpu_time(), Instant::now());
        let (used, passed) = (cpu.saturating_sub(cpu_before), now.saturating_duration_since(before));
        (cpu_before, before) = (cpu, now);
        let usage = if passed.is_zero() { 0.0 } else { 100.0 * used.as_secs_f64() / passed.as_secs_f64() };
        let sample = MetricsEvent {
            timestamp: clock.now(),
            cpu_usage: (usage * 100.0).round() / 100.0,
            memory: Memory::now(),
            goroutines: Handle::current().metrics().num_alive_tasks(),
        };
        // A struct of numbers and a time always has a JSON text.
        wire::event(Some("metrics"), &serde_json::to_vec(&sample).unwrap_or_default(), None)
    }
}

/// The processor time of this process.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[derive(Serialize)]
struct MetricsEvent {
    timestamp: Timestamp,
    cpu_usage: f64,
    memory: Memory,
    goroutines: usize,
}

/// The memory of this process, in bytes.
#[derive(Serialize)]
struct Memory {
    alloc: u64,
    total_alloc: u64,
    sys: u64,
}

impl Memory {
    /// As the system tells it; zero where it does not.
    fn now() -> Self {
        // This file is made in memory when it is read: nothing waits for a disk.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or_default() * 1024
        };
        Self { alloc: bytes("RssAnon"), total_alloc: bytes("VmHWM"), sys: bytes("VmRSS") }
    }
}
