//! A disk that fails, and one that is full.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use rusqlite::{
    ffi,
    hooks::{Action, Wal},
};

use super::*;

/// The commit of the next append answers with an error, before or after it was written.
async fn fail_next_commit(journal: &SqliteJournal, written: bool) {
    fail_next_commit_and(journal, written, || {}).await;
}

async fn fail_next_commit_and(journal: &SqliteJournal, written: bool, and: impl Fn() + Send + 'static) {
    with_connection(journal, move |connection| {
        // The fold may commit first, which is to succeed.
        let appends = Arc::new(AtomicBool::new(false));
        let inserted = Arc::clone(&appends);
        let note = move |action, _: &str, table: &str, _| {
            inserted.fetch_or(action == Action::SQLITE_INSERT && table == "events", Ordering::Relaxed);
        };
        connection.update_hook(Some(note)).unwrap();
        let hooked = if written {
            let failed = || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR), None);
            let hook = move |_: &mut Wal, _| {
                let fails = appends.load(Ordering::Relaxed);
                fails.then(&and).map_or(Ok(()), |()| Err(failed()))
            };
            connection.wal_hook(Some(hook))
        } else {
            connection.commit_hook(Some(move || appends.load(Ordering::Relaxed)))
        };
        hooked.unwrap();
    })
    .await;
}

async fn set_pages_max(journal: &SqliteJournal, pages: u32) {
    let set = move |connection: &mut Connection| connection.pragma_update(None, "max_page_count", pages).unwrap();
    with_connection(journal, set).await;
}

/// How the connection that writes is set: what a commit is worth.
async fn durability(journal: &SqliteJournal) -> (String, i64, i64) {
    let (tell, told) = oneshot::channel();
    let read = move |connection: &mut Connection| {
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
        let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        tell.send((mode, number("synchronous"), number("wal_autocheckpoint"))).unwrap();
    };
    with_connection(journal, read).await;
    told.await.unwrap()
}

#[tokio::test]
async fn a_commit_is_synced_before_and_after_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let durable = ("wal".to_owned(), 2, 16_384);
    assert_eq!(durability(&journal).await, durable);
    fail_next_commit(&journal, false).await;
    append(&journal, vec![group(&task(1), Class::Change, "{}")]).await.unwrap();
    journal.head().await.unwrap();
    assert_eq!(durability(&journal).await, durable, "on a connection that was opened again");
}

#[tokio::test]
async fn after_a_failed_commit_the_same_group_is_written_once() {
    for written in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path()).unwrap();
        add(&journal, &task(1), Class::Change, "before").await;
        everything(&journal).await.unwrap();
        fail_next_commit(&journal, written).await;
        let lost = group(&task(1), Class::Tick, "lost");
        let appended = append(&journal, vec![lost.clone()]).await.unwrap();
        assert_eq!((appended.outcomes, appended.events.len()), (vec![Outcome::Unknown], 0));
        // The head is what is on the disk, not what was known before.
        assert_eq!(journal.head().await.unwrap(), Seq(if written { 2 } else { 1 }));
        let next = group(&task(1), Class::Tick, "next");
        let appended = journal.append(Seq(1), vec![lost.clone(), next]).await.unwrap();
        assert_eq!(appended.outcomes, [Outcome::Committed, Outcome::Committed]);
        let found: Vec<_> = appended.events.iter().map(|event| (event.seq.0, &event.draft.data[..])).collect();
        assert_eq!(found, [(2, &b"lost"[..]), (3, b"next")], "written: {written}");
        let all = everything(&journal).await.unwrap();
        let copy = copy_as_crashed(directory.path(), usize::MAX);
        assert_eq!(everything(&open(copy.path()).unwrap()).await.unwrap(), all);
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_room_again_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    set_pages_max(&journal, 100).await;
    let big = "x".repeat(40_000);
    let mut written = 1;
    let full = loop {
        match append(&journal, vec![group(&task(2), Class::Change, &big)]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the file has no bound");
    };
    assert!(matches!(full, JournalError::Full), "{full:?}");
    assert_eq!(journal.head().await.unwrap(), Seq(written));
    // Neither does the fold find room; nothing is lost by that.
    let folded = journal.fold().await;
    assert!(matches!(folded, Err(JournalError::Full)), "{folded:?}");
    let all = everything(&journal).await.unwrap();
    assert_eq!(all.0, Seq(written));
    set_pages_max(&journal, 100_000).await;
    assert_eq!(add(&journal, &task(2), Class::Change, &big).await[0].seq, Seq(written + 1));
    journal.fold().await.unwrap();
    let all = everything(&journal).await.unwrap();
    journal.close().await.unwrap();
    assert_eq!(everything(&open(directory.path()).unwrap()).await.unwrap(), all);
}

