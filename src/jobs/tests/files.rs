//! What is left on the disk, who removes it, and to which store it belongs.

use std::{fs::File, path::PathBuf, time::SystemTime};

use super::*;

/// A directory with one file in each of its directories, written so long ago.
fn with_files(plan: &Plan, name: &str, age: Duration) -> PathBuf {
    let root = plan.directory.path().to_path_buf();
    for directory in ["incoming", "files"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let path = root.join("files").join(name);
    fs::write(&path, "whole").unwrap();
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    root
}

/// The names in a directory, in order.
fn names(path: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn files_of_tasks_that_do_not_need_them_are_removed() {
    let plan = Plan::default();
    let unknown = Uuid::now_v7().to_string();
    let root = with_files(&plan, &unknown, RETENTION + Duration::from_secs(60));
    fs::write(root.join("files").join("README"), "not ours").unwrap();
    let house = plan.build().await;
    while house.listed("files").contains(&unknown) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(house.listed("files"), ["README"]);

    let [kept, failed, working, deleted] = [(); 4].map(|()| Uuid::now_v7());
    for (id, status) in [(kept, "completed"), (failed, "error"), (working, "processing"), (deleted, "completed")] {
        house.tracker.create(id, NewTask::default(), None).await.unwrap();
        let report = serde_json::from_value(json!({ "status": status })).unwrap();
        house.ask(id, Intent::Report { report, token: None }).await;
        fs::write(root.join("files").join(id.to_string()), "whole").unwrap();
    }
    house.ask(deleted, Intent::Delete).await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    while [failed, deleted].iter().any(|id| house.listed("files").contains(&id.to_string())) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut left = house.listed("files");
    left.sort();
    let mut expected = ["README".to_owned(), kept.to_string(), working.to_string()];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_the_journal_does_not_know_yet_or_any_more_is_left_for_the_retention() {
    let plan = Plan::default();
    let unknown = Uuid::now_v7().to_string();
    with_files(&plan, &unknown, RETENTION / 2);
    let house = plan.build().await;
    tokio::time::sleep(RETENTION / 2 - Duration::from_secs(60)).await;
    assert_eq!(house.listed("files"), [unknown]);
    tokio::time::sleep(Duration::from_secs(60 + 601)).await;
    while !house.listed("files").is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_half_received_is_removed_at_the_start_and_what_is_not_ours_is_left() {
    let plan = Plan::default();
    let root = with_files(&plan, "README", Duration::ZERO);
    let half = format!("{}.{}", Uuid::now_v7(), Uuid::new_v4());
    fs::write(root.join("incoming").join(half), "half").unwrap();
    fs::create_dir(root.join("incoming").join("lost+found")).unwrap();
    // Ours by its name, but nothing that we make: it is no reason not to start.
    let directory = format!("{}.{}", Uuid::now_v7(), Uuid::new_v4());
    fs::create_dir(root.join("incoming").join(&directory)).unwrap();
    let _house = plan.build().await;
    assert_eq!(names(root.join("incoming")), [directory.as_str(), "lost+found", "store"]);
}

#[tokio::test(start_paused = true)]
async fn files_of_another_store_are_set_aside_and_come_back_with_it() {
    let directory = Arc::new(TempDir::new().unwrap());
    let stores = [MemoryJournal::new(), MemoryJournal::new()];
    let epochs = [0, 1].map(|nth: usize| stores[nth].epochs().store().to_string());
    let root = directory.path().to_path_buf();
    for round in 0..3 {
        for (nth, store) in stores.iter().enumerate() {
            let plan = Plan { journal: store.reopened(), directory: Arc::clone(&directory), ..Plan::default() };
            let house = plan.build().await;
            assert_eq!(house.listed("files").len(), round, "one of each round before");
            let id = house.create(uploading()).await;
            fs::write(root.join("files").join(id.to_string()), "whole").unwrap();
            fs::write(root.join("incoming").join(format!("round {round}")), "").unwrap();
            house.end_run(End::InOrder).await;
            let other = &epochs[1 - nth];
            let mut expected = ["files".to_owned(), "incoming".to_owned()].to_vec();
            if (round, nth) != (0, 0) {
                expected.extend([format!("files.{other}"), format!("incoming.{other}")]);
            }
            expected.sort();
            assert_eq!(names(root.clone()), expected);
            assert_eq!(fs::read_to_string(root.join("files").join("store")).unwrap().trim(), epochs[nth]);
            assert_eq!(names(root.join("incoming")).len(), round + 2);
        }
    }
}

#[tokio::test]
async fn files_from_before_there_were_names_of_stores_are_taken_over() {
    let plan = Plan::default();
    let id = Uuid::now_v7().to_string();
    let root = with_files(&plan, &id, Duration::ZERO);
    // What a crash right before the first start's end would leave.
    fs::create_dir(root.join(".files")).unwrap();
    let epoch = plan.journal.epochs().store().to_string();
    let house = plan.build().await;
    assert_eq!(house.listed("files"), [id]);
    for directory in ["incoming", "files"] {
        assert_eq!(fs::read_to_string(root.join(directory).join("store")).unwrap().trim(), epoch);
    }
}

#[tokio::test]
async fn files_whose_store_cannot_be_told_or_set_aside_are_not_touched() {
    for (marker, aside, told) in
        [("../x\n", "unused", "does not name a store"), ("other\n", "files.other", "cannot move")]
    {
        let plan = Plan::default();
        let root = with_files(&plan, "a file", Duration::ZERO);
        fs::write(root.join("files").join("store"), marker).unwrap();
        fs::create_dir(root.join(aside)).unwrap();
        fs::write(root.join(aside).join("there already"), "").unwrap();
        let shutdown = Shutdown::default();
        let tracker = tracker(&plan.journal, Clock::runtime(), &shutdown, Metrics::new()).await;
        let config = Config { data_dir: root.clone(), ..Config::default() };
        let place = FilesPlace::Own { data_dir: root.clone(), store: "ours".into() };
        let refused = Jobs::start(tracker, place, &config, crate::http::UPLOAD_WORDS, Metrics::new(), &shutdown.jobs)
            .err()
            .unwrap();
        assert!(refused.to_string().contains(told), "{refused}");
        assert_eq!(names(root.join("files")), ["a file", "store"]);
    }
}

#[tokio::test]
async fn files_are_for_the_service_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = Plan::default().build().await;
    for directory in ["incoming", "files"] {
        let mode = fs::metadata(house.directory.path().join(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[tokio::test(start_paused = true)]
async fn what_other_nodes_receive_stays_until_their_tasks_do_not_need_it() {
    let plan = Plan { is_shared: true, ..Plan::default() };
    let incoming = plan.directory.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    let [working, left, failed, unknown, old] = [(); 5].map(|()| (Uuid::now_v7(), Uuid::new_v4()));
    let age = |hours: u64| Duration::from_secs(hours * 3600 + 60);
    let parts = [(working, age(5)), (left, age(1)), (failed, age(0)), (unknown, age(0)), (old, age(1))];
    let name = |(id, attempt): (Uuid, Uuid)| format!("{id}.{attempt}");
    for (part, age) in parts {
        let path = incoming.join(name(part));
        fs::write(&path, "some").unwrap();
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    {
        let shutdown = Shutdown::default();
        let tracker = tracker(&plan.journal, Clock::runtime(), &shutdown, Metrics::new()).await;
        for (id, attempt) in [working, left, failed] {
            let new = NewTask { kind: Some(UPLOAD_KIND.into()), ..NewTask::default() };
            // Of what is left, the attempt has ended and the task is in another one.
            let token = if id == left.0 { Uuid::new_v4() } else { attempt };
            let expires_at = tracker.clock().now() + age(99);
            tracker.create_claimed(id, new, Lease { holder: "other".into(), token, expires_at }).await.unwrap();
            if id == failed.0 {
                let report = serde_json::from_value(json!({ "status": "error" })).unwrap();
                tracker.submit(id, Intent::Report { report, token: Some(token) }).await.unwrap();
            }
        }
    }
    let house = plan.build().await;
    while house.listed("incoming").len() > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut expected = [name(working), name(unknown)];
    expected.sort();
    assert_eq!(names(incoming), expected);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_acknowledged_waits_for_the_directory() {
    let plan = Plan { is_shared: true, ..Plan::default() };
    let [marker, away] = ["store", "away"].map(|name| plan.directory.path().join(name));
    let house = plan.build().await;
    let (id, other) = (Uuid::now_v7(), Uuid::now_v7());
    let new = || Some(NewTask { kind: Some(UPLOAD_KIND.into()), ..NewTask::default() });
    let form = |gone: bool| {
        let (marker, away) = (marker.clone(), away.clone());
        let pieces = [Piece::File { name: None, size: None }, Piece::Bytes("some".into())].map(Ok);
        let end = futures_util::stream::once(async move {
            if gone {
                fs::rename(marker, away).unwrap();
            }
            Ok(Piece::Bytes(Default::default()))
        });
        futures_util::StreamExt::boxed(futures_util::StreamExt::chain(futures_util::stream::iter(pieces), end))
    };
    house.jobs.upload(id, new(), form(true)).await.unwrap();
    assert_eq!(house.jobs.check_files().await, Err(FilesAway::NotThere));
    let failed = house.jobs.upload(other, new(), form(false)).await.unwrap_err();
    assert!(matches!(&failed, UploadError::Failed(error) if error.code == "files_unavailable"), "{failed:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(house.task(id).await.status, Status::Processing);
    fs::rename(&away, &marker).unwrap();
    assert_eq!(house.end(id).await.status, Status::Completed);
    assert_eq!(house.listed("files"), [id.to_string()]);
}

#[tokio::test]
async fn what_another_node_has_saved_meanwhile_is_saved() {
    let house = Plan::default().build().await;
    let files = &house.jobs.inner.files;
    for (saved, is_saved) in [("whole", true), ("hal", false)] {
        let (id, attempt) = (Uuid::now_v7(), Uuid::new_v4());
        let received = house.directory.path().join("incoming").join(format!("{id}.{attempt}"));
        fs::write(&received, "whole").unwrap();
        let file = files.find(id, attempt).await.unwrap();
        fs::remove_file(received).unwrap();
        fs::write(house.directory.path().join("files").join(id.to_string()), saved).unwrap();
        assert_eq!(files.save(id, file).await.is_ok(), is_saved);
    }
}
