//! Measures durable events per second and commit latency of the SQLite journal: `cargo bench --bench journal`.
//!
//! `reports` is the load of a busy service by batch size: reports on a few hundred running tasks, nine ticks to a change,
//! each in a group with its condition. `submits` are batches of new tasks, as fast as they are taken and at a pace.
//! The fold runs as it does in service, and what it leaves at the end counts as well. `start` is how long the service takes
//! from its start to its first line, with a million tasks of which a tenth is live; it takes minutes to make them, and
//! runs only when it is named. Names after `--` choose.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use progressd::{
    event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::{
        Expect, Group, Journal, Outcome, Tail,
        sqlite::{SqliteJournal, SqliteOptions},
    },
};
use uuid::Uuid;

const REPORT_BATCHES: [usize; 8] = [1, 8, 32, 64, 128, 256, 512, 1_024];
const TASKS: usize = 256;
const SUBMIT_BATCH: usize = 64;
/// Submits in a second; none: as many as are taken.
const SUBMIT_PACES: [Option<u32>; 2] = [None, Some(15_000)];
const STORED_TASKS: usize = 1_000_000;
const SPAN: Duration = Duration::from_secs(4);
const SUBMIT_SPAN: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    // Only `cargo bench` says so; `cargo test --all-targets` starts this program too, and must not wait for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let which: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| which.is_empty() || which.iter().any(|which| which == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    if wanted("reports") {
        println!("reports");
        head("batch");
        for batch in REPORT_BATCHES {
            runtime.block_on(reports(batch))?;
        }
    }
    if which.iter().any(|which| which == "start") {
        runtime.block_on(start())?;
    }
    if wanted("submits") {
        println!("submits, {SUBMIT_BATCH} at a time");
        head("pace");
        for pace in SUBMIT_PACES {
            runtime.block_on(submits(pace))?;
        }
    }
    Ok(())
}

fn head(first: &str) {
    println!("{first:>10} {:>12} {:>10} {:>10} {:>10} {:>10}", "events/s", "CPU us", "p50 ms", "p99 ms", "max ms");
}

async fn reports(batch: usize) -> Result<()> {
    let tasks: Vec<ChannelName> = (0..TASKS).map(|_| ChannelName::task(Uuid::now_v7())).collect();
    let mut lasts: HashMap<ChannelName, Seq> = HashMap::new();
    let mut numbered = (0..).zip(tasks.iter().cycle());
    let groups = || numbered.by_ref().take(batch).map(|(number, task)| report(number, task, &mut lasts)).collect();
    measure(&batch.to_string(), SPAN, None, groups).await
}

async fn submits(pace: Option<u32>) -> Result<()> {
    let interval = pace.map(|pace| Duration::from_secs(1) * SUBMIT_BATCH as u32 / pace);
    let name = pace.map_or_else(|| "none".to_owned(), |pace| format!("{pace}/s"));
    measure(&name, SUBMIT_SPAN, interval, || (0..SUBMIT_BATCH).map(|_| submit()).collect()).await
}

async fn start() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let live = fill(directory.path()).await?;
    let bytes = directory.path().join("journal.db").metadata()?.len();
    println!("start with {STORED_TASKS} tasks, {live} of them live, in {} MiB", bytes >> 20);
    for before in ["after an orderly end", "after a kill"] {
        let asked = Instant::now();
        let server = Server::start(directory.path())?;
        println!("{before:>25} {:>10.2} s", asked.elapsed().as_secs_f64());
        drop(server);
    }
    Ok(())
}

