//! What can happen to a cluster, in an order that is given or by chance, one at a time or two at once.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use progressd::testing::{Fault, Way};
use tokio::runtime::Handle;

use super::{Cluster, NODES};
use crate::simulation::Choices;

/// For how long one trouble keeps all nodes from the database, and for how long some of them.
const CUT_ALL_MAX: Duration = Duration::from_secs(8);
const CUT_SOME_MAX: Duration = Duration::from_secs(20);
/// Until a node, a standby or a primary that was killed is back or replaced.
const NODE_AWAY_MAX: Duration = Duration::from_secs(5);
const STANDBY_AWAY_MAX: Duration = Duration::from_secs(8);
const PRIMARY_AWAY_MAX: Duration = Duration::from_secs(3);
/// How much later the second of two begins.
const APART_MAX: Duration = Duration::from_secs(2);
const RESET_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) enum Trouble {
    KillNode(usize, Duration),
    Drain(usize),
    /// Nodes and the database lose each other for a while.
    Cut(Vec<usize>, Cut, Duration),
    KillNginx,
    KillStandby(Duration),
    /// The primary is killed, and recovers after a while.
    RestartPrimary(Duration),
    /// The primary is killed; after a while a standby is promoted, and the old primary follows it.
    Promote(Duration),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    Fault(Fault),
    /// Connections are ended again and again.
    Reset,
    /// Connections go silent for good; new ones are served.
    Forget,
}

/// The name of its kind.
impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::KillNode(..) => "kill -9 of a node",
            Self::Drain(_) => "drain of a node",
            Self::Cut(_, Cut::Fault(Fault::Refuse | Fault::Full), _) => "nodes cut from the database, refused",
            Self::Cut(_, Cut::Fault(_), _) => "nodes cut from the database, silent",
            Self::Cut(_, Cut::Reset, _) => "nodes cut from the database, reset",
            Self::Cut(_, Cut::Forget, _) => "nodes cut from the database, half-open",
            Self::KillNginx => "kill -9 of nginx",
            Self::KillStandby(_) => "kill -9 of a standby",
            Self::RestartPrimary(_) => "kill -9 of the primary, which recovers",
            Self::Promote(_) => "kill -9 of the primary, a standby is promoted",
        })
    }
}

impl Trouble {
    /// One or two at once, each after a pause.
    pub(super) fn some(choices: &Choices) -> Vec<(Duration, Self)> {
        let mut some = vec![(Duration::ZERO, Self::any(choices))];
        if choices.chance(35) {
            some.push((choices.up_to(APART_MAX), Self::any(choices)));
        }
        some
    }

    fn any(choices: &Choices) -> Self {
        let node = usize::try_from(choices.between(0, NODES as u64 - 1)).unwrap();
        match choices.between(0, 11) {
            0..=1 => Self::KillNode(node, choices.up_to(NODE_AWAY_MAX)),
            2 => Self::Drain(node),
            3..=5 => Self::any_cut(node, choices),
            6 => Self::KillNginx,
            7 => Self::KillStandby(choices.up_to(STANDBY_AWAY_MAX)),
            8 => Self::RestartPrimary(choices.up_to(PRIMARY_AWAY_MAX)),
            _ => Self::Promote(choices.up_to(PRIMARY_AWAY_MAX)),
        }
    }

    fn any_cut(node: usize, choices: &Choices) -> Self {
        let cut = match choices.between(0, 7) {
            0..=1 => Cut::Fault(Fault::Silent),
            2 => Cut::Fault(Fault::OneWay(Way::ToServer)),
            3 => Cut::Fault(Fault::OneWay(Way::ToClient)),
            4 => Cut::Fault(Fault::Refuse),
            5 => Cut::Fault(Fault::Full),
            6 => Cut::Reset,
            _ => Cut::Forget,
        };
        match choices.between(0, 9) {
            0..=5 => Self::Cut(vec![node], cut, choices.up_to(CUT_SOME_MAX)),
            6..=7 => Self::Cut(vec![node, (node + 1) % NODES], cut, choices.up_to(CUT_SOME_MAX)),
            _ => Self::Cut((0..NODES).collect(), cut, choices.up_to(CUT_ALL_MAX)),
        }
    }

    /// Blocks until it is over. What happens to the same process waits for its end.
    pub(super) fn happen(&self, cluster: &Cluster, runtime: &Handle) {
        match self {
            Self::KillNode(node, time) => cluster.nodes[*node].restart(|binary| {
                binary.kill();
                thread::sleep(*time);
            }),
            Self::Drain(node) => cluster.nodes[*node].restart(|binary| binary.terminate()),
            Self::Cut(nodes, cut, time) => cut.last(cluster, nodes, *time),
            Self::KillNginx => cluster.nginx.lock().unwrap().kill(),
            Self::KillStandby(time) | Self::RestartPrimary(time) | Self::Promote(time) => {
                let mut postgres = cluster.postgres.lock().unwrap();
                if matches!(self, Self::KillStandby(_)) {
                    postgres.kill_standby();
                } else {
                    postgres.kill_primary();
                }
                thread::sleep(*time);
                runtime.block_on(async {
                    if matches!(self, Self::Promote(_)) {
                        postgres.promote().await;
                    }
                    postgres.come_back().await;
                    // Only then another one may go: each commit is on two of them.
                    postgres.followed().await;
                });
            }
        }
    }
}

impl Cut {
    fn last(self, cluster: &Cluster, nodes: &[usize], time: Duration) {
        let proxies = || nodes.iter().flat_map(|node| &cluster.nodes[*node].proxies);
        match self {
            Self::Fault(fault) => {
                proxies().for_each(|proxy| proxy.set(fault));
                if matches!(fault, Fault::Refuse | Fault::Full) {
                    proxies().for_each(|proxy| proxy.cut());
                }
                thread::sleep(time);
                proxies().for_each(|proxy| proxy.set(Fault::None));
            }
            Self::Reset => {
                let started = Instant::now();
                while started.elapsed() < time {
                    proxies().for_each(|proxy| proxy.cut());
                    thread::sleep(RESET_INTERVAL);
                }
            }
            Self::Forget => proxies().for_each(|proxy| proxy.forget()),
        }
    }
}