#[tokio::test]
async fn the_bound_on_pages_is_an_option_too() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { pages_max: Some(40), ..SqliteOptions::default() };
    let journal = SqliteJournal::open(directory.path(), &options).unwrap();
    let full = append(&journal, vec![group(&task(1), Class::Change, &"x".repeat(200_000))]).await;
    assert!(matches!(full, Err(JournalError::Full)), "{full:?}");
    assert_eq!(journal.last(&task(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_that_could_not_be_synced_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "before").await;
    with_writer(&journal, |writer| {
        *writer.checkpointer.failed.lock().unwrap() = Some(StoreError::Sync(std::io::ErrorKind::Other.into()));
    })
    .await;
    add(&journal, &task(1), Class::Change, "found out").await;
    add(&journal, &task(1), Class::Change, "after").await;
    // All that was committed before is in the file itself.
    let alone = copy_as_crashed(directory.path(), 0);
    let found = open(alone.path()).unwrap();
    assert!(found.last_seq() >= Seq(1));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn what_may_hide_a_loss_while_it_is_reopened_has_it_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "before").await;
    with_writer(&journal, |writer| {
        // That the path is gone hides nothing, that less is there than was committed may.
        writer.distrust(&StoreError::Displaced("journal.db".into()));
        let head = std::mem::replace(&mut writer.head, Seq(99));
        assert!(matches!(writer.settle(), Err(JournalError::Damaged(_))));
        writer.head = head;
    })
    .await;
    add(&journal, &task(1), Class::Change, "after").await;
    let alone = copy_as_crashed(directory.path(), 0);
    assert!(open(alone.path()).unwrap().last_seq() >= Seq(1), "it is in the file itself");
    journal.close().await.unwrap();
}

#[tokio::test]
async fn nobody_reads_what_may_not_be_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (file, away) = (directory.path().join("journal.db"), directory.path().join("away"));
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "before").await;
    everything(&journal).await.unwrap();
    // The commit is written, but not synced, and the journal cannot be opened again.
    let (from, to) = (file.clone(), away.clone());
    fail_next_commit_and(&journal, true, move || fs::rename(&from, &to).unwrap()).await;
    append(&journal, vec![group(&task(1), Class::Tick, "in doubt")]).await.unwrap();
    let unavailable = |error: JournalError| assert!(matches!(error, JournalError::Unavailable(_)), "{error:?}");
    unavailable(journal.last(&task(1)).await.unwrap_err());
    unavailable(journal.head().await.unwrap_err());
    fs::rename(&away, &file).unwrap();
    assert_eq!(journal.head().await.unwrap(), Seq(2));
    assert_eq!(journal.last(&task(1)).await.unwrap().unwrap().visible.unwrap().draft.data, "in doubt");
}

#[tokio::test]
async fn it_is_opened_again_for_those_who_only_read() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "before").await;
    fail_next_commit(&journal, false).await;
    append(&journal, vec![group(&task(1), Class::Tick, "lost")]).await.unwrap();
    assert_eq!(journal.last(&task(1)).await.unwrap().unwrap().last, Seq(1));
}

#[tokio::test]
async fn there_is_no_head_when_its_thread_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    with_writer(&journal, |_| panic!("as a test wants it")).await;
    // It has ended when it answers nobody.
    journal.fold().await.unwrap_err();
    let head = journal.head().await;
    assert!(matches!(head, Err(JournalError::Unavailable(_))), "{head:?}");
    let found = journal.last(&task(1)).await;
    assert!(matches!(found, Err(JournalError::Unavailable(_))), "{found:?}");
}

#[tokio::test]
async fn a_fold_that_fails_is_logged_once_and_once_more_when_it_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    // Nothing folds by itself.
    with_writer(&journal, |writer| writer.fold_at = Some(Instant::now() + Duration::from_secs(3_600))).await;
    set_pages_max(&journal, 100).await;
    while append(&journal, vec![group(&task(1), Class::Change, &"x".repeat(40_000))]).await.is_ok() {}
    let (tell, told) = oneshot::channel();
    with_writer(&journal, move |writer| {
        let fold = |writer: &mut JournalWriter| logged(|| (0..3).for_each(|_| writer.fold_or_log(1))).1;
        let full = fold(writer);
        let connection = writer.connection.as_mut().unwrap();
        connection.pragma_update(None, "max_page_count", 100_000).unwrap();
        tell.send([full, fold(writer)]).unwrap();
    })
    .await;
    let [full, room] = told.await.unwrap();
    assert_eq!((full.lines().count(), full.matches("disk is full").count()), (1, 1), "{full}");
    assert_eq!((room.lines().count(), room.matches("folds its log into its tables again").count()), (1, 1), "{room}");
}

#[tokio::test]
async fn after_an_error_nothing_is_read_until_it_is_known_what_is_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let (tell, told) = oneshot::channel();
    with_writer(&journal, move |writer| {
        let can_read = |writer: &JournalWriter| {
            let mut ran = false;
            let note = |_: &Connection| {
                ran = true;
                Ok(())
            };
            writer.pool.write_aside(note).unwrap();
            ran
        };
        let before = can_read(writer);
        writer.distrust(&StoreError::Sqlite(rusqlite::Error::InvalidQuery));
        let failed = can_read(writer);
        writer.settle().unwrap();
        tell.send([before, failed, can_read(writer)]).unwrap();
    })
    .await;
    assert_eq!(told.await.unwrap(), [true, false, true]);
}
