//! How long a client is waited for, in paused time.

use std::future::pending;
use std::pin::pin;

use tokio::time::sleep;

use super::*;

fn new_wait() -> Arc<ClientWait> {
    Arc::new(ClientWait::new(&ConnectionConfig {
        first_byte_timeout: Duration::from_secs(1),
        header_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(30),
        ..ConnectionConfig::default()
    }))
}

/// Runs `script` and then nothing; gives what the client is blamed for, and after how many seconds.
async fn blame(wait: &Arc<ClientWait>, script: impl Future<Output = ()>) -> (TimedOut, u64) {
    let start = Instant::now();
    let connection = async {
        script.await;
        pending::<()>().await;
    };
    // A day of paused time: what never comes fails instead of hanging.
    let ended = tokio::time::timeout(Duration::from_secs(86_400), wait.drive(pin!(connection))).await;
    let timed_out = ended.expect("a time-out passes").expect_err("the connection never ends by itself");
    (timed_out, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn silence_is_bounded_from_the_start() {
    assert_eq!(blame(&new_wait(), async {}).await, (TimedOut::FirstByte, 1));
}

#[tokio::test(start_paused = true)]
async fn bytes_do_not_prolong_a_head() {
    let wait = new_wait();
    let script = async {
        for _ in 0..20 {
            wait.bytes_came();
            sleep(Duration::from_millis(500)).await;
        }
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Header, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_as_long_as_it_likes() {
    let wait = new_wait();
    let script = async {
        wait.bytes_came();
        let request = wait.begin_request();
        sleep(Duration::from_secs(1000)).await;
        drop(request);
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Idle, 1060));
}

#[tokio::test(start_paused = true)]
async fn the_next_head_has_its_own_bound() {
    let wait = new_wait();
    let script = async {
        wait.bytes_came();
        drop(wait.begin_request());
        sleep(Duration::from_secs(59)).await;
        wait.bytes_came();
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Header, 61));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_write_is_bounded_also_within_a_request() {
    let wait = new_wait();
    let script = async {
        wait.bytes_came();
        let _request = wait.begin_request();
        wait.write_is_blocked(true);
        sleep(Duration::from_secs(29)).await;
        wait.write_is_blocked(false);
        wait.write_is_blocked(true);
        sleep(Duration::from_secs(10)).await;
        wait.write_is_blocked(true);
        pending::<()>().await;
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Write, 59));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_response_is_not_idleness() {
    let wait = new_wait();
    let script = async {
        wait.bytes_came();
        drop(wait.begin_request());
        for _ in 0..10 {
            wait.write_is_blocked(true);
            sleep(Duration::from_secs(20)).await;
            wait.write_is_blocked(false);
        }
        drop(wait.begin_request());
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Idle, 260));
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_heard_out_within_bounds() {
    let silent = new_wait();
    let script = async {
        silent.bytes_came();
        assert!(silent.begin_linger());
    };
    assert_eq!(blame(&silent, script).await, (TimedOut::Linger, 2));

    let talkative = new_wait();
    let script = async {
        talkative.bytes_came();
        let _request = talkative.begin_request();
        talkative.body_is_unread();
        assert!(talkative.begin_linger());
        loop {
            sleep(Duration::from_secs(1)).await;
            talkative.bytes_came();
        }
    };
    assert_eq!(blame(&talkative, script).await, (TimedOut::Linger, 30));
}

#[tokio::test(start_paused = true)]
async fn nobody_lingers_between_two_requests() {
    let wait = new_wait();
    wait.bytes_came();
    drop(wait.begin_request());
    assert!(!wait.begin_linger());
}

#[tokio::test(start_paused = true)]
async fn bytes_between_multiplexed_requests_are_no_head() {
    let wait = new_wait();
    let script = async {
        wait.bytes_came();
        wait.multiplex();
        sleep(Duration::from_secs(30)).await;
        wait.bytes_came();
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Idle, 60));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_let_go_is_kept_for_requests_only() {
    let wait = new_wait();
    let script = async {
        wait.bytes_came();
        wait.multiplex();
        let other = wait.begin_request();
        drop(wait.begin_request());
        wait.let_go();
        sleep(Duration::from_secs(100)).await;
        drop(other);
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Idle, 101));
    let script = async {
        wait.let_go();
        drop(wait.begin_request());
    };
    assert_eq!(blame(&wait, script).await, (TimedOut::Idle, 60));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_in_another_task_starts_the_idle_time() {
    let wait = new_wait();
    wait.bytes_came();
    wait.multiplex();
    let request = wait.begin_request();
    let other = tokio::task::JoinSet::from_iter([async move {
        sleep(Duration::from_secs(100)).await;
        drop(request);
    }]);
    assert_eq!(blame(&wait, async {}).await, (TimedOut::Idle, 160));
    drop(other);
}
