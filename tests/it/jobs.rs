//! The service's own jobs, from outside.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::support::TestApp;

#[tokio::test(start_paused = true)]
async fn a_thousand_users_run_their_simulated_tasks_at_once() {
    let app = TestApp::with(|config| config.jobs.concurrency = 1).await;
    let started = Instant::now();
    let asked = (0..1000).map(|user| app.get(&format!("/sse/task/user-{user}")).send());
    for answer in join_all(asked).await {
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_wrong_input_of_a_known_kind_is_refused_at_submit() {
    let app = TestApp::in_process().await;
    let submit = async |task: serde_json::Value| app.post("/api/tasks").json(&task).send().await;
    for input in [json!({"steps": 0}), json!({"colour": "red"}), json!([10]), json!("ten")] {
        let refused = submit(json!({"kind": "simulate", "input": input})).await;
        assert_eq!(refused.refusal(), "422 invalid input", "{input}");
    }
    let put = app.request("PUT", &format!("/api/tasks/{}", uuid::Uuid::now_v7()));
    assert_eq!(put.json(&json!({"kind": "simulate", "input": 7})).send().await.status(), 422);
    for task in [json!({"kind": "other", "input": 7}), json!({"kind": "simulate", "start": true, "input": 7})] {
        assert_eq!(submit(task).await.status(), 202, "no job of the service does it");
    }
    assert_eq!(app.get("/api/tasks").send().await.json()["tasks"].as_array().map(Vec::len), Some(2));
}
