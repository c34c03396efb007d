//! Stores of earlier versions; that everything in them is found is tested from outside, in `tests/it/stores.rs`.

use super::*;

/// The store of a version, as its killed process left it, after `change`.
fn store_of(version: i32, change: &str) -> TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores");
    let directory = copy_as_crashed(&fixtures.join(version.to_string()), usize::MAX);
    let connection = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    connection.execute_batch(change).unwrap();
    directory
}

#[test]
fn an_older_store_is_upgraded_once_and_says_so() {
    for version in 1..schema::VERSION {
        let directory = store_of(version, "");
        let (journal, lines) = logged(|| open(directory.path()).unwrap());
        let copy = format!("journal.db.v{version}");
        assert!(lines.contains(&format!("upgraded from version {version}")) && lines.contains(&copy), "{lines}");
        let (store, head) = (journal.epochs().store(), journal.last_seq());
        let epoch = journal.epochs().cursor(head).epoch;
        assert!(version > 1 || epoch == store, "what there was keeps its epoch");
        assert_ne!(journal.epochs().cursor(head.next()).epoch, epoch);
        drop(journal);
        let copy = directory.path().join(copy);
        let before = fs::read(&copy).unwrap();
        let (journal, lines) = logged(|| open(directory.path()).unwrap());
        assert!(!lines.contains("upgraded"), "{lines}");
        assert_eq!((journal.epochs().store(), journal.last_seq()), (store, head));
        assert_eq!(fs::read(copy).unwrap(), before);
    }
}

#[test]
fn a_damaged_older_store_is_refused_and_stays_what_it_is() {
    for (version, damage) in [
        (1, "UPDATE events SET data = x'00' WHERE seq = 20"),
        (1, "UPDATE store SET epoch = 'aaaaaaaa'"),
        (1, "CREATE TABLE notes (text)"),
        (1, "DELETE FROM history WHERE seq = 1"),
        (2, "UPDATE channels SET memo = x'7b7d' WHERE created = 1"),
        (2, "DELETE FROM history WHERE seq = 1"),
        (2, "CREATE TABLE notes (text)"),
    ] {
        let directory = store_of(version, damage);
        let file = directory.path().join("journal.db");
        let tables = |connection: &Connection| {
            let sql = "SELECT group_concat(name || sql) FROM sqlite_schema";
            connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
        };
        let before = tables(&Connection::open(&file).unwrap());
        let refused = open(directory.path()).err();
        let refused = refused.unwrap_or_else(|| panic!("{damage}"));
        assert!(matches!(refused, OpenError::Damaged { .. }), "{damage}: {refused}");
        let connection = Connection::open(file).unwrap();
        let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!((found, tables(&connection)), (version, before), "{damage}");
    }
}

#[test]
fn nothing_is_upgraded_where_no_copy_can_be_kept() {
    let directory = store_of(1, "");
    fs::create_dir(directory.path().join("journal.db.v1")).unwrap();
    let refused = open(directory.path()).err().unwrap();
    assert!(refused.to_string().contains("journal.db.v1"), "{refused}");
    let connection = Connection::open(directory.path().join("journal.db")).unwrap();
    assert_eq!(connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)), Ok(1));
}
