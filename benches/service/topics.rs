//! Topics and people: many of each, what each costs in memory, and how fast events and notifications pass.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};

use crate::{
    client::{Ask, Client, Load},
    paced::Paced,
    server::{Server, Subject},
    table::Figures,
};

const TOPICS: usize = 10_000;
const PUBLISHERS: usize = 64;
const SPAN: Duration = Duration::from_secs(5);
const USERS: usize = 1_000;
const ABSENT: usize = 9_000;
/// Clients that prepare what is measured.
const FILLERS: usize = 64;

pub(crate) async fn topics(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&[]);
    let mut figures = Figures::new(format!("{TOPICS} topics, {PUBLISHERS} publishers on all of them"));
    server.settle().await;
    let before = server.resident_kib();
    each(&server, TOPICS, |nth| put(nth, 0)).await;
    server.settle().await;
    figures.row("resident memory per topic, KiB", (server.resident_kib() - before) / TOPICS as f64);
    let watcher = server.stream("/api/stream", "id: ").await;
    let reader = tokio::spawn(count(watcher));
    let cpu = server.cpu_seconds();
    let load = Load::start(&server, PUBLISHERS, |number| move |nth| put((number + nth * PUBLISHERS) % TOPICS, nth + 1));
    let load = load.await;
    tokio::time::sleep(SPAN).await;
    let answers = load.end().await;
    figures.row("events published per second", answers.per_second());
    figures.row("events published per CPU second", answers.latencies.len() as f64 / (server.cpu_seconds() - cpu));
    let published = answers.latencies.len();
    figures.latencies("answer to a publication", answers.latencies);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(server);
    figures.row("of these shown to who watches all topics, %", reader.await.unwrap() as f64 * 100.0 / published as f64);
    figures
}

pub(crate) async fn people(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&[]);
    let mut figures =
        Figures::new(format!("{USERS} connected users with a notification each second, {ABSENT} absent users"));
    server.settle().await;
    let before = server.resident_kib();
    each(&server, ABSENT, |nth| join(USERS + nth)).await;
    server.settle().await;
    figures.row("resident memory per absent user, KiB", (server.resident_kib() - before) / ABSENT as f64);
    each(&server, USERS, join).await;
    server.settle().await;
    let before = server.resident_kib();
    let mut streams = Vec::with_capacity(USERS);
    for nth in 0..USERS {
        streams.push(server.stream(&format!("/api/notifications/stream?userId=user-{nth}"), "event: connected").await);
    }
    figures.row("resident memory per connected user, KiB", (server.resident_kib() - before) / USERS as f64);
    let mut readers = JoinSet::new();
    streams.into_iter().for_each(|stream| drop(readers.spawn(count(stream))));
    let cpu = server.cpu_seconds();
    let load = Paced::start_each(&server, USERS, Duration::from_secs(1), |number| {
        let path = format!("/api/users/user-{number}/notifications");
        move |nth| Ask::post(&path, &format!(r#"{{"title":"Hello","message":"{nth}"}}"#))
    });
    let started = Instant::now();
    tokio::time::sleep(SPAN).await;
    figures.row("server CPU seconds per second", (server.cpu_seconds() - cpu) / started.elapsed().as_secs_f64());
    figures.latencies("answer to a notification", load.end());
    let (cpu, started) = (server.cpu_seconds(), Instant::now());
    let message = Ask::post("/api/groups/all/notifications", r#"{"title":"All","message":"Hello"}"#);
    Client::connect(&server.address).await.ask(&message).await;
    figures.row("answer to a message to a group of all, ms", started.elapsed().as_secs_f64() * 1e3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    figures.row("server CPU seconds for it", server.cpu_seconds() - cpu);
    drop(server);
    let delivered: usize = readers.join_all().await.into_iter().sum();
    figures.row("notifications shown to a connected user", delivered as f64 / USERS as f64);
    figures
}

fn put(topic: usize, value: usize) -> Ask {
    Ask::put(&format!("/api/topics/topic-{topic}"), &format!(r#"{{"event":"value","data":{{"value":{value}}}}}"#))
}

fn join(user: usize) -> Ask {
    Ask::put(&format!("/api/users/user-{user}/groups"), r#"["all"]"#)
}

/// Asks so much, by several clients.
async fn each(server: &Server, count: usize, ask: fn(usize) -> Ask) {
    let mut fillers = JoinSet::new();
    for first in 0..FILLERS {
        let address = server.address.clone();
        fillers.spawn(async move {
            let mut client = Client::connect(&address).await;
            for nth in (first..count).step_by(FILLERS) {
                client.ask(&ask(nth)).await;
            }
        });
    }
    fillers.join_all().await;
}

/// Reads a stream to its end; how many events it had that carry data.
async fn count(mut stream: TcpStream) -> usize {
    let (mut events, mut buffer) = (0, Vec::with_capacity(256 * 1024));
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        // What comes after the last whole line waits for the rest.
        let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        events += buffer[..whole].split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data: ")).count();
        buffer.drain(..whole);
    }
    events
}
