//! Stores of earlier versions; that everything in them is found is tested from outside, in `tests/it/stores.rs`.

use super::*;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stores/1");

/// The store of version 1, as its killed process left it, after `change`.
fn version_1(change: &str) -> TempDir {
    let directory = copy_as_crashed(Path::new(FIXTURE), usize::MAX);
    let connection = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    connection.execute_batch(change).unwrap();
    directory
}

#[test]
fn an_older_store_is_upgraded_once_and_says_so() {
    let directory = version_1("");
    let (journal, lines) = logged(|| open(directory.path()).unwrap());
    assert!(lines.contains("upgraded from version 1") && lines.contains("journal.db.v1"), "{lines}");
    let (name, head) = (journal.epochs().store(), journal.last_seq());
    assert_eq!(journal.epochs().cursor(head).epoch, name, "what there was keeps its epoch");
    assert_ne!(journal.epochs().cursor(head.next()).epoch, name);
    drop(journal);
    let copy = directory.path().join("journal.db.v1");
    let before = fs::read(&copy).unwrap();
    let (journal, lines) = logged(|| open(directory.path()).unwrap());
    assert!(!lines.contains("upgraded"), "{lines}");
    assert_eq!((journal.epochs().store(), journal.last_seq()), (name, head));
    assert_eq!(fs::read(copy).unwrap(), before);
}

#[test]
fn a_damaged_older_store_is_refused_and_stays_what_it_is() {
    for damage in [
        "UPDATE events SET data = x'00' WHERE seq = 20",
        "UPDATE store SET epoch = 'aaaaaaaa'",
        "CREATE TABLE notes (text)",
        "DELETE FROM history WHERE seq = 1",
    ] {
        let directory = version_1(damage);
        let refused = open(directory.path()).err().unwrap();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{damage}: {refused}");
        let connection = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let columns = connection.prepare("SELECT epoch FROM store").map(drop);
        assert_eq!((version, columns), (1, Ok(())), "{damage}");
    }
}

#[test]
fn nothing_is_upgraded_where_no_copy_can_be_kept() {
    let directory = version_1("");
    fs::create_dir(directory.path().join("journal.db.v1")).unwrap();
    let refused = open(directory.path()).err().unwrap();
    assert!(refused.to_string().contains("journal.db.v1"), "{refused}");
    let connection = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    assert_eq!(connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)), Ok(1));
}
