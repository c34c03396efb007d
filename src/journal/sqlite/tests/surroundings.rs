//! What happens around the journal while it is open.

use super::*;

fn is_unavailable(result: Result<(), JournalError>) -> bool {
    matches!(result, Err(JournalError::Unavailable(_)))
}

/// Nothing can be written, it says so, and nobody else can begin at the same path.
async fn is_refused(journal: &SqliteJournal, directory: &Path) {
    assert!(is_unavailable(append(journal, vec![group(&task(1), Class::Change, "{}")]).await.map(drop)));
    assert!(is_unavailable(journal.check().await));
    let second = open(directory).err().unwrap();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
}

#[tokio::test]
async fn nothing_is_written_once_the_directory_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let journal = open(&directory).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    journal.last(&task(1)).await.unwrap();
    journal.check().await.unwrap();
    fs::remove_dir_all(&directory).unwrap();
    is_refused(&journal, &directory).await;
    // What is open can still be read.
    assert_eq!(journal.last(&task(1)).await.unwrap().unwrap().last, Seq(1));
    drop(journal);
    assert_eq!(open(&directory).unwrap().last_seq(), Seq::ZERO);
}

#[tokio::test]
async fn nothing_is_written_while_another_directory_is_in_its_place() {
    let parent = tempfile::tempdir().unwrap();
    let [directory, away, other] = ["data", "away", "other"].map(|name| parent.path().join(name));
    open(&other).unwrap().close().await.unwrap();
    let journal = open(&directory).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    fs::rename(&directory, &away).unwrap();
    fs::rename(&other, &directory).unwrap();
    is_refused(&journal, &directory).await;
    assert!(matches!(open(&away), Err(OpenError::InUse(_))));
    // Nor is the other read.
    assert!(journal.last(&task(2)).await.is_err());
    fs::rename(&directory, &other).unwrap();
    fs::rename(&away, &directory).unwrap();
    journal.check().await.unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    journal.close().await.unwrap();
    assert_eq!(open(&directory).unwrap().last_seq(), Seq(2));
}

#[tokio::test]
async fn nothing_is_written_without_one_of_its_files() {
    for file in ["journal.db", "journal.db-wal", "lock"] {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path()).unwrap();
        fs::remove_file(directory.path().join(file)).unwrap();
        is_refused(&journal, directory.path()).await;
    }
}

#[tokio::test]
async fn a_check_is_a_commit_unless_there_was_one_a_moment_ago() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let commits_of = async |asks: usize| {
        let before = wal_bytes(directory.path());
        for _ in 0..asks {
            journal.check().await.unwrap();
        }
        wal_bytes(directory.path()) - before
    };
    assert!(commits_of(1).await > 0);
    assert_eq!(commits_of(3).await, 0);
    with_connection(&journal, |connection| connection.pragma_update(None, "query_only", true).unwrap()).await;
    with_writer(&journal, |writer| writer.trust.proved_at = None).await;
    assert!(is_unavailable(journal.check().await), "a store that cannot be written to");
    // It was opened again.
    journal.check().await.unwrap();
}

#[tokio::test]
async fn what_there_is_can_be_read_where_there_is_no_room_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    for number in 0..50 {
        add(&journal, &task(number), Class::Change, &"x".repeat(2_000)).await;
    }
    let all = everything(&journal).await.unwrap();
    // As it was before the fold.
    let copy = copy_as_crashed(directory.path(), usize::MAX);
    let full = SqliteOptions { pages_max: Some(1), ..SqliteOptions::default() };
    let (journal, lines) = logged(|| SqliteJournal::open(copy.path(), &full).unwrap());
    assert!(lines.contains("ERROR") && lines.contains("the disk is full"), "{lines}");
    assert_eq!(everything(&journal).await.unwrap(), all);
    let refused = append(&journal, vec![group(&task(1), Class::Change, &"x".repeat(9_000))]).await;
    assert!(matches!(refused, Err(JournalError::Full)), "{refused:?}");
    let room = |connection: &mut Connection| connection.pragma_update(None, "max_page_count", 100_000).unwrap();
    with_connection(&journal, room).await;
    add(&journal, &task(1), Class::Change, "{}").await;
    journal.fold().await.unwrap();
}

#[tokio::test]
async fn no_event_is_given_before_its_epoch_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    journal.close().await.unwrap();
    let journal = open(directory.path()).unwrap();
    // As though there had been no room at the start.
    with_writer(&journal, |writer| {
        let kept = writer.epochs.begun()[..1].to_vec();
        let before = Epochs::new(writer.epochs.store(), kept).unwrap();
        schema::write_epochs(writer.connection.as_ref().unwrap(), &before).unwrap();
        writer.trust = Trust::default();
    })
    .await;
    let seq = add(&journal, &task(1), Class::Change, "{}").await[0].seq;
    let cursor = journal.epochs().cursor(seq);
    drop(journal);
    assert!(open(directory.path()).unwrap().epochs().know(cursor));
}

#[tokio::test]
async fn the_end_of_its_thread_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    assert!(futures_util::FutureExt::now_or_never(journal.ended()).is_none());
    journal.break_thread().await;
    journal.ended().await;
    assert!(is_unavailable(journal.check().await));
}

#[tokio::test]
async fn a_directory_that_is_gone_is_noticed_though_nobody_asks() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let (tell, told) = oneshot::channel();
    let path = directory.path().to_owned();
    with_writer(&journal, move |writer| {
        let look = |writer: &mut JournalWriter| logged(|| writer.work_unasked()).1;
        let before = look(writer);
        fs::remove_dir_all(path).unwrap();
        tell.send((writer.next_work(), [before, look(writer), look(writer)])).unwrap();
    })
    .await;
    let (rest, [before, gone, again]) = told.await.unwrap();
    assert_eq!(rest, checkpoint::QUIET, "with nothing to do it looks so often");
    assert!(before.is_empty() && again.is_empty(), "{before}{again}");
    assert!(gone.contains("nothing is written until the data directory is back"), "{gone}");
}
