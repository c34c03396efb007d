//! The runner, attempts and leases.

use super::*;
use crate::{journal::JournalError, task::Report, testing::LostAnswer};

/// A simulation of so many seconds that says this.
fn talk(steps: u32, messages: &[&str]) -> NewTask {
    let input = json!({ "steps": steps, "intervalMs": 1000, "messages": messages });
    NewTask {
        kind: Some("simulate".into()),
        user_id: Some("alice".into()),
        input: Payload::of(&input),
        ..NewTask::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_simulation_counts_its_steps_and_talks_to_its_user() {
    let house = Plan::default().build().await;
    let started = Instant::now();
    let id = house.create(talk(3, &["a", "b", "c", "and", "so on"])).await;
    let second = house.until(id, |task| task.message.as_deref() == Some("Step 2 of 3")).await;
    assert_eq!((second.current, second.total, second.unit.as_deref()), (Some(1), Some(3), Some("steps")));
    assert_eq!(second.progress, Some(33.33));
    assert_eq!(house.said_to("alice").await, ["a", "b"]);
    let task = house.end(id).await;
    assert_eq!(
        (task.status, task.progress, task.result),
        (Status::Completed, Some(100.0), Payload::of(&json!({"steps": 3})))
    );
    assert_eq!((task.current, task.message.as_deref()), (Some(3), Some("Step 3 of 3")), "the last word before the end");
    assert_eq!(house.said_to("alice").await, ["a", "b", "c", "and", "so on"]);
    assert_eq!(started.elapsed().as_secs(), 3, "those beyond the steps are said without waiting");
}

#[tokio::test(start_paused = true)]
async fn what_a_job_says_is_said_once_although_no_answer_tells_so() {
    let house = Plan::default().build().await;
    let mut losses = 6;
    house.journal.before_append(move |faults, groups| {
        if losses > 0 && groups.iter().flat_map(|group| &group.drafts).any(|draft| draft.data == "b") {
            losses -= 1;
            faults.lost_answer = Some(LostAnswer::Committed);
        }
        Ok(())
    });
    let id = house.create(talk(1, &["a", "b", "c"])).await;
    assert_eq!(house.end(id).await.status, Status::Completed);
    assert_eq!(house.said_to("alice").await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_simulation_fails_where_it_is_told_to() {
    let house = Plan::default().build().await;
    let id = house.submit("simulate", json!({"steps": 5, "intervalMs": 10, "failAt": 3})).await;
    assert_eq!(house.error_code(id).await, "simulated_failure");
    assert_eq!(house.task(id).await.current, Some(2));
    let id = house.submit("simulate", json!({"steps": 0})).await;
    assert_eq!(house.error_code(id).await, "invalid_input", "also where it was accepted unchecked");
}

#[tokio::test(start_paused = true)]
async fn many_steps_at_once_do_not_flood_the_store() {
    let house = Plan::default().build().await;
    let id = house.submit("simulate", json!({"steps": 10_000, "intervalMs": 1})).await;
    let started = Instant::now();
    assert_eq!(house.end(id).await.status, Status::Completed);
    let reports = house.journal.groups();
    let most = started.elapsed().as_millis() as usize / 50 + 10;
    assert!(reports > 20 && reports <= most, "{reports} of at most {most}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_tasks_error_and_tells_nothing_of_the_inside() {
    async fn job(_: JobContext) -> Result<Value, JobError> {
        panic!("the secret of the inside");
    }
    let jobs = vec![scripted("panic", job), Arc::new(Simulate)];
    let house = Plan { jobs, concurrency: 1, ..Plan::default() }.build().await;
    let id = house.submit("panic", json!({})).await;
    assert_eq!(house.error_code(id).await, "job_panicked");
    assert!(!String::from_utf8_lossy(&house.entry(id).await.data).contains("secret"));
    let next = house.submit("simulate", json!({"steps": 1})).await;
    assert_eq!(house.end(next).await.status, Status::Completed, "its place is free again");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_reaches_the_job() {
    let house = Plan::default().build().await;
    let id = house.submit("simulate", json!({"intervalMs": 3_600_000})).await;
    house.until(id, |task| task.status == Status::Processing).await;
    let asked = Instant::now();
    assert_eq!(house.ask(id, Intent::Cancel).await.entry.unwrap().task.status, Status::Cancelling);
    assert_eq!(house.end(id).await.status, Status::Cancelled);
    assert!(asked.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_does_not_listen_is_dropped() {
    let house = Plan { jobs: vec![scripted("deaf", |_| pending())], ..Plan::default() }.build().await;
    let id = house.submit("deaf", json!({})).await;
    house.until(id, |task| task.status == Status::Processing).await;
    let asked = Instant::now();
    house.ask(id, Intent::Cancel).await;
    assert_eq!(house.end(id).await.status, Status::Cancelled);
    assert_eq!(asked.elapsed().as_secs(), attempt::STOP_BOUND.as_secs());
}

#[tokio::test(start_paused = true)]
async fn jobs_wait_for_a_place_and_go_in_their_order() {
    let work = scripted("work", |context: JobContext| async move {
        context.sleep(Duration::from_secs(2)).await?;
        Ok(Value::Null)
    });
    let house = Plan { concurrency: 2, jobs: vec![work], ..Plan::default() }.build().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(house.submit("work", json!({})).await);
    }
    let mut most = 0;
    loop {
        let mut statuses = Vec::new();
        for id in &ids {
            statuses.push(house.task(*id).await.status);
        }
        let working = statuses.iter().filter(|status| **status == Status::Processing).count();
        most = most.max(working);
        let first_waiting = statuses.iter().position(|status| *status == Status::Pending).unwrap_or(ids.len());
        assert!(statuses[first_waiting..].iter().all(|status| *status == Status::Pending), "{statuses:?}");
        if statuses.iter().all(|status| *status == Status::Completed) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(most, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_for_as_long_as_the_job_lives() {
    let house = Plan::default().build().await;
    let id = house.submit("simulate", json!({"steps": 1, "intervalMs": 600_000})).await;
    let task = house.end(id).await;
    assert_eq!((task.status, task.attempt), (Status::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_lease_is_lost_stops_and_says_nothing_more() {
    let (entered, mut entries) = watch::channel(0);
    let (left, mut exits) = watch::channel(0);
    let job = move |context: JobContext| {
        entered.send_modify(|count| *count += 1);
        let left = left.clone();
        async move {
            let _ = context.unless_stopped(std::future::pending::<()>()).await;
            left.send_modify(|count| *count += 1);
            Ok(json!("too late"))
        }
    };
    let house = Plan { jobs: vec![scripted("wait", job)], ..Plan::default() }.build().await;
    let new = NewTask { kind: Some("wait".into()), max_attempts: Some(2), ..NewTask::default() };
    let id = house.create(new).await;
    for (attempt, status) in [(1, Status::Processing), (2, Status::Error)] {
        entries.wait_for(|count| *count == attempt).await.unwrap();
        house.ask(id, Intent::Abandon { holder: HOLDER.into(), token: None }).await;
        exits.wait_for(|count| *count == attempt).await.unwrap();
        let task = house.until(id, |task| task.status == status).await;
        assert_eq!(task.attempt, 2);
    }
    assert_eq!(house.error_code(id).await, "worker_lost");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_held_is_tried_again_or_has_failed() {
    let journal = MemoryJournal::new();
    let before = Shutdown::default();
    let tracker = tracker(&journal, Clock::runtime(), &before, Metrics::new()).await;
    let mut ids = Vec::new();
    for max_attempts in [2, 1] {
        let id = Uuid::now_v7();
        let kind = Some("simulate".into());
        let new = NewTask { kind, max_attempts: Some(max_attempts), ..NewTask::default() };
        tracker.create(id, new, None).await.unwrap();
        let expires_at = tracker.clock().now() + Duration::from_secs(1_000_000);
        let lease = Lease { holder: HOLDER.into(), token: Uuid::new_v4(), expires_at };
        tracker.submit(id, Intent::Claim(lease)).await.unwrap();
        ids.push(id);
    }
    before.tracker.end(Duration::from_secs(1)).await;

    let house = Plan { journal: journal.reopened(), ..Plan::default() }.build().await;
    let retried = house.end(ids[0]).await;
    assert_eq!((retried.status, retried.attempt), (Status::Completed, 2));
    assert_eq!(house.error_code(ids[1]).await, "worker_lost");
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_service_tasks_are_given_back() {
    let jobs = vec![Arc::new(Simulate) as Arc<dyn Job>, scripted("deaf", |_| pending())];
    let house = Plan { jobs, ..Plan::default() }.build().await;
    let mut ids = Vec::new();
    for (kind, max_attempts) in [("simulate", 2), ("simulate", 1), ("deaf", 2)] {
        let kind = Some(kind.into());
        ids.push(house.create(NewTask { kind, max_attempts: Some(max_attempts), ..NewTask::default() }).await);
        house.until(ids[ids.len() - 1], |task| task.status == Status::Processing).await;
    }
    assert!(house.shutdown.jobs.end(Duration::from_secs(5)).await, "jobs end within the stage's bound");
    for id in [ids[0], ids[2]] {
        let task = house.task(id).await;
        assert_eq!((task.status, task.attempt), (Status::Pending, 2));
    }
    assert_eq!(house.error_code(ids[1]).await, "worker_lost");
}

#[tokio::test(start_paused = true)]
async fn an_end_is_not_lost_while_the_store_is_away() {
    let journal = MemoryJournal::new();
    let store = journal.clone();
    let job = move |_| {
        store.fail_next_append(JournalError::Unavailable("away".into()));
        async { Ok(json!("done")) }
    };
    let house = Plan { journal, jobs: vec![scripted("quick", job)], ..Plan::default() }.build().await;
    let id = house.submit("quick", json!({})).await;
    assert_eq!(house.end(id).await.result, Payload::of(&json!("done")));
}

#[tokio::test(start_paused = true)]
async fn reports_arrive_in_their_order_and_with_what_was_told_before() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let job = move |context: JobContext| {
        let seen = Arc::clone(&seen);
        async move {
            context.tick(Report { current: Some(7), ..Report::default() });
            context.report(Report { step: Some(1), ..Report::default() }).await?;
            let task = context.tracker.live(context.task_id()).unwrap().task.clone();
            seen.lock().unwrap().push((task.current, task.step));
            // A report that does not fit is the job's mistake, not the end of its right.
            context.report(Report { step: Some(9), ..Report::default() }).await?;
            Ok(Value::Null)
        }
    };
    let house = Plan { jobs: vec![scripted("steps", job)], ..Plan::default() }.build().await;
    let step = |name: &str| crate::task::StepSpec { name: name.into(), weight: 1.0 };
    let steps = vec![step("a"), step("b")];
    let id = house.create(NewTask { kind: Some("steps".into()), steps, ..NewTask::default() }).await;
    assert_eq!(house.end(id).await.status, Status::Completed);
    assert_eq!(*told.lock().unwrap(), [(Some(7), Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_no_event_could_hold_is_an_error() {
    let job = |_| async { Ok(json!("x".repeat(100_000))) };
    let house = Plan { jobs: vec![scripted("large", job)], ..Plan::default() }.build().await;
    let id = house.submit("large", json!({})).await;
    assert_eq!(house.error_code(id).await, "result_too_large");
}
