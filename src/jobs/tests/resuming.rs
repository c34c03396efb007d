//! What a later run of the service goes on with.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{uploading::Sender, *};
use crate::{
    event::{ChannelKind, Class, Draft},
    journal::JournalError,
    task::{Report, TaskError},
    testing::AppendGate,
};

const CONTENT: &[u8] = b"\x00\x01\x02 some bytes";

/// A whole form with one file.
fn form() -> Form {
    let file = Piece::File { name: Some("a.bin".into()), size: None };
    stream::iter([file, Piece::Bytes(Bytes::from_static(CONTENT))].map(Ok)).boxed()
}

fn new_upload() -> NewTask {
    NewTask { max_attempts: Some(1), ..uploading() }
}

/// Without a place for what was received.
fn without_places() -> Plan {
    Plan { concurrency: 0, ..Plan::default() }
}

/// An upload that was acknowledged and waits for a place.
async fn received(house: &House) -> Uuid {
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, form()).await.unwrap();
    assert_eq!(house.task(id).await.status, Status::Processing);
    id
}

fn saved(directory: &Path, id: Uuid) -> Vec<u8> {
    fs::read(directory.join("files").join(id.to_string())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_acknowledged_survives_the_service() {
    for end in [End::InOrder, End::Killed] {
        let house = without_places().build().await;
        let id = received(&house).await;
        let plan = house.end_run(end).await;
        // Longer than the lease.
        tokio::time::advance(LEASE * 100).await;
        let house = plan.build().await;
        let task = house.end(id).await;
        assert_eq!((task.status, task.attempt), (Status::Completed, 1), "{end:?} {task:?}");
        assert_eq!((task.current, task.total), (Some(CONTENT.len() as u64), Some(CONTENT.len() as u64)));
        let result: Value = task.result.unwrap().parse().unwrap();
        assert_eq!((&result["fileName"], &result["size"]), (&json!("a.bin"), &json!(CONTENT.len())));
        assert_eq!(saved(house.directory.path(), id), CONTENT);
        assert!(house.listed("incoming").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_survives_a_store_that_is_away_at_the_start() {
    let house = without_places().build().await;
    let id = received(&house).await;
    let plan = house.end_run(End::Killed).await;
    tokio::time::advance(LEASE * 2).await;
    let house = plan.build().await;
    for _ in 0..6_000 {
        house.journal.fail_next_append(JournalError::Full);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(house.end(id).await.status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_acknowledged_is_gone_on_with_by_another_node() {
    for end in [End::InOrder, End::Killed] {
        let store = MemoryJournal::new();
        let directory = Arc::new(TempDir::new().unwrap());
        let on = |name| Plan {
            journal: store.on_node(name),
            directory: Arc::clone(&directory),
            is_shared: true,
            ..Plan::default()
        };
        let one = Plan { concurrency: 0, ..on("one") }.build().await;
        let two = on("two").build().await;
        // It comes to no end of what it takes over.
        two.journal.before_append(|_, groups| {
            let is_told = |draft: &Draft| draft.channel.kind() == ChannelKind::Task && draft.class != Class::Hidden;
            match groups.iter().flat_map(|group| &group.drafts).any(is_told) {
                true => Err(JournalError::Unavailable("not that".into())),
                false => Ok(()),
            }
        });
        let id = received(&one).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let cut_off = one.journal.clone();
        let ends = async |house: House| match end {
            End::Killed => house.journal.cut(true),
            End::InOrder => drop(house.end_run(end).await),
        };
        let is_held_by = |node, entry: &Entry| entry.memo.lease.as_ref().and_then(Lease::node) == Some(node);
        let ended_at = Instant::now();
        ends(one).await;
        two.until_entry(id, |entry| is_held_by("two", entry)).await;
        assert!(ended_at.elapsed() <= Duration::from_secs(15), "{end:?} {:?}", ended_at.elapsed());
        // Had it only been cut off, it leaves the file where it is.
        cut_off.cut(false);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(two.listed("incoming").len(), 1);
        let three = on("three").build().await;
        ends(two).await;
        let task = three.end(id).await;
        assert_eq!((task.status, task.attempt), (Status::Completed, 1), "{end:?} {task:?}");
        assert_eq!(saved(three.directory.path(), id), CONTENT);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_has_left_is_shared_by_the_others_as_they_have_places() {
    const LEFT: usize = 6;
    let store = MemoryJournal::new();
    let release = watch::Sender::new(false);
    let on = |name, concurrency| {
        let released = release.subscribe();
        let job = scripted("parts", move |context: JobContext| {
            let mut released = released.clone();
            async move {
                context.checkpoint(Report::default(), &1).await?;
                let _all = context.unless_stopped(released.wait_for(|is_released| *is_released)).await?;
                Ok(Value::Null)
            }
        });
        Plan { journal: store.on_node(name), concurrency, jobs: vec![job], ..Plan::default() }
    };
    // The one that sees to what is due first cannot resume it.
    let first = Plan { jobs: vec![], ..on("first", 1) }.build().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let one = on("one", LEFT).build().await;
    let mut ids = Vec::new();
    for _ in 0..LEFT {
        ids.push(one.submit("parts", json!({})).await);
    }
    for id in &ids {
        one.until_entry(*id, |entry| entry.memo.checkpoint.is_some()).await;
    }
    let (_two, three) = (on("two", 2).build().await, on("three", 1).build().await);
    one.journal.cut(true);
    // Several times as long as a lease: what nobody has a place for waits.
    tokio::time::sleep(LEASE * 5).await;
    let mut held = [0; 3];
    for id in &ids {
        let entry = first.entry(*id).await;
        assert_eq!((entry.task.status, entry.task.attempt), (Status::Processing, 1));
        let node = entry.memo.lease.as_ref().and_then(Lease::node).map(str::to_owned);
        held[["one", "two", "three"].iter().position(|name| Some(*name) == node.as_deref()).unwrap()] += 1;
    }
    assert_eq!(held, [3, 2, 1]);
    release.send_replace(true);
    for id in ids {
        let task = three.end(id).await;
        assert_eq!((task.status, task.attempt), (Status::Completed, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_keeps_what_nobody_had_a_place_for() {
    let store = MemoryJournal::new();
    let on = |name, concurrency| {
        let jobs = vec![in_parts(watch::Sender::new(Vec::new()))];
        Plan { journal: store.on_node(name), concurrency, jobs, ..Plan::default() }
    };
    let (one, two) = (on("one", 1).build().await, on("two", 0).build().await);
    let id = one.submit("parts", json!({})).await;
    let token = one.until_entry(id, |entry| entry.memo.checkpoint.is_some()).await.memo.lease.as_ref().unwrap().token;
    one.journal.cut(true);
    tokio::time::sleep(LEASE * 2).await;
    assert!(two.tracker.is_left(id, token));
    one.journal.cut(false);
    tokio::time::sleep(LEASE).await;
    assert!(!two.tracker.is_left(id, token));
    let kind = two.jobs.inner.kinds.iter().find(|kind| kind.job.kind() == "parts").unwrap();
    kind.places.add_permits(1);
    tokio::time::sleep(LEASE).await;
    assert_eq!(two.entry(id).await.memo.lease.as_ref().unwrap().token, token);
    let task = two.end(id).await;
    assert_eq!((task.status, task.attempt), (Status::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn an_upload_survives_several_ends_of_the_service_in_one_attempt() {
    let house = without_places().build().await;
    let id = received(&house).await;
    let mut plan = house.end_run(End::Killed).await;
    for end in [End::InOrder, End::Killed] {
        let house = Plan { concurrency: 0, ..plan }.build().await;
        let before = house.entry(id).await.memo.lease.clone();
        house.until_entry(id, |entry| entry.memo.lease != before).await;
        assert_eq!(house.listed("incoming").len(), 1);
        plan = house.end_run(end).await;
    }
    let task = plan.build().await.end(id).await;
    assert_eq!((task.status, task.attempt), (Status::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_acknowledged_when_its_receipt_is_durable() {
    let house = Plan::default().build().await;
    let id = house.create(new_upload()).await;
    let (sender, form) = Sender::new();
    let mut upload = Box::pin(house.jobs.upload(id, None, form));
    let sending = async {
        sender.send(Piece::File { name: None, size: None }).await;
        sender.send(Piece::Bytes(Bytes::from_static(CONTENT))).await;
        house.until(id, |task| task.current == Some(CONTENT.len() as u64)).await;
        let gate = house.journal.hold_appends();
        drop(sender);
        gate.reached().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate
    };
    let gate = tokio::select! {
        answer = &mut upload => panic!("its receipt is not committed: {answer:?}"),
        gate = sending => gate,
    };
    gate.release();
    upload.await.unwrap();
    assert!(house.entry(id).await.memo.checkpoint.is_some());
}

/// Notes what is synced, and does what its test says then.
struct WatchedDisk<F>(F);

impl<F: Fn(&File) -> io::Result<()> + Send + Sync + 'static> Disk for WatchedDisk<F> {
    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        WholeDisk.write_all(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        (self.0)(file)
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_cannot_be_synced_is_not_acknowledged() {
    for of_directory in [false, true] {
        let disk = WatchedDisk(move |file: &File| {
            let fails = file.metadata()?.is_dir() == of_directory;
            if fails { Err(io::Error::other("no such luck")) } else { Ok(()) }
        });
        let house = Plan { disk: Arc::new(disk), ..Plan::default() }.build().await;
        let id = house.create(new_upload()).await;
        let uploaded = house.jobs.upload(id, None, form()).await;
        assert!(matches!(uploaded, Err(UploadError::Failed(TaskError { code, .. })) if code == "io_error"));
        assert_eq!(house.error_code(id).await, "io_error");
        house.shutdown.jobs.end(Duration::from_secs(5)).await;
        house.assert_no_files();
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_saved_right_before_the_crash_is_not_saved_again() {
    let journal = MemoryJournal::new();
    let gate = Arc::new(Mutex::new(None::<AppendGate>));
    let (store, held, syncs) = (journal.clone(), Arc::clone(&gate), Mutex::new(0));
    let disk = WatchedDisk(move |_: &File| {
        let mut syncs = syncs.lock().unwrap();
        *syncs += 1;
        // The file, the directory of what was received, the directory of what is saved.
        if *syncs == 3 {
            *held.lock().unwrap() = Some(store.hold_appends());
        }
        Ok(())
    });
    let house = Plan { journal, disk: Arc::new(disk), ..Plan::default() }.build().await;
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, form()).await.unwrap();
    let is_saved = async {
        while gate.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_saved).await.unwrap();
    assert_eq!((house.listed("incoming"), house.listed("files")), (vec![], vec![id.to_string()]));
    let plan = house.end_run(End::Killed).await;
    gate.lock().unwrap().take();
    let house = plan.build().await;
    let task = house.end(id).await;
    assert_eq!((task.status, task.attempt), (Status::Completed, 1), "{task:?}");
    assert_eq!(saved(house.directory.path(), id), CONTENT);
}

#[tokio::test(start_paused = true)]
async fn a_received_file_that_is_not_there_any_more_or_is_cut_fails_the_upload() {
    for cut in [false, true] {
        let house = without_places().build().await;
        let id = received(&house).await;
        let incoming = house.directory.path().join("incoming").join(&house.listed("incoming")[0]);
        let plan = house.end_run(End::Killed).await;
        if cut {
            fs::write(incoming, "so").unwrap();
        } else {
            fs::remove_file(incoming).unwrap();
        }
        let house = plan.build().await;
        assert_eq!(house.error_code(id).await, "io_error");
        house.shutdown.jobs.end(Duration::from_secs(5)).await;
        house.assert_no_files();
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_after_a_restart_leaves_nothing() {
    let house = without_places().build().await;
    let id = received(&house).await;
    let plan = house.end_run(End::InOrder).await;
    let uploads = UploadConfig { types: vec!["image/*".into()], ..UploadConfig::default() };
    let house = Plan { uploads, ..plan }.build().await;
    assert_eq!(house.error_code(id).await, "type_not_allowed");
    house.shutdown.jobs.end(Duration::from_secs(5)).await;
    house.assert_no_files();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_to_be_cancelled_is_not_gone_on_with() {
    let house = without_places().build().await;
    let id = received(&house).await;
    // The end comes before the job has heard of it.
    let cancel = house.tracker.submit(id, Intent::Cancel);
    let gate = house.journal.hold_appends();
    tokio::select! {
        _ = cancel => panic!("it is held"),
        () = gate.reached() => {}
    }
    house.shutdown.jobs.end(Duration::ZERO).await;
    gate.release();
    house.until(id, |task| task.status == Status::Cancelling).await;
    let house = house.end_run(End::InOrder).await.build().await;
    assert_eq!(house.end(id).await.status, Status::Cancelled);
    house.assert_no_files();
}

/// A job of three parts that makes a checkpoint after each, and ends its first run in the second.
fn in_parts(begun: watch::Sender<Vec<u64>>) -> Arc<dyn Job> {
    scripted("parts", move |context: JobContext| {
        let begun = begun.clone();
        async move {
            for part in context.last_checkpoint::<u64>()?.unwrap_or(0)..3 {
                begun.send_modify(|begun| begun.push(part));
                if part == 1 && begun.borrow().len() == 2 {
                    context.sleep(Duration::from_secs(3600)).await?;
                }
                // A report that does not fit its task is passed over, the checkpoint is not.
                let report = Report { step: Some(9), ..Report::default() };
                context.checkpoint(report, &(part + 1)).await?;
            }
            Ok(Value::Null)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn any_job_goes_on_from_its_last_checkpoint() {
    for end in [End::InOrder, End::Killed] {
        let (begun, mut parts) = watch::channel(Vec::new());
        let house = Plan { jobs: vec![in_parts(begun.clone())], ..Plan::default() }.build().await;
        let id = house.submit("parts", json!({})).await;
        parts.wait_for(|parts| parts.len() == 2).await.unwrap();
        let plan = house.end_run(end).await;
        let house = Plan { jobs: vec![in_parts(begun)], ..plan }.build().await;
        let task = house.end(id).await;
        assert_eq!((task.status, task.attempt), (Status::Completed, 1));
        assert_eq!(*parts.borrow(), [0, 1, 1, 2], "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_job_can_go_on_with_is_given_back() {
    let (begun, mut parts) = watch::channel(Vec::new());
    let house = Plan { jobs: vec![in_parts(begun)], ..Plan::default() }.build().await;
    let id = house.submit("parts", json!({})).await;
    parts.wait_for(|parts| parts.len() == 2).await.unwrap();
    let house = Plan { jobs: vec![], ..house.end_run(End::InOrder).await }.build().await;
    assert_eq!(house.error_code(id).await, "worker_lost");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_cannot_be_kept_or_read_is_an_error() {
    let large = scripted("large", |context: JobContext| async move {
        context.checkpoint(Report::default(), &"x".repeat(5000)).await?;
        Ok(Value::Null)
    });
    let (begun, mut parts) = watch::channel(Vec::new());
    let house = Plan { jobs: vec![large, in_parts(begun)], ..Plan::default() }.build().await;
    let id = house.submit("large", json!({})).await;
    assert_eq!(house.error_code(id).await, "job_not_resumable");

    let id = house.submit("parts", json!({})).await;
    parts.wait_for(|parts| parts.len() == 2).await.unwrap();
    let plan = house.end_run(End::Killed).await;
    let other = scripted("parts", |context: JobContext| async move {
        context.last_checkpoint::<String>()?;
        Ok(Value::Null)
    });
    let house = Plan { jobs: vec![other], ..plan }.build().await;
    assert_eq!(house.error_code(id).await, "job_not_resumable");
}
