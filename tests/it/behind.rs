//! A node that has not heard yet of what another has acknowledged says of nothing that it is not there.

use progressd::{access::Scope, config::Config, testing::MemoryJournal};
use serde_json::{Value, json};

use crate::{
    access::{SECRET, token},
    support::{Asking, TestApp},
};

/// A node with a key that may do everything there.
struct OpenedNode {
    app: TestApp,
    key: String,
}

impl OpenedNode {
    async fn start(store: &MemoryJournal, name: &str) -> Self {
        let mut config = Config::default();
        config.access.jwt_secret = Some(SECRET.into());
        let app = TestApp::on(store.on_node(name), config).await;
        let key = app.key(&[Scope::Admin]);
        Self { app, key }
    }

    fn asking(&self, method: &str, path: &str, body: &Value) -> Asking {
        let asking = self.app.request(method, path).bearer(&self.key);
        if body.is_null() { asking } else { asking.json(body) }
    }
}

/// Two nodes, of which the second hears nothing of the first by itself.
async fn nodes() -> (OpenedNode, OpenedNode) {
    let store = MemoryJournal::new();
    let (one, two) = (OpenedNode::start(&store, "one").await, OpenedNode::start(&store, "two").await);
    two.app.journal.deafen(true);
    (one, two)
}

/// What is acknowledged by one node, what is then asked of the other, and how that answers. `{}` stands for a name that is
/// used nowhere else, `{cursor}` for the cursor in the acknowledgement.
type Step = ((&'static str, &'static str, Value), (&'static str, &'static str, Value), u16);

fn steps() -> Vec<Step> {
    let (nothing, task) = (Value::Null, ("PUT", "/api/tasks/{}", json!({ "start": true })));
    let (user, topic) =
        (("PUT", "/api/users/{}/groups", json!(["{}"])), ("PUT", "/api/topics/{}", json!({ "data": 1 })));
    let note = json!({ "title": "t", "message": "m" });
    vec![
        (task.clone(), ("GET", "/api/tasks/{}", nothing.clone()), 200),
        (task.clone(), ("PATCH", "/api/tasks/{}", json!({ "status": "completed" })), 200),
        (task.clone(), ("POST", "/api/tasks/{}/cancel", nothing.clone()), 200),
        (task, ("POST", "/api/tickets", json!({ "channels": ["task:{}"] })), 200),
        (user.clone(), ("GET", "/api/users/{}", nothing.clone()), 200),
        (user.clone(), ("GET", "/api/users/{}/groups", nothing.clone()), 200),
        (user.clone(), ("GET", "/api/users/{}/notifications", nothing.clone()), 200),
        (user.clone(), ("PUT", "/api/users/{}/notifications/read", nothing.clone()), 204),
        (user, ("POST", "/api/groups/{}/notifications", note.clone()), 200),
        (
            ("POST", "/api/users/{}/notifications", note),
            ("PUT", "/api/users/{}/notifications/read", json!({ "cursor": "{cursor}" })),
            204,
        ),
        (topic.clone(), ("GET", "/api/topics/{}", nothing.clone()), 200),
        (topic, ("DELETE", "/api/topics/{}", nothing), 204),
    ]
}

#[tokio::test]
async fn what_one_node_has_acknowledged_is_there_for_the_other() {
    let (one, two) = nodes().await;
    for (nth, (written, asked, expected)) in steps().into_iter().enumerate() {
        let name = uuid::Uuid::from_u128(nth as u128 + 1).to_string();
        let filled = |(method, path, body): (&'static str, &str, Value), cursor: &str| {
            let fill = |text: &str| text.replace("{}", &name).replace("{cursor}", cursor);
            (method, fill(path), serde_json::from_str::<Value>(&fill(&body.to_string())).unwrap())
        };
        let (method, path, body) = filled(written, "");
        let acknowledged = one.asking(method, &path, &body).send().await;
        assert!([200, 202].contains(&acknowledged.status()), "{path}: {acknowledged:?}");
        let (method, path, body) = filled(asked, acknowledged.json()["cursor"].as_str().unwrap_or_default());
        let answer = two.asking(method, &path, &body).send().await;
        assert_eq!(answer.status(), expected, "{path}: {answer:?}");
        if path.starts_with("/api/groups") {
            assert_eq!(answer.json()["members"], 1, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_nobody_has_written_is_not_there() {
    let (one, two) = nodes().await;
    for path in ["/api/users/ann", "/api/users/ann/groups", "/api/users/ann/notifications", "/api/topics/none"] {
        assert_eq!(two.asking("GET", path, &Value::Null).send().await.status(), 404, "{path}");
    }
    let sent = one
        .asking("POST", "/api/users/ann/notifications", &json!({ "title": "t", "message": "m" }))
        .send()
        .await
        .json();
    let beyond = format!("{}-1000000", sent["cursor"].as_str().unwrap().split_once('-').unwrap().0);
    let read = two.asking("PUT", "/api/users/ann/notifications/read", &json!({ "cursor": beyond })).send().await;
    assert_eq!(read.refusal(), "422 invalid cursor");
    assert!(read.text().contains("is after the last event"), "{}", read.text());
}

#[tokio::test]
async fn a_new_member_watches_the_group_at_any_node() {
    let (one, two) = nodes().await;
    let watch = async || two.app.get("/api/stream?channel=group:ops").bearer(&token("ann")).events().await.status();
    assert_eq!(watch().await, 404);
    let joined = one.asking("PUT", "/api/users/ann/groups", &json!(["ops"])).send().await;
    assert_eq!(joined.status(), 200);
    assert_eq!(watch().await, 200);
}