/// Fills a store with tasks like two that the service itself has made.
async fn fill(directory: &Path) -> Result<usize> {
    let server = Server::start(directory)?;
    server.request("POST", "/api/tasks", r#"{"kind":"render","title":"frame 17","userId":"alice","total":100}"#)?;
    let made = server.request("POST", "/api/tasks", r#"{"kind":"render","title":"frame 18","start":true}"#)?;
    let id = made.split("\"taskId\":\"").nth(1).and_then(|rest| rest.get(..36)).context("no task was made")?;
    server.request("PATCH", &format!("/api/tasks/{id}"), r#"{"status":"completed"}"#)?;
    drop(server);
    let journal = SqliteJournal::open(directory, &SqliteOptions::default())?;
    let Tail::Events(events) = journal.tail(Seq::ZERO, 100).await? else { bail!("some events are gone") };
    let (ended, live): (Vec<_>, Vec<_>) = events.iter().partition(|event| event.channel().name() == id);
    let live: Vec<_> = live.into_iter().filter(|event| event.channel().kind() == ChannelKind::Task).collect();
    ensure!(live.len() == 1 && ended.len() >= 2, "these are not the events that were asked for");
    let mut head = journal.head().await?;
    for batch in 0..STORED_TASKS / 1_000 {
        let models = (0..1_000).map(|number| if number % 10 == batch % 10 { &live } else { &ended });
        let groups = models.map(|events| another(events)).collect();
        head = journal.append(head, groups).await?.events.last().context("nothing was appended")?.seq;
    }
    journal.close().await?;
    Ok(STORED_TASKS / 10 + 1)
}

/// The same of another task.
fn another(events: &[&Event]) -> Group {
    let (model, task) = (events[0].channel().name(), ChannelName::task(Uuid::now_v7()));
    let bytes = |bytes: &Bytes| String::from_utf8_lossy(bytes).replace(&*model, &task.name()).into();
    let draft = |event: &&Event| Draft {
        channel: task.clone(),
        data: bytes(&event.draft.data),
        memo: event.draft.memo.as_ref().map(bytes),
        origin: event.draft.origin.as_ref().map(bytes),
        ..event.draft.clone()
    };
    let drafts = events.iter().map(draft).collect();
    Group { id: Uuid::new_v4(), at: Timestamp::now(), expects: vec![(task.clone(), Expect::Absent)], drafts }
}

/// The service itself, on a free port; dropping it kills it.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(directory: &Path) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(directory);
        let mut server = Self { child: command.stdout(Stdio::piped()).spawn()?, address: String::new() };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().context("no output")?).read_line(&mut line)?;
        server.address = line.trim().rsplit("http://").next().unwrap_or_default().to_owned();
        Ok(server)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        let (host, length) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}");
        write!(stream, "{head}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends what `groups` makes, batch after batch, and prints a line of the table.
async fn measure(
    name: &str,
    span: Duration,
    interval: Option<Duration>,
    mut groups: impl FnMut() -> Vec<Group>,
) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let journal = SqliteJournal::open(directory.path(), &SqliteOptions::default())?;
    let mut latencies = Vec::new();
    let mut head = Seq::ZERO;
    let cpu = cpu_micros();
    let mut next = Instant::now();
    let began = next;
    while began.elapsed() < span {
        let groups = groups();
        let asked = match interval {
            Some(interval) => {
                next += interval;
                tokio::time::sleep_until(next.into()).await;
                // Whoever is late has waited since it was due.
                next
            }
            None => Instant::now(),
        };
        let appended = journal.append(head, groups).await?;
        latencies.push(asked.elapsed());
        ensure!(appended.outcomes.iter().all(|outcome| *outcome == Outcome::Committed), "a group conflicted");
        head = appended.events.last().context("nothing was appended")?.seq;
    }
    journal.fold().await?;
    let seconds = began.elapsed().as_secs_f64();
    journal.close().await?;
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (rate, cpu) = (head.0 as f64 / seconds, cpu_micros() - cpu);
    let cpu = cpu / head.0 as f64;
    println!("{name:>10} {rate:>12.0} {cpu:>10.1} {:>10.2} {:>10.2} {:>10.2}", at(0.5), at(0.99), at(1.0));
    Ok(())
}

/// The CPU time that this process has used, in microseconds.
fn cpu_micros() -> f64 {
    let times = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = times.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    // Linux counts in hundredths of a second.
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// One report on a task. `lasts` are moved on as the events will move them, since a batch may have several on one task.
fn report(number: u64, task: &ChannelName, lasts: &mut HashMap<ChannelName, Seq>) -> Group {
    let seq = Seq(number + 1);
    let expect = lasts.insert(task.clone(), seq).map_or(Expect::Absent, Expect::At);
    let class = if number.is_multiple_of(10) { Class::Change } else { Class::Tick };
    let data = format!(
        r#"{{"taskId":"{}","kind":"upload","title":"holiday-{}.mp4","userId":"alice","queue":"default","status":"processing","progress":{}.5,"message":"hashing","current":446693376,"total":1051721728,"unit":"bytes","step":1,"steps":[{{"name":"receive","weight":3,"progress":100}},{{"name":"digest","weight":1,"progress":12}}],"rate":18350080.0,"eta":{{"at":"2026-01-31T08:15:00.042Z","seconds":33,"low":28,"high":41}},"stalled":false,"attempt":1,"maxAttempts":1,"createdAt":"2026-01-31T08:14:00.042Z","startedAt":"2026-01-31T08:14:01.042Z","updatedAt":"2026-01-31T08:14:30.042Z"}}"#,
        task.name(),
        number % 1_000,
        number % 100,
    );
    let memo = Bytes::from_static(br#"{"lease":"0199c0de","expires":1769847300042,"samples":[1,2,3,4,5,6,7,8]}"#);
    group(task, expect, class, data, memo, None)
}

/// One new task, as the tracker makes it of a small request.
fn submit() -> Group {
    let task = ChannelName::task(Uuid::now_v7());
    let data = format!(
        r#"{{"taskId":"{}","kind":"render","title":"frame 17","userId":"alice","queue":"default","status":"pending","stalled":false,"attempt":0,"maxAttempts":1,"createdAt":"2026-01-31T08:14:00.042Z","updatedAt":"2026-01-31T08:14:00.042Z"}}"#,
        task.name(),
    );
    let memo = Bytes::from_static(br#"{"samples":[],"updated":1769847300042}"#);
    let origin = Bytes::from_static(br#"{"input":{"scene":"holiday","frame":17},"metadata":{},"request":"0199c0de"}"#);
    group(&task, Expect::Absent, Class::Change, data, memo, Some(origin))
}

fn group(task: &ChannelName, expect: Expect, class: Class, data: String, memo: Bytes, origin: Option<Bytes>) -> Group {
    let draft = Draft {
        channel: task.clone(),
        name: Some(Cow::Borrowed("progress")),
        class,
        data: data.into(),
        memo: Some(memo),
        origin,
    };
    Group { id: Uuid::new_v4(), at: Timestamp::now(), expects: vec![(task.clone(), expect)], drafts: vec![draft] }
}
