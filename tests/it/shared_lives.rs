//! The real binary on a PostgreSQL whose files are put back as they were earlier: who saw what is lost is told so.

use std::time::Duration;

use progressd::testing::{PostgresServer, SseEvent, SseParser};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::binary::Binary;

/// Nothing that is waited for takes longer.
const LONG: Duration = Duration::from_secs(30);

struct LivingNode {
    binary: Binary,
    client: Client,
}

impl LivingNode {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.binary.base())
    }

    /// Reports once the store takes it, and answers the cursor.
    async fn report(&self, id: &str, message: &str) -> String {
        timeout(LONG, async {
            loop {
                let request = self.client.patch(self.url(&format!("/api/tasks/{id}")));
                let answer = request.json(&json!({ "message": message })).send().await.unwrap();
                if answer.status() == 200 {
                    break answer.json::<Value>().await.unwrap()["cursor"].as_str().unwrap().to_owned();
                }
                assert_eq!(answer.status(), 503);
            }
        })
        .await
        .unwrap()
    }

    /// The first events for who comes back with a cursor, through one with a message.
    async fn resumed(&self, id: &str, cursor: &str, until: &str) -> Vec<SseEvent> {
        let request = self.client.get(self.url(&format!("/api/tasks/{id}/progress"))).header("last-event-id", cursor);
        let mut response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        // All of it: comments come again and again.
        let reading = async {
            while !events.iter().any(|event: &SseEvent| event.data.contains(until)) {
                let bytes = response.chunk().await.unwrap().expect("it goes on");
                events.extend(parser.feed(&bytes));
            }
        };
        timeout(LONG, reading).await.expect("the event");
        events
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_saw_what_a_restore_has_lost_is_sent_a_reset() {
    let server: &'static PostgresServer = Box::leak(Box::new(PostgresServer::start()));
    let database = server.database().await;
    let data = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let start = |nth: usize| LivingNode {
        binary: Binary::start(data[nth].path(), &["--store", &database.url()]),
        client: Client::new(),
    };
    let node = start(0);
    let made = node.client.post(node.url("/api/tasks")).json(&json!({ "start": true })).send().await.unwrap();
    let id = made.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    let kept = node.report(&id, "kept").await;
    server.stop();
    server.copy_files();
    server.start_again();
    let lost = node.report(&id, "lost").await;
    // A start of the server alone loses nothing, and resets nobody.
    let events = node.resumed(&id, &kept, "lost").await;
    assert!(events.iter().all(|event| event.event == "progress" && !event.data.contains("kept")), "{events:?}");
    server.stop();
    server.put_back();
    server.start_again();

    // The node that knows of it, and one that does not.
    let after = node.report(&id, "after").await;
    let other = start(1);
    for node in [&node, &other] {
        let events = node.resumed(&id, &kept, "after").await;
        assert!(events.iter().all(|event| event.event == "progress" && !event.data.contains("lost")), "{events:?}");
        assert_eq!(events.last().unwrap().id, after);
        let events = node.resumed(&id, &lost, "after").await;
        assert_eq!(events[0].event, "reset", "{events:?}");
    }
    drop((node, other));
    server.end();
}
