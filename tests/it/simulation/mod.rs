//! One to three whole services on one journal that misbehaves, in paused time, on one thread. Each choice comes from one seed: who does
//! what and when, which calls of the journal are slow, fail or lose their answer, when a service dies and starts again, and how
//! the clock steps. What everybody was told is compared with what the journal holds.
//!
//! A failure names its seed; `SIMULATION_SEED=7 cargo test --test it simulation` tries that one alone, and
//! `scripts/trial simulation` many.

mod calm;
mod choices;
mod journal;
mod nodes;
mod truth;
mod watchers;
mod writers;

use std::{sync::Arc, time::Duration};

use progressd::{
    event::ChannelKind,
    journal::{Journal, Member},
    testing::MemoryJournal,
};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

pub(crate) use choices::Choices;
use nodes::Nodes;
use truth::Truth;
use watchers::{Listener, Seen, Watcher};
use writers::{Tasks, Worker, gather, notify, submit, visit};

/// Seeds that are tried unless more are asked for.
const SEEDS: u64 = 100;
/// How long everything may take, in the time of the simulation.
const SETTLES_WITHIN: Duration = Duration::from_secs(3_600);
/// How long a service may not know what another has written.
const HEARS_WITHIN: Duration = Duration::from_secs(2);
/// How long users may seem to be connected whose service has died.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);
const USERS: [&str; 2] = ["ann", "bob"];
/// Who only comes and goes.
const VISITOR: &str = "cid";
/// Who only joins groups.
const MEMBER: &str = "eve";

#[test]
fn whatever_happens_everybody_is_told_what_is_kept() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        // Shown if it fails.
        println!("SIMULATION_SEED={seed}");
        run(seed);
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

fn run(seed: u64) -> Truth {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(simulate(Choices::new(seed)))
}

async fn simulate(choices: Choices) -> Truth {
    let history = if choices.chance(30) { choices.between(3, 12) } else { 1_000 };
    let truth = MemoryJournal::with_bounds(usize::try_from(history).unwrap(), 65_536);
    let nodes = Nodes::start(&truth, choices.fork()).await;
    let tasks = Arc::<Tasks>::default();
    let mut writing = JoinSet::new();
    for name in 0..choices.between(1, 4) {
        writing.spawn(Worker::new(name, &nodes, &tasks, choices.fork()).run());
    }
    let mut watching = JoinSet::new();
    for _ in 0..choices.between(1, 6) {
        watching.spawn(Watcher::new(&nodes, &tasks, choices.fork()).run());
    }
    for user in USERS {
        writing.spawn(notify(user, Arc::clone(&nodes), choices.fork()));
        watching.spawn(Listener::new(user, &nodes, choices.fork()).run());
    }
    let jobs = Arc::<Tasks>::default();
    writing.spawn(submit(Arc::clone(&nodes), Arc::clone(&jobs), choices.fork()));
    writing.spawn(visit(VISITOR, Arc::clone(&nodes), choices.fork()));
    writing.spawn(gather(MEMBER, Arc::clone(&nodes), choices.fork()));
    let troubles = tokio::spawn(Arc::clone(&nodes).trouble(choices.fork()));
    let written = timeout(SETTLES_WITHIN, writing.join_all()).await.expect("all is written in the end");
    troubles.abort();
    nodes.heal().await;
    // Nobody has to come to a service for it to hear of what the others did.
    sleep(HEARS_WITHIN).await;
    for task in tasks.close() {
        for told in nodes.ask_each(&format!("/api/tasks/{task}")).await {
            assert_eq!(told.json()["status"], "completed", "{told:?}");
        }
    }
    let seen = timeout(SETTLES_WITHIN, watching.join_all()).await.expect("no watcher is left behind");
    for job in jobs.close() {
        let path = format!("/api/tasks/{job}");
        let ends = until_all(&nodes, &path, |told| ["completed", "error"].iter().any(|end| told["status"] == *end));
        timeout(SETTLES_WITHIN, ends).await.expect("no job is left behind");
    }
    is_present_everywhere(&nodes, &choices).await;
    let counted = truth.count(ChannelKind::Task, Member::Status).await.unwrap();
    let counted: serde_json::Map<_, _> =
        counted.values.into_iter().map(|(status, count)| (status, count.into())).collect();
    for told in nodes.ask_each("/api/tasks?limit=1").await {
        let mut told = told.json()["counts"].as_object().unwrap().clone();
        told.retain(|_, count| *count != 0);
        assert_eq!(told, counted, "the counts do not follow the journal");
    }
    calm::one_fails(&nodes, &choices).await;
    truth::comes_and_goes_in_turns(&truth).await;
    let events = truth::events(&truth).await;
    truth::has_all(&events, &written.concat());
    for Seen { channel, streams } in seen.concat() {
        truth::is_what_was_seen(&events, &channel, &streams, history < 1_000);
    }
    events
}

/// Waits until all services say so.
async fn until_all(nodes: &Nodes, path: &str, is_so: impl Fn(&Value) -> bool) {
    while !nodes.ask_each(path).await.iter().all(|told| is_so(&told.json())) {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whoever has no stream is connected for none of the services, and whoever has one, for all.
async fn is_present_everywhere(nodes: &Nodes, choices: &Choices) {
    sleep(LEAVES_WITHIN).await;
    for user in USERS {
        for told in nodes.ask_each(&format!("/api/users/{user}")).await {
            assert_eq!(told.json()["status"], "disconnected", "{told:?}");
        }
    }
    let path = format!("/api/users/{VISITOR}");
    for told in nodes.ask_each(&path).await {
        assert!(told.status() == 404 || told.json()["status"] == "disconnected", "{told:?}");
    }
    let _stream = nodes.stream(choices, &format!("/sse/connect/{VISITOR}"), "").await.expect("all live");
    sleep(HEARS_WITHIN).await;
    for told in nodes.ask_each(&path).await {
        assert_eq!(told.json()["status"], "connected", "{told:?}");
    }
}
