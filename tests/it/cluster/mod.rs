//! Three nodes behind nginx, on a primary with two synchronous standbys, under load, while one after the other fails. What was
//! acknowledged, and what each watcher saw, is compared with the log.
//!
//! `scripts/trial cluster` is the long form.

mod load;
mod one_node;
mod verdict;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use progressd::testing::{Fault, FaultProxy, PostgresCluster};
use tempfile::TempDir;
use tokio::{
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{load::Load, verdict::Verdict};
use crate::{
    nginx::{Nginx, free_port},
    support::{authority::Authority, binary::Binary},
};

const NODES: usize = 3;
/// Until watchers have seen the end, after everything was reported.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// No readiness takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How much, and for how long.
struct Plan {
    lanes: usize,
    interval: Duration,
    /// Of each task.
    reports: u32,
    watchers: usize,
    /// Between two failures.
    calm: Duration,
    /// For how long a node is cut from the database.
    cut: Duration,
}

impl Plan {
    fn short() -> Self {
        let (calm, cut) = (Duration::from_secs(1), Duration::from_millis(2_500));
        Self { lanes: 12, interval: Duration::from_millis(50), reports: 25, watchers: 100, calm, cut }
    }

    /// What is asked for by the environment; otherwise 2,000 reports a second and 5,000 watchers.
    fn long() -> Self {
        let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
        let reports: u32 = number("CLUSTER_REPORTS", 2_000);
        let watchers = number("CLUSTER_WATCHERS", 5_000) as usize;
        let lanes = reports.div_ceil(4);
        let (calm, cut) = (Duration::from_secs(15), Duration::from_secs(20));
        Self {
            lanes: lanes as usize,
            interval: Duration::from_secs(1) * lanes / reports,
            reports: 150,
            watchers,
            calm,
            cut,
        }
    }
}

/// One of the nodes. It reaches the database through proxies of its own.
struct Node {
    binary: Binary,
    data: TempDir,
    listen: String,
    store: String,
    proxies: Vec<FaultProxy>,
}

impl Node {
    fn start(postgres: &PostgresCluster) -> Self {
        let (data, listen) = (tempfile::tempdir().unwrap(), format!("127.0.0.1:{}", free_port()));
        let proxies = postgres.proxies();
        let store = postgres.url_through(&proxies);
        let binary = launch(&data, &listen, &store);
        Self { binary, data, listen, store, proxies }
    }

    fn start_again(&mut self) {
        self.binary = launch(&self.data, &self.listen, &self.store);
    }

    fn set(&self, fault: Fault) {
        self.proxies.iter().for_each(|proxy| proxy.set(fault));
    }
}

fn launch(data: &TempDir, listen: &str, store: &str) -> Binary {
    let behind = ["--trusted-proxies", "127.0.0.1", "--allowed-hosts", "progress.example", "--insecure-open"];
    let settings = ["--stalled-after", "1d", "--drain-timeout", "3s", "--store", store];
    Binary::start_quiet(data.path(), listen, &[&behind[..], &settings].concat())
}

struct Cluster {
    postgres: PostgresCluster,
    nodes: Vec<Node>,
    nginx: Nginx,
    load: Arc<Load>,
    plan: Plan,
}

impl Cluster {
    async fn start(plan: Plan) -> Self {
        let postgres = PostgresCluster::start().await;
        let nodes: Vec<_> = (0..NODES).map(|_| Node::start(&postgres)).collect();
        let addresses: Vec<_> = nodes.iter().map(|node| node.listen.clone()).collect();
        let nginx = Nginx::balance(&addresses, &Authority::new().issue(), "");
        let client = reqwest::Client::builder().no_proxy().resolve("progress.example", nginx.address());
        let base = format!("http://progress.example:{}", nginx.address().port());
        let load = Arc::new(Load::new(client.build().unwrap(), base, plan.lanes, plan.interval, plan.reports));
        Self { postgres, nodes, nginx, load, plan }
    }

    /// Lets one after the other fail, and tells what that did.
    async fn trouble(&mut self) {
        sleep(self.plan.calm).await;
        self.tell("nothing");
        block_in_place(|| self.nodes[0].binary.kill());
        sleep(self.plan.calm).await;
        block_in_place(|| self.nodes[0].start_again());
        sleep(self.plan.calm).await;
        self.tell("kill -9 of a node");
        block_in_place(|| {
            self.nodes[1].binary.terminate();
            self.nodes[1].start_again();
        });
        sleep(self.plan.calm).await;
        self.tell("drain of a node");
        self.nodes[2].set(Fault::Silent);
        sleep(self.plan.cut).await;
        self.nodes[2].set(Fault::None);
        self.ready(2).await;
        sleep(self.plan.calm).await;
        self.tell("a node cut from the database");
        block_in_place(|| self.postgres.kill_primary());
        self.postgres.promote().await;
        for node in 0..NODES {
            self.ready(node).await;
        }
        sleep(self.plan.calm).await;
        self.tell("kill of the primary");
    }

    async fn ready(&self, node: usize) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/readyz", self.nodes[node].listen);
        let ready = async {
            let is_ready = async || {
                let asked = client.get(&url).header("host", "progress.example").send().await;
                asked.is_ok_and(|answer| answer.status() == 200)
            };
            while !is_ready().await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(READY_WITHIN, ready).await.expect("the node recovers by itself");
    }

    fn tell(&self, what: &str) {
        let tally = self.load.tally();
        println!(
            "{what}: {} acknowledged, {} turned away, {} reconnects, longest time without an acknowledgement {:.2?}, \
             slowest answer {:.2?}",
            tally.acknowledged, tally.turned_away, tally.reconnects, tally.longest_gap, tally.slowest
        );
    }
}

async fn run(plan: Plan) {
    let mut cluster = Cluster::start(plan).await;
    let load = Arc::clone(&cluster.load);
    let (read, log_url) = (CancellationToken::new(), cluster.postgres.url());
    let reading = tokio::spawn(verdict::read_log(log_url, read.clone()));
    let (mut reporters, mut watchers) = (JoinSet::new(), JoinSet::new());
    for lane in 0..cluster.plan.lanes {
        let load = Arc::clone(&load);
        reporters.spawn(async move { load.report(lane).await });
    }
    for watcher in 0..cluster.plan.watchers {
        let (load, lane) = (Arc::clone(&load), watcher % cluster.plan.lanes);
        watchers.spawn(async move { load.watch(lane).await });
    }
    let started = Instant::now();
    cluster.trouble().await;
    load.stop.cancel();
    timeout(READY_WITHIN, reporters.join_all()).await.expect("all reports are acknowledged in the end");
    let seconds = started.elapsed().as_secs_f64();
    let watched = {
        let give_up = load.give_up.clone();
        tokio::spawn(async move {
            sleep(SETTLED_WITHIN).await;
            give_up.cancel();
        });
        watchers.join_all().await.concat()
    };
    read.cancel();
    let truth = reading.await.unwrap();
    let acknowledged = load.acknowledged();
    let shown: usize = watched.iter().map(|watched| watched.seen.len()).sum();
    let reports: usize = acknowledged.values().map(Vec::len).sum();
    println!(
        "{reports} reports of {} tasks acknowledged in {seconds:.0} s, {shown} events shown to {} watchers",
        acknowledged.len(),
        cluster.plan.watchers
    );
    let found = verdict::judge(&truth, &acknowledged, &watched);
    let logs: Vec<_> = cluster.nodes.iter().map(|node| node.binary.log()).collect();
    let errors: Vec<_> = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("\"ERROR\"")).collect();
    errors.iter().for_each(|line| println!("{line}"));
    assert_eq!((found, load.wrong()), (Verdict::default(), Vec::<String>::new()));
    assert!(reports > 0 && shown > 0);
    drop(cluster.nginx);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_acknowledged_is_lost_and_no_watcher_left_behind() {
    let is_long = std::env::var_os("CLUSTER_LONG").is_some();
    run(if is_long { Plan::long() } else { Plan::short() }).await;
}
