//! A damaged file is refused, never skipped.

use super::*;

/// A closed store with something in every table.
async fn filled(directory: &Path) -> (Seq, Tail, Vec<Stored>, Vec<History>) {
    let journal = open(directory).unwrap();
    for number in 1..=20 {
        let state = format!(r#"{{"status":"processing","userId":"alice","marker":"state {number}"}}"#);
        let mut opening = group(&task(number), Class::Change, &state);
        opening.drafts[0].origin = Some(Bytes::from(format!("origin {number}").repeat(50)));
        opening.drafts[0].memo = Some(Bytes::from_static(b"memo"));
        append(&journal, vec![opening]).await.unwrap();
        add(&journal, &task(number), Class::Tick, &state).await;
        add(&journal, &task(number), if number % 2 == 0 { Class::Final } else { Class::Change }, &state).await;
    }
    let all = everything(&journal).await.unwrap();
    journal.close().await.unwrap();
    all
}

#[tokio::test]
async fn any_flipped_byte_is_refused_or_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let all = filled(directory.path()).await;
    let bytes = fs::read(directory.path().join("journal.db")).unwrap();
    let mut refused = 0;
    let mut tried = 0;
    for place in (0..bytes.len()).step_by(331) {
        let copy = tempfile::tempdir().unwrap();
        let mut bad = bytes.clone();
        bad[place] ^= 0x04;
        fs::write(copy.path().join("journal.db"), bad).unwrap();
        tried += 1;
        match open(copy.path()) {
            Ok(journal) => assert_eq!(everything(&journal).await.unwrap(), all, "byte {place}"),
            Err(OpenError::Damaged { .. } | OpenError::NotAJournal(_)) => refused += 1,
            Err(other) => panic!("byte {place}: {other}"),
        }
    }
    // The rest is room that is not in use.
    assert!(refused * 3 > tried, "{refused} of {tried}");
}

#[tokio::test]
async fn what_is_not_checked_at_the_start_is_checked_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let file = directory.path().join("journal.db");
    let bytes = fs::read(&file).unwrap();
    let lazy = SqliteOptions { check_bytes_max: 0, ..SqliteOptions::default() };
    for (table, column) in [("history", "data"), ("channels", "data"), ("origins", "origin"), ("channels", "memo")] {
        let sql = format!("UPDATE {table} SET {column} = x'7b7d' WHERE rowid = 1");
        let connection = rusqlite::Connection::open(&file).unwrap();
        assert_eq!(connection.execute(&sql, []).unwrap(), 1);
        connection.close().unwrap();
        let journal = SqliteJournal::open(directory.path(), &lazy).unwrap();
        let found = everything(&journal).await;
        assert!(matches!(found, Err(JournalError::Damaged(_))), "{table}.{column}: {found:?}");
        drop(journal);
        assert!(matches!(open(directory.path()), Err(OpenError::Damaged { .. })), "{table}.{column}");
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(directory.path().join(format!("journal.db{suffix}")));
        }
        fs::write(&file, &bytes).unwrap();
    }
}

#[tokio::test]
async fn missing_rows_are_found() {
    for sql in [
        "DELETE FROM events WHERE seq = 30",
        "DELETE FROM events WHERE seq > 50",
        "DELETE FROM history WHERE seq = 1",
        "DELETE FROM channels WHERE created = 1",
        "DELETE FROM store",
        "UPDATE store SET name = 'aaaaaaaa'",
        "DELETE FROM epochs",
        "UPDATE epochs SET begun = x''",
        "UPDATE store SET folded_through = 3",
    ] {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path()).await;
        let connection = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
        connection.close().unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::Damaged { .. })), "{sql}");
    }
}
