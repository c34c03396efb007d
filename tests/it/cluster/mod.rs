//! Three nodes behind nginx, on a primary with two synchronous standbys, under load, while one after the other fails. What was
//! acknowledged, and what each watcher saw, is compared with the log.
//!
//! `scripts/trial cluster` is the long form.

mod load;
mod one_node;
mod trouble;
mod verdict;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use progressd::testing::{Fault, FaultProxy, PostgresCluster};
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    load::Load,
    trouble::{Cut, Trouble},
    verdict::Verdict,
};
use crate::{
    nginx::{Nginx, free_port},
    simulation::Choices,
    support::{authority::Authority, binary::Binary},
};

const NODES: usize = 3;
/// Until watchers have seen the end, after everything was reported.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// No readiness takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A node that has ended is started again after this time.
const STARTS_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// No trouble keeps all reports from being acknowledged for longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Between two troubles by chance.
const CALM_MAX: Duration = Duration::from_secs(3);

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
    /// For how long things fail by chance afterwards.
    chance: Duration,
}

impl Plan {
    fn short() -> Self {
        let (calm, cut) = (Duration::from_secs(1), Duration::from_millis(2_500));
        let interval = Duration::from_millis(50);
        Self { lanes: 12, interval, reports: 25, watchers: 100, calm, cut, chance: Duration::ZERO }
    }

    /// What is asked for by the environment; otherwise 2,000 reports a second and 5,000 watchers.
    fn long() -> Self {
        let reports = u32::try_from(number("CLUSTER_REPORTS", 2_000)).unwrap();
        let lanes = reports.div_ceil(4);
        Self {
            lanes: lanes as usize,
            interval: Duration::from_secs(1) * lanes / reports,
            reports: 150,
            watchers: usize::try_from(number("CLUSTER_WATCHERS", 5_000)).unwrap(),
            calm: Duration::from_secs(15),
            cut: Duration::from_secs(20),
            chance: Duration::from_secs(60) * u32::try_from(number("CLUSTER_MINUTES", 10)).unwrap(),
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// One of the nodes. It reaches the database through proxies of its own.
struct Node {
    binary: Mutex<Binary>,
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
        let binary = Mutex::new(launch(&data, &listen, &store));
        Self { binary, data, listen, store, proxies }
    }

    /// Ends it somehow, and starts it again.
    fn restart(&self, end: impl FnOnce(&mut Binary)) {
        let mut binary = self.binary.lock().unwrap();
        end(&mut binary);
        *binary = launch(&self.data, &self.listen, &self.store);
    }
}

/// Starts a node. While there is no database it ends, and is started again.
fn launch(data: &TempDir, listen: &str, store: &str) -> Binary {
    let behind = ["--trusted-proxies", "127.0.0.1", "--allowed-hosts", "progress.example", "--insecure-open"];
    let settings = ["--stalled-after", "1d", "--drain-timeout", "3s", "--store", store];
    let (arguments, started) = ([&behind[..], &settings].concat(), Instant::now());
    loop {
        match Binary::try_start_quiet(data.path(), listen, &arguments) {
            Ok(binary) => return binary,
            Err(log) => assert!(started.elapsed() < READY_WITHIN, "{log}"),
        }
        thread::sleep(STARTS_AGAIN_AFTER);
    }
}

struct Cluster {
    postgres: Mutex<PostgresCluster>,
    nodes: Vec<Node>,
    nginx: Mutex<Nginx>,
    load: Arc<Load>,
    plan: Plan,
    /// Of each kind of trouble: how often it was, and the longest time without an acknowledgement.
    pauses: Mutex<BTreeMap<String, (u32, Duration)>>,
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
        let (postgres, nginx) = (Mutex::new(postgres), Mutex::new(nginx));
        Self { postgres, nodes, nginx, load, plan, pauses: Mutex::default() }
    }

    /// Lets one after the other fail, then some by chance, and tells what that did.
    async fn trouble(&self, seed: u64) {
        let (calm, cut) = (self.plan.calm, Cut::Fault(Fault::Silent));
        sleep(calm).await;
        self.tell("nothing".into());
        for trouble in [
            Trouble::KillNode(0, calm),
            Trouble::Drain(1),
            Trouble::Cut(vec![2], cut, self.plan.cut),
            Trouble::Promote(Duration::ZERO),
        ] {
            self.suffer(&[(Duration::ZERO, trouble)], calm).await;
        }
        let (started, choices) = (Instant::now(), Choices::new(seed));
        while started.elapsed() < self.plan.chance {
            let troubles = Trouble::some(&choices);
            println!("after {:.0?}: {troubles:?}", started.elapsed());
            self.suffer(&troubles, choices.up_to(CALM_MAX)).await;
        }
    }

    /// Lets something happen, waits until all is well again, and then for a while.
    async fn suffer(&self, troubles: &[(Duration, Trouble)], calm: Duration) {
        let runtime = Handle::current();
        block_in_place(|| {
            thread::scope(|scope| {
                for (pause, trouble) in troubles {
                    scope.spawn(|| {
                        thread::sleep(*pause);
                        trouble.happen(self, &runtime);
                    });
                }
            });
        });
        for node in &self.nodes {
            self.ready(node).await;
        }
        sleep(calm).await;
        self.tell(match troubles {
            [(_, trouble)] => trouble.to_string(),
            _ => "two at once".into(),
        });
    }

    async fn ready(&self, node: &Node) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/readyz", node.listen);
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

    fn tell(&self, what: String) {
        let tally = self.load.tally();
        println!(
            "{what}: {} acknowledged, {} turned away, {} reconnects, longest time without an acknowledgement {:.2?}, \
             slowest answer {:.2?}",
            tally.acknowledged, tally.turned_away, tally.reconnects, tally.longest_gap, tally.slowest
        );
        let mut pauses = self.pauses.lock().unwrap();
        let (times, longest) = pauses.entry(what).or_default();
        *times += 1;
        *longest = tally.longest_gap.max(*longest);
    }
}

async fn run(plan: Plan) {
    let seed = number("CLUSTER_SEED", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("CLUSTER_SEED={seed}");
    let cluster = Cluster::start(plan).await;
    let load = Arc::clone(&cluster.load);
    let (read, log_url) = (CancellationToken::new(), cluster.postgres.lock().unwrap().url());
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
    cluster.trouble(seed).await;
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
    let logs: Vec<_> = cluster.nodes.iter().map(|node| node.binary.lock().unwrap().log()).collect();
    let errors: Vec<_> = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("\"ERROR\"")).collect();
    errors.iter().for_each(|line| println!("{line}"));
    assert_eq!((found, load.wrong()), (Verdict::default(), Vec::<String>::new()));
    assert!(reports > 0 && shown > 0);
    for (what, (times, longest)) in cluster.pauses.lock().unwrap().iter() {
        println!("{what}: {times} times, {longest:.2?} without an acknowledgement at most");
        assert!(*longest < PAUSE_MAX, "{what}: nothing was acknowledged for {longest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_acknowledged_is_lost_and_no_watcher_left_behind() {
    let is_long = std::env::var_os("CLUSTER_LONG").is_some();
    run(if is_long { Plan::long() } else { Plan::short() }).await;
}
