//! How long a client is waited for, in paused time.

use std::future::pending;
use std::pin::pin;

use tokio::time::sleep;

use super::*;

fn pace() -> Arc<ClientPace> {
    Arc::new(ClientPace::new(&ConnectionConfig {
        first_byte_timeout: Duration::from_secs(1),
        header_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(30),
        ..ConnectionConfig::default()
    }))
}

/// Runs `script` and then nothing; gives what the client is blamed for, and after how many seconds.
async fn blame(pace: &Arc<ClientPace>, script: impl Future<Output = ()>) -> (TimedOut, u64) {
    let start = Instant::now();
    let connection = async {
        script.await;
        pending::<()>().await;
    };
    // A day of paused time: what never comes fails instead of hanging.
    let ended = tokio::time::timeout(Duration::from_secs(86_400), pace.drive(pin!(connection))).await;
    let timed_out = ended.expect("a time-out passes").expect_err("the connection never ends by itself");
    (timed_out, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn silence_is_bounded_from_the_start() {
    assert_eq!(blame(&pace(), async {}).await, (TimedOut::FirstByte, 1));
}

#[tokio::test(start_paused = true)]
async fn bytes_do_not_prolong_a_head() {
    let pace = pace();
    let script = async {
        for _ in 0..20 {
            pace.bytes_came();
            sleep(Duration::from_millis(500)).await;
        }
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Header, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_as_long_as_it_likes() {
    let pace = pace();
    let script = async {
        pace.bytes_came();
        let request = pace.begin_request();
        sleep(Duration::from_secs(1000)).await;
        drop(request);
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 1060));
}

#[tokio::test(start_paused = true)]
async fn the_next_head_has_its_own_bound() {
    let pace = pace();
    let script = async {
        pace.bytes_came();
        drop(pace.begin_request());
        sleep(Duration::from_secs(59)).await;
        pace.bytes_came();
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Header, 61));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_write_is_bounded_also_within_a_request() {
    let pace = pace();
    let script = async {
        pace.bytes_came();
        let _request = pace.begin_request();
        pace.write_is_blocked(true);
        sleep(Duration::from_secs(29)).await;
        pace.write_is_blocked(false);
        pace.write_is_blocked(true);
        sleep(Duration::from_secs(10)).await;
        pace.write_is_blocked(true);
        pending::<()>().await;
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Write, 59));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_response_is_not_idleness() {
    let pace = pace();
    let script = async {
        pace.bytes_came();
        drop(pace.begin_request());
        for _ in 0..10 {
            pace.write_is_blocked(true);
            sleep(Duration::from_secs(20)).await;
            pace.write_is_blocked(false);
        }
        drop(pace.begin_request());
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 260));
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_heard_out_within_bounds() {
    let silent = pace();
    let script = async {
        silent.bytes_came();
        assert!(silent.begin_linger());
    };
    assert_eq!(blame(&silent, script).await, (TimedOut::Linger, 2));

    let talkative = pace();
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
    let pace = pace();
    pace.bytes_came();
    drop(pace.begin_request());
    assert!(!pace.begin_linger());
}

#[tokio::test(start_paused = true)]
async fn bytes_between_multiplexed_requests_are_no_head() {
    let pace = pace();
    let script = async {
        pace.bytes_came();
        pace.multiplex();
        sleep(Duration::from_secs(30)).await;
        pace.bytes_came();
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 60));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_let_go_is_kept_for_requests_only() {
    let pace = pace();
    let script = async {
        pace.bytes_came();
        pace.multiplex();
        let other = pace.begin_request();
        drop(pace.begin_request());
        pace.let_go();
        sleep(Duration::from_secs(100)).await;
        drop(other);
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 101));
    let script = async {
        pace.let_go();
        drop(pace.begin_request());
    };
    assert_eq!(blame(&pace, script).await, (TimedOut::Idle, 60));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_in_another_task_starts_the_idle_time() {
    let pace = pace();
    pace.bytes_came();
    pace.multiplex();
    let request = pace.begin_request();
    let other = tokio::task::JoinSet::from_iter([async move {
        sleep(Duration::from_secs(100)).await;
        drop(request);
    }]);
    assert_eq!(blame(&pace, async {}).await, (TimedOut::Idle, 160));
    drop(other);
}
