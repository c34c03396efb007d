//! The real binary, killed again and again while notifications are sent: who was there and who was away find each that
//! was acknowledged, once.

use std::{collections::BTreeSet, path::Path, time::Duration};

use progressd::testing::SseParser;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use crate::support::binary::Binary;

const KILLS: usize = 4;
const POSTERS: usize = 4;
/// How long to wait for what must come.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Posts until the server is gone; `acknowledged` is told the title of each that was answered.
async fn post(base: String, name: String, acknowledged: mpsc::Sender<String>) {
    let client = reqwest::Client::new();
    for nth in 0.. {
        let title = format!("{name}-{nth}");
        let path = if nth % 2 == 0 { "/api/users/ann/notifications" } else { "/api/groups/crew/notifications" };
        let sent = client.post(format!("{base}{path}")).json(&json!({ "title": title, "message": "m" })).send().await;
        let Ok(answer) = sent else { return };
        assert_eq!(answer.status(), 200);
        if answer.bytes().await.is_err() {
            return;
        }
        if acknowledged.send(title).await.is_err() {
            return;
        }
    }
}

/// Listens after a cursor until the server is gone, or until all of `wanted` have been shown; gives what was shown.
async fn listen(
    base: String,
    user: &str,
    cursor: Option<String>,
    mut wanted: BTreeSet<String>,
) -> Vec<(String, String)> {
    let stop_when_seen = !wanted.is_empty();
    let request = reqwest::Client::new().get(format!("{base}/api/notifications/stream?userId={user}"));
    let request = cursor.iter().fold(request, |request, cursor| request.header("last-event-id", cursor));
    let (mut parser, mut shown) = (SseParser::default(), Vec::new());
    let Ok(mut response) = request.send().await else { return shown };
    while let Ok(Some(bytes)) = response.chunk().await {
        for event in parser.feed(&bytes) {
            match event.event.as_str() {
                "connected" => continue,
                "notification" => {}
                other => panic!("{other}: {event:?}"),
            }
            let notification: Value = serde_json::from_str(&event.data).expect("JSON");
            let title = notification["title"].as_str().expect("a title").to_owned();
            wanted.remove(&title);
            shown.push((title, event.id));
        }
        if stop_when_seen && wanted.is_empty() {
            break;
        }
    }
    shown
}

async fn join(base: &str, user: &str) {
    let path = format!("{base}/api/users/{user}/groups");
    let answer = reqwest::Client::new().put(path).json(&json!(["crew"])).send().await.expect("it answers");
    assert_eq!(answer.status(), 200);
}

/// One life of the server: posts and listens until it is killed.
async fn live(
    data: &Path,
    life: usize,
    cursor: Option<String>,
    acknowledged: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut server = Binary::start(data, &[]);
    let base = server.base();
    join(&base, "ann").await;
    join(&base, "bob").await;
    let listening = tokio::spawn({
        let base = base.clone();
        async move { listen(base, "ann", cursor, BTreeSet::new()).await }
    });
    let (sender, mut receiver) = mpsc::channel(1);
    let mut posters = JoinSet::new();
    for nth in 0..POSTERS {
        posters.spawn(post(base.clone(), format!("{life}-{nth}"), sender.clone()));
    }
    drop(sender);
    for _ in 0..40 + uuid::Uuid::new_v4().as_u128() % 40 {
        acknowledged.push(receiver.recv().await.expect("they are acknowledged"));
    }
    server.kill();
    while let Some(title) = receiver.recv().await {
        acknowledged.push(title);
    }
    posters.join_all().await;
    listening.await.expect("what is shown is consistent")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_shown_once_over_kills() {
    let data = tempfile::tempdir().expect("a directory");
    let (mut acknowledged, mut shown) = (Vec::new(), Vec::new());
    for life in 0..KILLS {
        let cursor = shown.last().map(|(_, cursor): &(String, String)| cursor.clone());
        shown.extend(live(data.path(), life, cursor, &mut acknowledged).await);
    }
    let server = Binary::start(data.path(), &[]);
    let titles = |shown: &[(String, String)]| shown.iter().map(|(title, _)| title.clone()).collect::<Vec<_>>();
    let missing: BTreeSet<_> = acknowledged.iter().filter(|title| !titles(&shown).contains(title)).cloned().collect();
    if !missing.is_empty() {
        let cursor = shown.last().map(|(_, cursor)| cursor.clone());
        let rest = tokio::time::timeout(WAIT_MAX, listen(server.base(), "ann", cursor, missing)).await;
        shown.extend(rest.expect("all that was acknowledged comes"));
    }
    let once: BTreeSet<_> = titles(&shown).into_iter().collect();
    assert_eq!(once.len(), shown.len(), "something was shown twice");

    // Bob was never there: he finds what was sent to the group, in the order in which it was sent.
    let is_group =
        |title: &&String| title.rsplit('-').next().is_some_and(|nth| nth.parse::<u32>().is_ok_and(|nth| nth % 2 == 1));
    let wanted: BTreeSet<_> = acknowledged.iter().filter(is_group).cloned().collect();
    let found = tokio::time::timeout(WAIT_MAX, listen(server.base(), "bob", None, wanted)).await.expect("all waited");
    let found = titles(&found);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "something was shown twice");
    let in_order: Vec<_> =
        titles(&shown).into_iter().filter(|title| is_group(&title) && found.contains(title)).collect();
    let also_hers: Vec<_> = found.into_iter().filter(|title| in_order.contains(title)).collect();
    assert_eq!(also_hers, in_order);
}
