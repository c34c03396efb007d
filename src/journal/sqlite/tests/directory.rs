//! The data directory: its lock, its files, and what is refused.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let refused = open(directory.path()).err().unwrap();
    assert!(matches!(refused, OpenError::InUse(_)));
    assert!(refused.to_string().contains(directory.path().to_str().unwrap()), "{refused}");
    assert!(refused.to_string().contains("another progressd"), "{refused}");
    add(&journal, &task(1), Class::Change, "{}").await;
    // The lock goes with the journal, closed or not.
    journal.close().await.unwrap();
    let reopened = open(directory.path()).unwrap();
    drop(journal);
    drop(reopened);
    assert_eq!(open(directory.path()).unwrap().last_seq(), Seq(1));
}

#[tokio::test]
async fn makes_its_directory_for_the_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/data");
    let journal = open(&directory).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in ["journal.db", "journal.db-wal", "lock"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
}

#[test]
fn names_the_path_that_cannot_be_used() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    // Nobody can make files in /proc, not even root.
    for directory in [file.as_path(), Path::new("/proc")] {
        let refused = open(directory).err().unwrap();
        assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
        assert!(refused.to_string().contains(directory.to_str().unwrap()), "{refused}");
    }
}

#[tokio::test]
async fn refuses_a_newer_version_and_leaves_it_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap().close().await.unwrap();
    let file = directory.path().join("journal.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    connection.close().unwrap();
    let before = fs::read(&file).unwrap();
    let refused = open(directory.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 7, supported: schema::VERSION, .. }), "{refused}");
    assert!(refused.to_string().contains("version 7") && refused.to_string().contains("up to 3"), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn refuses_a_file_of_another_and_leaves_it_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let refuse = |what: &str| {
        let before = fs::read(&file).unwrap();
        let refused = open(directory.path()).err().unwrap();
        assert!(matches!(refused, OpenError::NotAJournal(_)), "{what}: {refused}");
        assert!(refused.to_string().contains("journal.db"), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), before, "{what}");
    };
    fs::write(
        &file,
        "my holiday notes, which are longer than the header of a database, so that they are read as one, \
         and not as one that has just been begun",
    )
    .unwrap();
    refuse("text");
    fs::write(&file, "short").unwrap();
    refuse("short text");
    fs::remove_file(&file).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch("CREATE TABLE notes (text)").unwrap();
    connection.close().unwrap();
    refuse("another's database");
}

#[tokio::test]
async fn begins_where_its_making_was_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("journal.db"), "").unwrap();
    let journal = open(directory.path()).unwrap();
    assert_eq!(add(&journal, &task(1), Class::Change, "{}").await[0].seq, Seq(1));
}

#[tokio::test]
async fn a_store_whose_file_is_gone_is_refused_and_left_as_it_is() {
    for (is_empty, left) in [(false, "journal.db-wal"), (true, "journal.db-wal"), (false, "files"), (true, "incoming")]
    {
        let directory = tempfile::tempdir().unwrap();
        let [file, left] = ["journal.db", left].map(|name| directory.path().join(name));
        let journal = open(directory.path()).unwrap();
        add(&journal, &task(1), Class::Change, "{}").await;
        if left.extension().is_some() {
            drop(journal);
        } else {
            journal.close().await.unwrap();
            for suffix in ["-wal", "-shm"] {
                let _ = fs::remove_file(directory.path().join(format!("journal.db{suffix}")));
            }
            fs::create_dir(&left).unwrap();
        }
        let [away, beside] = ["away", "beside"].map(|name| directory.path().join(name));
        fs::rename(&file, &away).unwrap();
        if is_empty {
            fs::write(&file, "").unwrap();
        }
        for _ in 0..2 {
            let refused = open(directory.path()).err().unwrap();
            assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
            let told = refused.to_string();
            assert!(told.contains(left.to_str().unwrap()) && told.contains("put its journal.db back"), "{told}");
        }
        // Both ways that are told lead on.
        fs::rename(&left, &beside).unwrap();
        let _ = fs::remove_file(directory.path().join("journal.db-shm"));
        let anew = open(directory.path()).unwrap();
        assert_eq!(anew.last_seq(), Seq::ZERO);
        anew.close().await.unwrap();
        fs::rename(&beside, &left).unwrap();
        fs::rename(&away, &file).unwrap();
        assert_eq!(open(directory.path()).unwrap().last_seq(), Seq(1));
    }
}

#[tokio::test]
async fn a_closed_store_is_one_file_that_opens_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    let before = everything(&journal).await.unwrap();
    journal.close().await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::copy(directory.path().join("journal.db"), copy.path().join("journal.db")).unwrap();
    let (journal, lines) = logged(|| open(copy.path()).unwrap());
    assert_eq!(lines, "");
    assert_eq!(everything(&journal).await.unwrap(), before);
}
