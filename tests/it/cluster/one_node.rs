//! One node, and a connection to its database that is cut, held and refused.

use super::*;
use crate::cluster::verdict::judge;
use progressd::testing::{PostgresServer, Way};

/// How often all connections are cut, at some byte.
const CUTS: usize = 20;
const LANES: usize = 6;
const WATCHERS: usize = 12;
/// How often the log may tell that the store is away.
const TOLD_MAX: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_connection_fails_nothing_is_lost_and_no_stream_ends() {
    let database = PostgresServer::shared().database().await;
    let (proxy, data) = (database.proxy(), tempfile::tempdir().unwrap());
    let node = Binary::start(data.path(), &["--store", &database.url_through(&[&proxy]), "--stalled-after", "1d"]);
    let load = Arc::new(Load::new(reqwest::Client::new(), node.base(), LANES, Duration::from_millis(5), 50));
    let read = CancellationToken::new();
    let reading = tokio::spawn(verdict::read_log(database.url(), read.clone()));
    let (mut reporters, mut watchers) = (JoinSet::new(), JoinSet::new());
    for lane in 0..LANES {
        let load = Arc::clone(&load);
        reporters.spawn(async move { load.report(lane).await });
    }
    for watcher in 0..WATCHERS {
        let load = Arc::clone(&load);
        watchers.spawn(async move { load.watch(watcher % LANES).await });
    }
    for cut in 0..CUTS {
        // Large appends have more bytes than small ones.
        proxy.cut_after([Way::ToServer, Way::ToClient][cut % 2], cut * 331 % 7_000);
        let is_cut = async {
            while proxy.cuts() <= cut as u64 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(READY_WITHIN, is_cut).await.expect("the node goes on");
    }
    for fault in [Fault::Refuse, Fault::Silent, Fault::OneWay(Way::ToServer), Fault::OneWay(Way::ToClient), Fault::Full]
    {
        proxy.set(fault);
        if matches!(fault, Fault::Refuse | Fault::Full) {
            proxy.cut();
        }
        sleep(Duration::from_millis(400)).await;
        proxy.set(Fault::None);
    }
    load.stop.cancel();
    timeout(READY_WITHIN, reporters.join_all()).await.expect("all reports are acknowledged in the end");
    let watched = timeout(SETTLED_WITHIN, watchers.join_all()).await.expect("all watchers see the end").concat();
    read.cancel();
    let (truth, acknowledged) = (reading.await.unwrap(), load.acknowledged());
    assert_eq!((judge(&truth, &acknowledged, &watched), load.wrong()), (Verdict::default(), Vec::new()));
    let tally = load.tally();
    assert!(tally.acknowledged > 0 && tally.turned_away > 0, "{} {}", tally.acknowledged, tally.turned_away);
    assert_eq!(tally.reconnects, 0, "streams stay");
    // That requests are turned away is told now and then, not for each.
    let log = node.log();
    let told =
        log.lines().filter(|line| line.contains("\"code\":\"store_unavailable\"") && !line.contains("\"DEBUG\""));
    let told = told.count();
    assert!((1..=TOLD_MAX).contains(&told), "{told} times");
}
