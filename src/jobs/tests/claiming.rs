//! How tasks are taken: in which order of things, and for how many there is a place.

use std::iter;

use futures_util::{StreamExt, future::join_all, stream};

use super::*;
use crate::{
    journal::JournalError,
    testing::LostAnswer,
    tracker::{TaskFilter, TrackerError},
};

fn form() -> Form {
    let file = Piece::File { name: None, size: None };
    stream::iter([file, Piece::Bytes("some".into())].map(Ok)).boxed()
}

fn upload() -> NewTask {
    NewTask { kind: Some(UPLOAD_KIND.into()), ..NewTask::default() }
}

/// A job that counts how often it is run.
fn counting(runs: watch::Sender<usize>) -> Arc<dyn Job> {
    scripted("count", move |_| {
        runs.send_modify(|runs| *runs += 1);
        async { Ok(Value::Null) }
    })
}

/// A house whose runner is about to take the one task that waits.
async fn with_one_waiting(runs: watch::Sender<usize>) -> (House, Uuid) {
    let house = Plan { jobs: vec![], ..Plan::default() }.build().await;
    let id = house.submit("count", json!({})).await;
    let plan = house.end_run(End::InOrder).await;
    (Plan { jobs: vec![counting(runs)], ..plan }.build().await, id)
}

