//! What tasks cost: in memory while they live, and at the start.

use rustix::process::Signal;

use crate::{
    client::{Ask, Client, fill},
    server::Subject,
    table::Figures,
};

/// Tasks before the memory is first looked at, so that what the process takes once is not counted.
const FIRST_TASKS: usize = 2_000;
const FIRST_LARGE_TASKS: usize = 20;
/// Of the tasks in a store, one in so many is live at the start.
const ONE_LIVE_IN: usize = 10;
/// `{"a":0}` so often, as input and again as metadata: 56 KB each.
const OBJECTS: usize = 7_000;
/// No task stalls while it is looked at.
const QUIET: [&str; 2] = ["--stalled-after", "1d"];

pub(crate) async fn memory(subject: &Subject<'_>) -> Figures {
    let (small, large) = (subject.size(50_000, 100_000), subject.size(30, 100));
    let mut figures = Figures::new(format!("{small} live tasks; {large} that carry 112 KB of JSON each"));

    let server = subject.start(&QUIET);
    fill(&server, 0..FIRST_TASKS, |_| true).await;
    server.settle().await;
    let before = server.resident_kib();
    fill(&server, FIRST_TASKS..FIRST_TASKS + small, |_| true).await;
    server.settle().await;
    figures.row("resident memory per live task, KiB", (server.resident_kib() - before) / small as f64);
    drop(server);

    let server = subject.start(&QUIET);
    let json = format!("[{}]", vec![r#"{"a":0}"#; OBJECTS].join(","));
    let ask = Ask::post("/api/tasks", &format!(r#"{{"start":true,"input":{json},"metadata":{json}}}"#));
    let mut client = Client::connect(&server.address).await;
    for _ in 0..FIRST_LARGE_TASKS {
        client.ask(&ask).await;
    }
    server.settle().await;
    let before = server.resident_kib();
    for _ in 0..large {
        client.ask(&ask).await;
    }
    server.settle().await;
    figures.row("resident memory per live task with JSON, KiB", (server.resident_kib() - before) / large as f64);
    figures
}

pub(crate) async fn start(subject: &Subject<'_>) -> Figures {
    let count = subject.size(50_000, 1_000_000);
    let mut server = subject.start(&QUIET);
    fill(&server, 0..count, |nth| nth.is_multiple_of(ONE_LIVE_IN)).await;
    server.settle().await;
    let mut figures =
        Figures::new(format!("start with {count} tasks in the store, {} of them live", count / ONE_LIVE_IN));
    let killed = server.restart(Signal::KILL, &QUIET);
    figures.row("until it listens after kill -9, s", killed.as_secs_f64());
    let orderly = server.restart(Signal::TERM, &QUIET);
    figures.row("until it listens, s", orderly.as_secs_f64());
    figures.row("resident memory then, MiB", server.resident_kib() / 1024.0);
    figures
}
