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
/// Absent users who return after the message to all.
const RETURNING: usize = 200;
/// Until what was sent has arrived.
const SETTLED: Duration = Duration::from_secs(1);
/// What messages begin with, before the time at which they were sent.
const OWN: &str = "own ";
const TO_ALL: &str = "all ";
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
    let streams = crowd(&server, &mut figures).await;
    let epoch = Instant::now();
    let mut readers = JoinSet::new();
    streams.into_iter().for_each(|stream| drop(readers.spawn(delays(stream, epoch))));
    let (cpu, started) = (server.cpu_seconds(), Instant::now());
    let load = Paced::start_each(&server, USERS, Duration::from_secs(1), move |number| {
        let path = format!("/api/users/user-{number}/notifications");
        move |_| Ask::post(&path, &format!(r#"{{"title":"Hello","message":"{OWN}{}"}}"#, epoch.elapsed().as_nanos()))
    });
    tokio::time::sleep(SPAN).await;
    let answers = load.end();
    let (sent, seconds) = (answers.len(), started.elapsed().as_secs_f64());
    figures.row("notifications per second", sent as f64 / seconds);
    figures.row("server CPU seconds per second", (server.cpu_seconds() - cpu) / seconds);
    figures.latencies("answer to a notification", answers);
    tokio::time::sleep(SETTLED).await;

    let (cpu, asked) = (server.cpu_seconds(), epoch.elapsed());
    let message = format!(r#"{{"title":"All","message":"{TO_ALL}{}"}}"#, asked.as_nanos());
    Client::connect(&server.address).await.ask(&Ask::post("/api/groups/all/notifications", &message)).await;
    let answered = epoch.elapsed() - asked;
    tokio::time::sleep(SETTLED).await;
    let cpu = server.cpu_seconds() - cpu;
    let mut returns = Vec::with_capacity(RETURNING);
    for nth in USERS..USERS + RETURNING {
        let began = Instant::now();
        server.stream(&notifications(nth), TO_ALL).await;
        returns.push(began.elapsed());
    }
    drop(server);
    let (own, to_all): (Vec<_>, Vec<_>) = readers.join_all().await.into_iter().unzip();
    let (own, to_all) = (own.concat(), to_all.concat());
    figures.row("of these shown to their users, %", own.len() as f64 * 100.0 / sent as f64);
    figures.latencies("notification to its user", own);
    figures.row("answer to a message to a group of all, ms", answered.as_secs_f64() * 1e3);
    figures.row("server CPU seconds for it", cpu);
    figures.row("connected members that were shown it, %", to_all.len() as f64 * 100.0 / USERS as f64);
    figures.latencies("group message to a connected member", to_all);
    figures.latencies("group message to a member who returns", returns);
    figures
}

/// All users, absent and connected, as members of one group, and what each costs; the streams of those who are connected.
async fn crowd(server: &Server, figures: &mut Figures) -> Vec<TcpStream> {
    server.settle().await;
    let before = server.resident_kib();
    each(server, ABSENT, |nth| join(USERS + nth)).await;
    server.settle().await;
    figures.row("resident memory per absent user, KiB", (server.resident_kib() - before) / ABSENT as f64);
    each(server, USERS, join).await;
    server.settle().await;
    let before = server.resident_kib();
    let mut streams = Vec::with_capacity(USERS);
    for nth in 0..USERS {
        streams.push(server.stream(&notifications(nth), "event: connected").await);
    }
    figures.row("resident memory per connected user, KiB", (server.resident_kib() - before) / USERS as f64);
    streams
}

fn notifications(user: usize) -> String {
    format!("/api/notifications/stream?userId=user-{user}")
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
async fn count(stream: TcpStream) -> usize {
    let mut events = 0;
    read_lines(stream, |line| events += usize::from(line.starts_with("data: "))).await;
    events
}

/// Reads a stream to its end; how long after they were sent messages came, the user's own and those to all.
async fn delays(stream: TcpStream, epoch: Instant) -> (Vec<Duration>, Vec<Duration>) {
    let (mut own, mut to_all) = (Vec::new(), Vec::new());
    read_lines(stream, |line| {
        for (words, delays) in [(OWN, &mut own), (TO_ALL, &mut to_all)] {
            let sent = line.split(words).nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
            delays.extend(sent.map(|sent| epoch.elapsed().saturating_sub(Duration::from_nanos(sent))));
        }
    })
    .await;
    (own, to_all)
}

async fn read_lines(mut stream: TcpStream, mut each: impl FnMut(&str)) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        // What comes after the last whole line waits for the rest.
        let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&buffer[..whole]).lines().for_each(&mut each);
        buffer.drain(..whole);
    }
}
