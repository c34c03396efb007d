//! What is left on the disk, and who removes it.

use super::*;

#[tokio::test(start_paused = true)]
async fn files_that_no_task_answers_for_are_removed() {
    let plan = Plan::default();
    let root = plan.directory.path().to_path_buf();
    for directory in ["incoming", "files"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let unknown = Uuid::now_v7().to_string();
    fs::write(root.join("incoming").join("left"), "half").unwrap();
    fs::write(root.join("files").join(&unknown), "whole").unwrap();
    fs::write(root.join("files").join("README"), "not ours").unwrap();
    let house = plan.build().await;
    assert!(house.listed("incoming").is_empty());
    while house.listed("files").contains(&unknown) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(house.listed("files"), ["README"]);

    let [kept, failed, working] = [(); 3].map(|()| Uuid::now_v7());
    for (id, status) in [(kept, "completed"), (failed, "error"), (working, "processing")] {
        house.tracker.create(id, NewTask::default(), None).await.unwrap();
        let report = serde_json::from_value(json!({ "status": status })).unwrap();
        house.ask(id, Intent::Report { report, token: None }).await;
        fs::write(root.join("files").join(id.to_string()), "whole").unwrap();
    }
    tokio::time::sleep(Duration::from_secs(601)).await;
    while house.listed("files").contains(&failed.to_string()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut left = house.listed("files");
    left.sort();
    let mut expected = ["README".to_owned(), kept.to_string(), working.to_string()];
    expected.sort();
    assert_eq!(left, expected);
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
