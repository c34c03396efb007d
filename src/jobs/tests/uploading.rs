//! Uploads, fed by hand.

use std::{fs::File, io, io::Write, sync::atomic::AtomicU64, sync::atomic::Ordering};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::*;
use crate::{
    task::{Payload, Refusal, TaskError},
    testing::AppendGate,
    tracker::TrackerError,
};

/// Hands a form over piece by piece.
pub(super) struct Sender {
    pieces: mpsc::Sender<Result<Piece, TaskError>>,
}

impl Sender {
    /// With the form that it fills.
    pub(super) fn new() -> (Self, Form) {
        let (pieces, receiver) = mpsc::channel(1);
        let pieces_in = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        (Self { pieces }, pieces_in.boxed())
    }

    pub(super) async fn send(&self, piece: Piece) {
        self.pieces.send(Ok(piece)).await.unwrap();
    }
}

fn file(name: &str, size: Option<u64>) -> Piece {
    Piece::File { name: Some(name.into()), size }
}

/// A whole form.
fn form(pieces: Vec<Result<Piece, TaskError>>) -> Form {
    stream::iter(pieces).boxed()
}

fn form_of(content: &[u8]) -> Form {
    let chunks = content.chunks(10_000).map(|chunk| Ok(Piece::Bytes(Bytes::copy_from_slice(chunk))));
    form(std::iter::once(Ok(file("a.bin", Some(content.len() as u64)))).chain(chunks).collect())
}

fn new_upload() -> NewTask {
    uploading()
}

fn interrupted() -> TaskError {
    TaskError::new("upload_interrupted", "The upload was interrupted", 400, "The connection ended.")
}

