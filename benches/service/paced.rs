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
    /// Reporters that each have one of these tasks.
    pub(crate) fn start(server: &Server, tasks: &[String]) -> Self {
        let tasks = tasks.to_vec();
        Self::start_each(server, tasks.len(), INTERVAL, |number| {
            let task = tasks[number].clone();
            move |nth| Ask::patch(&task, &format!(r#"{{"current":{nth},"total":1000000}}"#))
        })
    }

    /// `asks` gives, for the number of a reporter, what that reporter asks with the number of its report; each asks once
    /// in an interval.
    pub(crate) fn start_each<A>(
        server: &Server,
        reporters: usize,
        interval: Duration,
        asks: impl Fn(usize) -> A,
    ) -> Self
    where
        A: Fn(usize) -> Ask + Send + 'static,
    {
        let (address, stop) = (server.address.clone(), Arc::<AtomicBool>::default());
        let (asks, stopped): (Vec<_>, _) = ((0..reporters).map(asks).collect(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut running = JoinSet::new();
                for (ask, number) in asks.into_iter().zip(0..) {
                    let client = Client::connect(&address).await;
                    let due = Instant::now() + interval * number / reporters as u32;
                    running.spawn(report(client, ask, due, interval, Arc::clone(&stopped)));
                }
                running.join_all().await.into_iter().flatten().collect()
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

async fn report(
    mut client: Client,
    ask: impl Fn(usize) -> Ask,
    mut due: Instant,
    interval: Duration,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let from = if now < due {
            tokio::time::sleep(due - now).await;
            // Not `due`: the timer has its own delay.
            Instant::now()
        } else {
            due
        };
        client.ask(&ask(latencies.len())).await;
        latencies.push(from.elapsed());
        due += interval;
    }
    latencies
}
