//! The services of a simulation, their deaths and new lives.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use progressd::{
    config::Config,
    event::ChannelName,
    journal::Journal,
    service::{Clock, Service},
    task::Memo,
    testing::MemoryJournal,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    choices::Choices,
    journal::{Fate, FatedJournal},
};
use crate::support::{Answer, Asking, Events};

pub(super) struct Nodes {
    truth: MemoryJournal,
    clock: Clock,
    nodes: Vec<Mutex<Option<Life>>>,
}

/// One life of a service.
struct Life {
    service: Service,
    fate: Arc<Fate>,
    /// Cancelled at its end: no answer comes any more, and its streams are cut.
    end: CancellationToken,
    _data: TempDir,
}

impl Nodes {
    pub(super) async fn start(truth: &MemoryJournal, choices: Choices) -> Arc<Self> {
        let count = if choices.chance(40) { 1 } else { choices.between(2, 3) };
        let nodes = (0..count).map(|_| Mutex::default()).collect();
        let nodes = Arc::new(Self { truth: truth.clone(), clock: Clock::runtime(), nodes });
        for node in 0..nodes.nodes.len() {
            nodes.begin(node, choices.fork(), false).await;
        }
        nodes
    }

    fn life(&self, node: usize) -> MutexGuard<'_, Option<Life>> {
        self.nodes[node].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new life. The journal may be away at first.
    async fn begin(&self, node: usize, choices: Choices, is_calm: bool) {
        let fate = Fate::new(choices, is_calm);
        loop {
            let data = tempfile::tempdir().unwrap();
            let mut config = Config { data_dir: data.path().to_owned(), ..Config::default() };
            config.streams.tick_interval = Duration::from_millis(10);
            // A store that nodes share begins no epoch with the start of one.
            let is_shared = self.nodes.len() > 1;
            let inner = if is_shared { self.truth.on_node(&name(node)) } else { self.truth.reopened() };
            let journal = FatedJournal { inner, fate: Arc::clone(&fate) };
            match Service::start(config, Arc::new(journal), self.clock.clone()).await {
                Ok(service) => {
                    let end = CancellationToken::new();
                    *self.life(node) = Some(Life { service, fate, end, _data: data });
                    return;
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Ends a life without a word: what was on its way may have arrived or not.
    pub(super) fn kill(&self, node: usize) {
        if let Some(life) = self.life(node).take() {
            life.fate.is_dead.store(true, Ordering::Relaxed);
            life.end.cancel();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The journal is away for one that lives.
    pub(super) fn be_away(&self, node: usize, time: Duration) {
        self.life(node).iter().for_each(|life| life.fate.go_away(time));
    }

    /// One that lives has not followed for too long.
    pub(super) fn lapse(&self, node: usize) {
        self.life(node).iter().for_each(|life| life.fate.lapse());
    }

    /// One that lives.
    pub(super) fn router(&self, node: usize) -> axum::Router {
        self.life(node).as_ref().expect("it lives").service.router.clone()
    }

    /// Whether the job on a task is at this one.
    pub(super) async fn works_on(&self, node: usize, task: Uuid) -> bool {
        let stored = self.truth.last(&ChannelName::task(task)).await.unwrap();
        let memo = stored.and_then(|stored| stored.memo).map(|memo| serde_json::from_slice::<Memo>(&memo).unwrap());
        let lease = memo.and_then(|memo| memo.lease);
        lease.is_some_and(|lease| lease.node() == Some(&name(node)))
    }

    /// Breaks things until it is dropped.
    pub(super) async fn trouble(self: Arc<Self>, choices: Choices) {
        loop {
            tokio::time::sleep(Duration::from_millis(choices.between(10, 4_000))).await;
            let node = usize::try_from(choices.number()).unwrap_or(0) % self.nodes.len();
            match choices.between(0, 9) {
                0..=2 => {
                    self.kill(node);
                    tokio::time::sleep(up_to(3_000, &choices)).await;
                    self.begin(node, choices.fork(), false).await;
                }
                3..=5 => {
                    self.be_away(node, up_to(6_000, &choices));
                }
                6 => self.clock.step(i64::try_from(choices.between(0, 120_000)).unwrap_or(0) - 60_000),
                _ => {}
            }
        }
    }

    /// Every service lives, and nothing goes wrong any more.
    pub(super) async fn heal(&self) {
        for node in 0..self.nodes.len() {
            let is_alive = self.life(node).as_ref().map(|life| life.fate.calm()).is_some();
            if !is_alive {
                self.begin(node, Choices::new(0), true).await;
            }
        }
    }

    /// What each of them says now.
    pub(super) async fn ask_each(&self, path: &str) -> Vec<Answer> {
        self.ask_each_but(None, path).await
    }

    /// What each of the others says.
    pub(super) async fn ask_each_but(&self, but: Option<usize>, path: &str) -> Vec<Answer> {
        let others = (0..self.nodes.len()).filter(|node| Some(*node) != but);
        let routers = others.filter_map(|node| self.life(node).as_ref().map(|life| life.service.router.clone()));
        futures_util::future::join_all(routers.map(|router| Asking::of(router, "GET", path).send())).await
    }

    /// A service that lives, with the end of its life.
    fn any(&self, choices: &Choices) -> Option<(axum::Router, CancellationToken)> {
        let alive: Vec<_> = (0..self.nodes.len())
            .filter_map(|node| self.life(node).as_ref().map(|life| (life.service.router.clone(), life.end.clone())))
            .collect();
        choices.of(&alive).cloned()
    }

    /// Asks one of them; no answer where it dies.
    pub(super) async fn ask(&self, choices: &Choices, request: impl FnOnce(axum::Router) -> Asking) -> Option<Answer> {
        let (router, end) = self.any(choices)?;
        end.run_until_cancelled(request(router).send()).await
    }

    /// Opens a stream at one of them, which is cut when that dies.
    pub(super) async fn stream(
        &self,
        choices: &Choices,
        path: &str,
        cursor: &str,
    ) -> Option<(Events, CancellationToken)> {
        let (router, end) = self.any(choices)?;
        let asking = Asking::of(router, "GET", path).header("last-event-id", cursor);
        let events = end.run_until_cancelled(asking.header("accept", "text/event-stream").events()).await?;
        Some((events, end))
    }
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// So many milliseconds at most; now and then so many that a node is taken for dead.
fn up_to(most: u64, choices: &Choices) -> Duration {
    Duration::from_millis(choices.between(0, if choices.chance(15) { 30_000 } else { most }))
}
