//! The service's own jobs, from outside.

use std::time::Duration;

use futures_util::future::join_all;
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