#[tokio::test(start_paused = true)]
async fn a_file_is_received_digested_and_saved() {
    let house = Plan::default().build().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, form_of(&content)).await.unwrap();
    let task = house.end(id).await;
    assert_eq!(task.status, Status::Completed, "{task:?}");
    let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({
        "fileName": "a.bin", "size": 3_000_000, "contentType": "application/octet-stream",
        "blake3": blake3::hash(&content).to_hex().to_string(), "sha256": sha256, "file": format!("/api/tasks/{id}/file"),
    });
    assert_eq!(task.result, Payload::of(&expected));
    assert_eq!((task.current, task.total, task.unit.as_deref()), (Some(3_000_000), Some(3_000_000), Some("bytes")));
    assert_eq!(
        task.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
        ["receive", "validate", "transform", "save"]
    );
    assert_eq!((house.listed("incoming"), house.listed("files")), (vec![], vec![id.to_string()]));
    assert_eq!(fs::read(house.directory.path().join("files").join(id.to_string())).unwrap(), content);
    assert_eq!(house.jobs.open_file(id).await.unwrap().unwrap().size, 3_000_000);
    house.ask(id, Intent::Delete).await;
    house.jobs.forget_file(id).await;
    house.assert_no_files();
    assert!(house.jobs.open_file(id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_counts_is_on_the_disk_and_the_bar_follows() {
    for new in [new_upload(), NewTask { steps: Vec::new(), ..new_upload() }] {
        let house = Plan::default().build().await;
        let id = house.create(new).await;
        let (sender, form) = Sender::new();
        let (jobs, sending) = (house.jobs.clone(), async {
            sender.send(file("a.bin", Some(1000))).await;
            let named = house.until(id, |task| task.message.as_deref() == Some("Receiving a.bin")).await;
            assert_eq!((named.total, named.progress), (Some(1000), Some(0.0)));
            for part in 1..=2_u64 {
                sender.send(Piece::Bytes(vec![0; 500].into())).await;
                let task = house.until(id, |task| task.current == Some(500 * part)).await;
                assert_eq!(task.progress, Some(30.0 * part as f64), "receiving is six tenths of the work");
                let on_disk = fs::metadata(house.directory.path().join("incoming").join(&house.listed("incoming")[0]));
                assert_eq!(on_disk.unwrap().len(), 500 * part);
            }
            drop(sender.pieces);
        });
        let (uploaded, ()) = tokio::join!(jobs.upload(id, None, form), sending);
        uploaded.unwrap();
        assert_eq!(house.end(id).await.status, Status::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_hands_over_a_form_may_go() {
    let house = Plan::default().build().await;
    let id = Uuid::now_v7();
    let (sender, form) = Sender::new();
    // The task is made with the upload: no hang-up leaves it behind with nobody to work on it.
    assert!(house.jobs.upload(id, Some(new_upload()), form).now_or_never().is_none());
    sender.send(file("a", None)).await;
    sender.send(Piece::Bytes("some".into())).await;
    drop(sender);
    assert_eq!(house.end(id).await.status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_a_file() {
    let house = Plan::default().build().await;
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, form_of(b"")).await.unwrap();
    let result: Value = house.end(id).await.result.unwrap().parse().unwrap();
    assert_eq!((&result["size"], &result["contentType"]), (&json!(0), &json!("application/x-empty")));
}

/// Uploads and expects that it fails so, at its caller as in its task, with nothing left.
async fn fails(plan: Plan, form: Form, code: &str) -> Task {
    let house = plan.build().await;
    let id = house.create(new_upload()).await;
    match house.jobs.upload(id, None, form).await {
        Err(UploadError::Failed(error)) => {
            assert_eq!(error.code, code);
            assert_eq!(house.task(id).await.status, Status::Error, "the task says so before its caller is answered");
        }
        Ok(()) => assert_eq!(house.error_code(id).await, code),
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(house.error_code(id).await, code);
    // What has been received is removed behind the task's end.
    house.shutdown.jobs.end(Duration::from_secs(5)).await;
    house.assert_no_files();
    house.task(id).await
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_upload_leaves_nothing() {
    let chunk = Ok(Piece::Bytes(vec![1; 5000].into()));
    let broken = vec![Ok(file("a", Some(10_000))), chunk, Err(interrupted())];
    let task = fails(Plan::default(), form(broken), "upload_interrupted").await;
    assert!(task.progress < Some(60.0));
}

#[tokio::test(start_paused = true)]
async fn a_form_without_a_file_fails() {
    fails(Plan::default(), form(vec![]), "file_missing").await;
}

#[tokio::test(start_paused = true)]
async fn a_file_may_be_as_large_as_allowed_and_no_larger() {
    let uploads = || UploadConfig { max_upload_bytes: 20_000, ..UploadConfig::default() };
    let plan = || Plan { uploads: uploads(), ..Plan::default() };
    let unannounced = |size: usize| {
        let chunks =
            vec![1; size].chunks(10_000).map(|chunk| Ok(Piece::Bytes(chunk.to_vec().into()))).collect::<Vec<_>>();
        form(std::iter::once(Ok(file("a", None))).chain(chunks).collect())
    };
    fails(plan(), unannounced(20_001), "upload_too_large").await;
    let announced = form(vec![Ok(file("a", Some(20_001)))]);
    assert_eq!(fails(plan(), announced, "upload_too_large").await.error.unwrap().status, 413);
    let house = plan().build().await;
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, unannounced(20_000)).await.unwrap();
    assert_eq!(house.end(id).await.status, Status::Completed);
}

/// A disk with little room.
struct SmallDisk {
    room: AtomicU64,
    error: io::ErrorKind,
}

impl Disk for SmallDisk {
    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        match self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(len)) {
            Ok(_) => file.write_all(bytes),
            Err(_) => Err(self.error.into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_or_broken_disk_fails_the_upload_and_leaves_nothing() {
    for (error, code, status) in [
        (io::ErrorKind::StorageFull, "disk_full", 507),
        (io::ErrorKind::QuotaExceeded, "disk_full", 507),
        (io::ErrorKind::Other, "io_error", 500),
    ] {
        let disk = Arc::new(SmallDisk { room: AtomicU64::new(600_000), error });
        let task = fails(Plan { disk, ..Plan::default() }, form_of(&[1; 1_000_000]), code).await;
        assert_eq!(task.error.unwrap().status, status);
    }
}

/// A disk on which there is no room for a word of the store either, from the first failure on.
struct SharedDisk {
    journal: MemoryJournal,
    gate: Mutex<Option<AppendGate>>,
}

impl Disk for SharedDisk {
    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let (some, _) = bytes.split_at(bytes.len() / 2);
        file.write_all(some)?;
        *self.gate.lock().unwrap() = Some(self.journal.hold_appends());
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_given_room_before_the_store_is_asked_to_write_why() {
    let journal = MemoryJournal::new();
    let disk = Arc::new(SharedDisk { journal: journal.clone(), gate: Mutex::new(None) });
    let house = Plan { journal, disk: Arc::clone(&disk) as Arc<dyn Disk>, ..Plan::default() }.build().await;
    let id = house.create(new_upload()).await;
    let giving_room = async {
        while disk.gate.lock().unwrap().is_none() || !house.listed("incoming").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!house.task(id).await.status.is_final());
        disk.gate.lock().unwrap().take();
    };
    let both = async { tokio::join!(house.jobs.upload(id, None, form_of(&[1; 1000])), giving_room) };
    let (uploaded, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(matches!(uploaded, Err(UploadError::Failed(error)) if error.code == "disk_full"));
}

#[tokio::test(start_paused = true)]
async fn only_accepted_types_pass_whatever_they_are_called() {
    let uploads =
        || UploadConfig { types: vec!["image/*".into(), "application/pdf".into()], ..UploadConfig::default() };
    let renamed = form(vec![Ok(file("a.png", None)), Ok(Piece::Bytes("just words".into()))]);
    let plan = || Plan { uploads: uploads(), ..Plan::default() };
    assert_eq!(fails(plan(), renamed, "type_not_allowed").await.error.unwrap().status, 415);
    let house = plan().build().await;
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, form_of(b"\x89PNG\r\n\x1a\n")).await.unwrap();
    assert_eq!(house.end(id).await.result.unwrap().parse::<Value>().unwrap()["contentType"], "image/png");
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_receiving_leaves_nothing() {
    let broken = stream::iter([Ok(file("a", None)), Ok(Piece::Bytes("some".into()))])
        .chain(stream::once(async { panic!("a parser's fault") }));
    fails(Plan::default(), broken.boxed(), "job_panicked").await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_reaches_an_upload() {
    let house = Plan::default().build().await;
    let id = house.create(new_upload()).await;
    let (sender, form) = Sender::new();
    let sending = async {
        sender.send(file("a", None)).await;
        sender.send(Piece::Bytes("some".into())).await;
        house.until(id, |task| task.current == Some(4)).await;
        house.ask(id, Intent::Cancel).await;
    };
    let (uploaded, ()) = tokio::join!(house.jobs.upload(id, None, form), sending);
    assert_eq!(uploaded, Err(UploadError::Cancelled));
    assert_eq!(house.end(id).await.status, Status::Cancelled);
    house.assert_no_files();
}

#[tokio::test(start_paused = true)]
async fn receiving_takes_no_place_and_digesting_waits_for_one() {
    let house = Plan { concurrency: 1, ..Plan::default() }.build().await;
    let place = house.jobs.inner.upload_kind.places.acquire().await;
    let id = house.create(new_upload()).await;
    house.jobs.upload(id, None, form_of(b"some")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(house.task(id).await.step, Some(0), "it waits for the only place");
    drop(place);
    assert_eq!(house.end(id).await.status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn only_a_pending_task_can_be_taken() {
    let house = Plan::default().build().await;
    let refused = |error: Refusal| Err(UploadError::Tracker(TrackerError::Refused(error)));
    let unknown = house.jobs.upload(Uuid::now_v7(), None, form(vec![])).await;
    assert_eq!(unknown, refused(Refusal::NotFound));
    let id = house.create(NewTask { start: Some(true), ..new_upload() }).await;
    assert_eq!(house.jobs.upload(id, None, form(vec![])).await, refused(Refusal::NotPending));
    house.assert_no_files();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_an_upload_that_the_end_of_the_service_cuts() {
    let house = Plan::default().build().await;
    let id = house.create(new_upload()).await;
    let (sender, form) = Sender::new();
    let sending = async {
        sender.send(file("a", None)).await;
        sender.send(Piece::Bytes("some".into())).await;
        house.until(id, |task| task.current == Some(4)).await;
        assert!(house.shutdown.jobs.end(Duration::from_secs(5)).await);
    };
    let (uploaded, ()) = tokio::join!(house.jobs.upload(id, None, form), sending);
    assert_eq!(uploaded, Err(UploadError::GivenUp));
    assert_eq!(house.error_code(id).await, "worker_lost");
    house.assert_no_files();
}
