//! Measures durable events per second and commit latency of the SQLite journal by batch size: `cargo bench --bench journal`.
//!
//! The load is that of a busy service: reports on a few hundred running tasks, nine ticks to a change, each in a group
//! with its condition. The fold runs as it does in service, and what it leaves at the end counts as well.

use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use progressd::{
    event::{ChannelName, Class, Draft, Seq, Timestamp},
    journal::{
        Expect, Group, Journal, Outcome,
        sqlite::{SqliteJournal, SqliteOptions},
    },
};
use uuid::Uuid;

const BATCHES: [usize; 8] = [1, 8, 32, 64, 128, 256, 512, 1_024];
const TASKS: usize = 256;
const SPAN: Duration = Duration::from_secs(4);

fn main() -> Result<()> {
    // Only `cargo bench` says so; `cargo test --all-targets` starts this program too, and must not wait for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    println!("{:>6} {:>12} {:>10} {:>10} {:>10}", "batch", "events/s", "p50 ms", "p99 ms", "max ms");
    for batch in BATCHES {
        runtime.block_on(measure(batch))?;
    }
    Ok(())
}

async fn measure(batch: usize) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let journal = SqliteJournal::open(directory.path(), &SqliteOptions::default())?;
    let tasks: Vec<ChannelName> = (0..TASKS).map(|_| ChannelName::task(Uuid::now_v7())).collect();
    let mut lasts: HashMap<ChannelName, Seq> = HashMap::new();
    let mut latencies = Vec::new();
    let mut head = Seq::ZERO;
    let mut reports = (0..).zip(tasks.iter().cycle());
    let began = Instant::now();
    while began.elapsed() < SPAN {
        let groups = reports.by_ref().take(batch).map(|(number, task)| report(number, task, &mut lasts)).collect();
        let asked = Instant::now();
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
    let rate = head.0 as f64 / seconds;
    println!("{batch:>6} {rate:>12.0} {:>10.2} {:>10.2} {:>10.2}", at(0.5), at(0.99), at(1.0));
    Ok(())
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
    let memo = Some(Bytes::from_static(br#"{"lease":"0199c0de","expires":1769847300042,"samples":[1,2,3,4,5,6,7,8]}"#));
    let draft = Draft {
        channel: task.clone(),
        name: Some(Cow::Borrowed("progress")),
        class,
        data: data.into(),
        memo,
        origin: None,
    };
    Group { id: Uuid::new_v4(), at: Timestamp::now(), expects: vec![(task.clone(), expect)], drafts: vec![draft] }
}