#[tokio::test(start_paused = true)]
async fn an_upload_makes_its_task_and_takes_it_in_one() {
    let house = Plan::default().build().await;
    let id = Uuid::now_v7();
    house.journal.fail_next_append(JournalError::Full);
    let refused = house.jobs.upload(id, Some(upload()), form()).await;
    assert_eq!(refused, Err(UploadError::Tracker(TrackerError::Full)));
    assert!(matches!(house.tracker.find(id).await, Ok(Found::Unknown)));
    assert!(house.tracker.list(TaskFilter::default(), None, 10).await.unwrap().tasks.is_empty());

    house.jobs.upload(id, Some(upload()), form()).await.unwrap();
    assert_eq!(house.end(id).await.status, Status::Completed);
    let log = house.journal.read(&ChannelName::task(id), Seq::ZERO).await.unwrap();
    let first: Task = serde_json::from_slice(&log.events[0].draft.data).unwrap();
    assert_eq!(first.status, Status::Processing, "it never waits for anybody");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_end_overtakes_costs_no_attempt() {
    let (runs, run) = watch::channel(0);
    let (house, id) = with_one_waiting(runs).await;
    let gate = house.journal.hold_appends();
    gate.reached().await;
    let releasing = async {
        house.shutdown.jobs.stop().cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate.release();
    };
    let (in_time, ()) = tokio::join!(house.shutdown.jobs.end(Duration::from_secs(5)), releasing);
    assert!(in_time);
    let entry = house.entry(id).await;
    assert_eq!((entry.task.status, entry.task.attempt, &entry.memo.lease), (Status::Pending, 1, &None));
    assert_eq!(*run.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_the_end_overtakes_leaves_its_task_as_it_was() {
    let house = Plan::default().build().await;
    let (made, new) = (house.create(upload()).await, Uuid::now_v7());
    let gate = house.journal.hold_appends();
    let releasing = async {
        gate.reached().await;
        house.shutdown.jobs.stop().cancel();
        gate.release();
    };
    let (of_made, of_new, ()) =
        tokio::join!(house.jobs.upload(made, None, form()), house.jobs.upload(new, Some(upload()), form()), releasing);
    assert_eq!(of_made, Err(UploadError::Tracker(TrackerError::Stopping)));
    assert_eq!((house.task(made).await.status, house.task(made).await.attempt), (Status::Pending, 1));
    assert_eq!(of_new, Err(UploadError::GivenUp));
    assert_eq!(house.error_code(new).await, "worker_lost");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_is_not_left_to_nobody() {
    for lost in [LostAnswer::Committed, LostAnswer::NotCommitted] {
        let (runs, run) = watch::channel(0);
        let (house, id) = with_one_waiting(runs).await;
        house.journal.lose_next_answer(lost);
        let gate = house.journal.hold_appends();
        gate.reached().await;
        gate.release();
        // Longer than the store is asked again what became of it.
        for nth in 0..1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let away = JournalError::Unavailable("away".into());
            house.journal.fail_next_append(if nth < 500 { away } else { JournalError::Full });
        }
        let task = house.end(id).await;
        assert_eq!((task.status, task.attempt, *run.borrow()), (Status::Completed, 1, 1), "{lost:?}");
    }
}

/// Three nodes that know each other, on one store whose answers take a while. Their job is done in this time, and says at
/// which of them.
async fn three_nodes(concurrency: usize, takes: Duration, begun: &watch::Sender<Vec<usize>>) -> Vec<House> {
    let store = MemoryJournal::new();
    let mut nodes = Vec::new();
    for (nth, name) in ["one", "two", "three"].into_iter().enumerate() {
        let journal = store.on_node(name);
        journal.before_append(|_, _| Ok(()));
        let begun = begun.clone();
        let job = scripted("wait", move |context: JobContext| {
            begun.send_modify(|begun| begun.push(nth));
            async move {
                context.sleep(takes).await?;
                Ok(Value::Null)
            }
        });
        nodes.push(Plan { journal, concurrency, jobs: vec![job], ..Plan::default() }.build().await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    nodes
}

#[tokio::test(start_paused = true)]
async fn nodes_share_what_waits_and_seldom_race_for_it() {
    let begun = watch::Sender::new(Vec::new());
    let nodes = three_nodes(100, Duration::from_secs(1), &begun).await;
    let before: u64 = nodes.iter().map(|node| node.metrics.conflicts.get()).sum();
    let mut ids = Vec::new();
    for number in 0..200 {
        ids.push(nodes[number % 3].submit("wait", json!({})).await);
        // One by one, and all at once.
        if number < 100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for id in ids {
        let task = nodes[0].end(id).await;
        assert_eq!((task.status, task.attempt), (Status::Completed, 1));
    }
    let conflicts = nodes.iter().map(|node| node.metrics.conflicts.get()).sum::<u64>() - before;
    let done = [0, 1, 2].map(|node| begun.borrow().iter().filter(|begun| **begun == node).count());
    assert!(conflicts <= 10, "{conflicts} conflicts");
    assert!(done.iter().sum::<usize>() == 200 && done.iter().all(|done| *done >= 40), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_node_without_a_place_is_soon_done_by_another_one() {
    let begun = watch::Sender::new(Vec::new());
    let nodes = three_nodes(1, Duration::from_secs(3600), &begun).await;
    let started = Instant::now();
    for _ in 0..3 {
        let of_two = iter::repeat_with(Uuid::now_v7).find(|id| nodes[1].tracker.turns()(*id).is_zero()).unwrap();
        let new = NewTask { kind: Some("wait".into()), ..NewTask::default() };
        nodes[0].tracker.create(of_two, new, None).await.unwrap();
    }
    let mut begun = begun.subscribe();
    for (count, within_ms) in [(1, 100), (2, 700), (3, 1200)] {
        begun.wait_for(|begun| begun.len() >= count).await.unwrap();
        assert!(started.elapsed() <= Duration::from_millis(within_ms), "{:?}", started.elapsed());
    }
    assert_eq!(*begun.borrow(), [1, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_sleepers_keep_nobody_waiting() {
    let house = Plan { concurrency: 1, jobs: vec![Arc::new(Simulate)], ..Plan::default() }.build().await;
    for _ in 0..100 {
        house.submit("simulate", json!({"steps": 1, "intervalMs": 3_600_000})).await;
    }
    let started = Instant::now();
    let ids = join_all((0..1000).map(|_| house.submit("simulate", json!({"steps": 10, "intervalMs": 1000})))).await;
    let id = Uuid::now_v7();
    house.jobs.upload(id, Some(upload()), form()).await.unwrap();
    assert_eq!(house.end(id).await.status, Status::Completed);
    assert!(started.elapsed() < Duration::from_secs(1));
    for id in ids {
        assert_eq!(house.end(id).await.status, Status::Completed);
    }
    assert!(started.elapsed() < Duration::from_secs(11), "{:?}", started.elapsed());
}
