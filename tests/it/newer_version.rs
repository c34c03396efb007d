//! Nodes of this version beside a newer one on the same store: what they cannot read they leave alone, and go on.

use progressd::{
    event::{ChannelName, Class, Draft, Timestamp},
    journal::{
        Expect, Group, Journal, Outcome,
        postgres::{PostgresJournal, PostgresOptions},
    },
    testing::{PostgresDatabase, PostgresServer},
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::shared_store::{LONG, Node, Watch};

/// The number of a class of events that this version does not know.
const NEW_CLASS: u8 = 99;

/// Appends an event as a newer version does, of a class by its number.
async fn append(database: &PostgresDatabase, channel: &str, class: u8) {
    let (kind, _) = channel.split_once(':').unwrap();
    let sql = format!(
        "SELECT progressd.append(head, epoch, 100000, ARRAY[gen_random_uuid()], ARRAY[1], ARRAY[]::int[],
         ARRAY[]::text[], ARRAY[]::bigint[], ARRAY[1], ARRAY['{channel}'], ARRAY['{kind}'], ARRAY[10::bigint],
         ARRAY[{class}::smallint], ARRAY['newer'], ARRAY['{{}}'::bytea], ARRAY[NULL::bytea], ARRAY[NULL::bytea],
         ARRAY[NULL], ARRAY[NULL], ARRAY[NULL], ARRAY[NULL]) FROM progressd.store"
    );
    database.execute(&sql).await;
}

async fn check_newer(answer: Response) {
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    assert!(answer.text().await.unwrap().contains("newer_version"));
}

/// What a node that cannot read this task and this topic answers, and that the others go on.
async fn check_others_go_on(node: &Node, [theirs, ours]: [&str; 2], count: u64) {
    let mut watch = node.watch(ours, None).await;
    assert_eq!(node.report(ours, json!({ "current": count, "total": 100 })).await.status(), 200);
    watch.until(|task| task["current"] == count).await;
    let tasks: Value = node.get("/api/tasks").await.json().await.unwrap();
    assert_eq!((tasks["tasks"].as_array().unwrap().len(), &tasks["tasks"][0]["taskId"]), (1, &json!(ours)));
    assert_eq!(node.get("/api/topics/ours").await.status(), 200);

    check_newer(node.report(theirs, json!({ "current": 1 })).await).await;
    check_newer(node.get(&format!("/api/tasks/{theirs}")).await).await;
    check_newer(node.get("/api/topics/theirs").await).await;
    for path in ["/api/topics/theirs/events", "/api/stream?channel=ours&channel=theirs"] {
        let refused = Watch::of(node.get(path).await).next().await.unwrap();
        assert!(refused.event == "refused" && refused.data.contains("newer_version"), "{path}: {refused:?}");
    }
    // Nobody can name what is of a kind that is not known here.
    for name in ["schedule:nightly", "schedule:none"] {
        assert_eq!(node.get(&format!("/api/stream?channel={name}")).await.status(), 422);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_kinds_of_channels_and_classes_of_events_stop_their_own_channels_only() {
    let database = PostgresServer::shared().database().await;
    let mut nodes = [(); 2].map(|()| Node::start(&database));
    let (theirs, ours) = (nodes[0].submit().await, nodes[1].submit().await);
    for topic in ["theirs", "ours"] {
        let put = nodes[0].client.put(nodes[0].url(&format!("/api/topics/{topic}"))).json(&json!({ "data": topic }));
        assert_eq!(put.send().await.unwrap().status(), 200);
    }
    let mut watches = Vec::new();
    for node in &nodes {
        watches.push(node.watch(&theirs, None).await);
        watches.push(Watch::of(node.get("/api/topics/theirs/events").await));
    }
    for (channel, class) in [
        ("schedule:nightly", 1),
        ("schedule:nightly", NEW_CLASS),
        ("schedule:weekly", 3),
        (&*format!("task:{theirs}"), NEW_CLASS),
        ("topic:theirs", NEW_CLASS),
    ] {
        append(&database, channel, class).await;
    }
    // Who watches goes to a node that can read it.
    for mut watch in watches {
        let told = timeout(LONG, async {
            [watch.next().await, watch.next().await].map(|event| event.map(|event| event.event))
        });
        let told = told.await.expect("the stream ends");
        assert!(told[0].as_deref() != Some("newer") && told[1].is_none(), "{told:?}");
    }
    for (node, count) in nodes.iter().zip(1..) {
        check_others_go_on(node, [&theirs, &ours], count).await;
        let metrics = node.get("/metrics").await.text().await.unwrap();
        assert!(metrics.contains("progressd_unreadable_channels 4\n"), "{metrics}");
        let ready = node.get("/readyz").await;
        assert_eq!(ready.status(), 200);
        assert!(ready.text().await.unwrap().contains("newer version"));
    }
    // They load it as they follow it.
    for (node, count) in nodes.iter_mut().zip(11..) {
        node.restart(&database);
        check_others_go_on(node, [&theirs, &ours], count).await;
    }
    // Time alone forgets nothing of kinds that are not known.
    let kept =
        "SELECT 1 / (count(*) = 2)::int FROM progressd.channels WHERE channel_kind = 'schedule' AND gone_at IS NULL";
    database.execute(kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_version_writes_is_left_alone_and_the_rest_goes_on() {
    let database = PostgresServer::shared().database().await;
    let node = Node::start(&database);
    let (theirs, ours) = (node.submit().await, node.submit().await);
    let mut watch = node.watch(&theirs, None).await;
    watch.until(|_| true).await;
    // Another node has been upgraded, to a version with one more status.
    let newer = PostgresJournal::open(&database.url(), &PostgresOptions::default()).await.unwrap();
    let channel = ChannelName::task(theirs.parse().unwrap());
    let known = newer.last(&channel).await.unwrap().unwrap();
    let visible = known.visible.unwrap().draft;
    let paused = String::from_utf8(visible.data.to_vec()).unwrap().replace("processing", "paused");
    let draft = Draft { data: paused.into(), memo: known.memo, class: Class::Change, ..visible };
    let expects = vec![(channel, Expect::At(known.last))];
    let group = Group { id: uuid::Uuid::now_v7(), at: Timestamp::now(), expects, drafts: vec![draft] };
    let appended = newer.append(newer.head().await.unwrap(), vec![group]).await.unwrap();
    assert_eq!(appended.outcomes, [Outcome::Committed]);

    watch.until(|task| task["status"] == "paused").await;
    check_newer(node.report(&theirs, json!({ "current": 1 })).await).await;
    check_newer(node.get(&format!("/api/tasks/{theirs}")).await).await;
    assert_eq!(node.report(&ours, json!({ "current": 1 })).await.status(), 200);
    let ready = node.get("/readyz").await;
    assert_eq!(ready.status(), 200);
    assert!(ready.text().await.unwrap().contains("newer version"));
}
