//! What the service can do, measured from outside: a real server process on loopback, its own CPU time and memory.
//!
//! `scripts/bench` runs it. Load generator and server share the machine, so figures per second of the server's CPU
//! time say more than those per second of the wall clock, and a figure of another build measured in turns, in the
//! same run, says more than one from yesterday.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot measure is to stop with a backtrace")]

mod beside;
mod client;
mod cluster;
mod paced;
mod server;
mod store;
mod streams;
mod table;
mod throughput;
mod topics;
mod watching;

use std::path::{Path, PathBuf};

use clap::{Parser, builder::PossibleValuesParser};

use server::Subject;
use table::Figures;

const SECTIONS: [&str; 14] = [
    "reports", "submits", "watchers", "idle", "channels", "live", "sweep", "lists", "busy", "memory", "start",
    "topics", "people", "cluster",
];

/// Measures the service and prints a table for each section.
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    /// What to measure; everything where nothing is named
    #[arg(value_parser = PossibleValuesParser::new(SECTIONS))]
    sections: Vec<String>,
    /// Another progressd binary; each section is measured on both in turns, and the table compares them
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// How often each section is measured; the table shows medians
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Stores of full size: 1,000,000 tasks, 149,000 of them past their retention at once
    #[arg(long)]
    full: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    // Only `cargo bench` says so; `cargo test --all-targets` starts this program too, and must not wait for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let arguments = Arguments::parse();
    let binaries: Vec<&Path> =
        arguments.baseline.as_deref().into_iter().chain([Path::new(env!("CARGO_BIN_EXE_progressd"))]).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for section in SECTIONS {
        if !arguments.sections.is_empty() && !arguments.sections.iter().any(|wanted| wanted == section) {
            continue;
        }
        let mut columns = vec![Vec::new(); binaries.len()];
        for _ in 0..arguments.rounds {
            for (binary, column) in binaries.iter().zip(&mut columns) {
                let subject = Subject { binary, full: arguments.full };
                column.push(runtime.block_on(measure(section, &subject)));
            }
        }
        table::print(section, &columns);
    }
}

async fn measure(section: &str, subject: &Subject<'_>) -> Figures {
    match section {
        "reports" => throughput::reports(subject).await,
        "submits" => throughput::submits(subject).await,
        "watchers" => watching::fan_out(subject).await,
        "idle" => watching::idle(subject).await,
        "channels" => streams::channels(subject).await,
        "live" => streams::live(subject).await,
        "sweep" => beside::sweep(subject).await,
        "lists" => beside::lists(subject).await,
        "busy" => beside::busy(subject).await,
        "memory" => store::memory(subject).await,
        "start" => store::start(subject).await,
        "topics" => topics::topics(subject).await,
        "people" => topics::people(subject).await,
        "cluster" => cluster::cluster(subject).await,
        _ => unreachable!("the parser knows the sections"),
    }
}
