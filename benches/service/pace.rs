//! Reports at a steady pace, beside which something else goes on.
//!
//! They come from a thread of their own, so that a busy load generator does not delay them. A report that had to wait
//! for the one before is measured from when it was due: so a standstill counts with all the reports that it delayed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, task::JoinSet};

use crate::{
    client::{Ask, Client},
    server::Server,
};

/// Connections, each with a task of its own.
pub(crate) const REPORTERS: usize = 16;
/// Long enough that only a standstill keeps a report from being sent when it is due.
const INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Paced {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Duration>>,
}

impl Paced {
    pub(crate) fn start(server: &Server, tasks: &[String]) -> Self {
        let (address, tasks, stop) = (server.address.clone(), tasks.to_vec(), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut reporters = JoinSet::new();
                for (task, number) in tasks.into_iter().zip(0..) {
                    let due = Instant::now() + INTERVAL * number / REPORTERS as u32;
                    reporters.spawn(report(Client::connect(&address).await, task, due, Arc::clone(&stopped)));
                }
                reporters.join_all().await.into_iter().flatten().collect()
            })
        });
        Self { stop, thread }
    }

    /// What each report took.
    pub(crate) fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn report(mut client: Client, task: String, mut due: Instant, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let ask = Ask::patch(&task, &format!(r#"{{"current":{},"total":1000000}}"#, latencies.len()));
        let now = Instant::now();
        let from = if now < due {
            tokio::time::sleep(due - now).await;
            // Not `due`: the timer has its own delay.
            Instant::now()
        } else {
            due
        };
        client.ask(&ask).await;
        latencies.push(from.elapsed());
        due += INTERVAL;
    }
    latencies
}
