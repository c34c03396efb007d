//! What is not a job's fault does not cost it its task.

use futures_util::future::BoxFuture;

use super::{uploading::Sender, *};
use crate::journal::JournalError;

const AWAY: Duration = Duration::from_secs(60);

type Trouble = fn(&House) -> BoxFuture<'_, ()>;

fn refusing(house: &House, error: fn() -> JournalError) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let started = Instant::now();
        while started.elapsed() < AWAY {
            house.journal.fail_next_append(error());
            // Shorter than any pause between two tries.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

const TROUBLES: [(&str, Trouble); 7] = [
    ("a store that is away", |house| refusing(house, || JournalError::Unavailable("away".into()))),
    ("a full disk", |house| refusing(house, || JournalError::Full)),
    ("a store that hangs", |house| {
        Box::pin(async {
            let gate = house.journal.hold_appends();
            tokio::time::sleep(AWAY).await;
            drop(gate);
        })
    }),
    ("a process that is stopped", |_| Box::pin(tokio::time::advance(Duration::from_secs(41)))),
    ("a clock set forward", |house| {
        Box::pin(async {
            house.tracker.clock().step(3_600_000);
        })
    }),
    ("a clock set forward by days", |house| {
        Box::pin(async {
            house.tracker.clock().step(8 * 86_400_000);
        })
    }),
    ("a clock set back", |house| {
        Box::pin(async {
            house.tracker.clock().step(-3_600_000);
        })
    }),
];

#[tokio::test(start_paused = true)]
async fn a_job_survives_what_is_not_its_fault() {
    for (name, trouble) in TROUBLES {
        let house = Plan::default().build().await;
        let id = house.submit("simulate", json!({"steps": 1, "intervalMs": 600_000})).await;
        house.until(id, |task| task.status == Status::Processing).await;
        // Right before a renewal is due.
        tokio::time::sleep(LEASE / 3 - Duration::from_millis(10)).await;
        trouble(&house).await;
        let task = house.end(id).await;
        assert_eq!((task.status, task.attempt), (Status::Completed, 1), "{name}: {task:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_survives_what_is_not_its_fault() {
    for (name, trouble) in TROUBLES {
        let house = Plan::default().build().await;
        let id = house.create(NewTask { kind: Some(UPLOAD_KIND.into()), ..NewTask::default() }).await;
        let (sender, form) = Sender::new();
        let sending = async {
            sender.send(Piece::File { name: None, size: None }).await;
            sender.send(Piece::Bytes("some".into())).await;
            house.until(id, |task| task.current == Some(4)).await;
            trouble(&house).await;
            tokio::time::sleep(LEASE * 2).await;
            drop(sender);
        };
        let (uploaded, ()) = tokio::join!(house.jobs.upload(id, None, form), sending);
        assert_eq!(uploaded, Ok(()), "{name}");
        assert_eq!(house.end(id).await.status, Status::Completed, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_to_the_next_run_is_not_lost_while_this_one_ends() {
    let wait = scripted("wait", |context: JobContext| async move {
        context.checkpoint(crate::task::Report::default(), &1).await?;
        let _ = context.unless_stopped(std::future::pending::<()>()).await;
        Err(JobError::Stopped)
    });
    let house = Plan { jobs: vec![wait], ..Plan::default() }.build().await;
    let id = house.submit("wait", json!({})).await;
    house.until_entry(id, |entry| entry.memo.checkpoint.is_some()).await;
    house.shutdown.jobs.end(Duration::from_secs(5)).await;
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(house.task(id).await.status, Status::Processing);
}
