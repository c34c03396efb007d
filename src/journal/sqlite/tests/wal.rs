//! How long the write-ahead log becomes.

use std::{sync::mpsc, time::Duration};

use tokio::task::JoinSet;

use super::*;

/// Bytes of a big event. They go through the log twice: with the event and with the row.
const BIG: usize = 400_000;

/// Appends until about so many bytes have gone through the log.
async fn write(journal: &SqliteJournal, bytes: usize) {
    let data = "x".repeat(BIG);
    for number in 0..bytes / (2 * BIG) {
        add(journal, &task(number as u128 % 8), Class::Tick, &data).await;
    }
}

fn length(directory: &Path) -> u64 {
    fs::metadata(directory.join("journal.db-wal")).unwrap().len()
}

/// Begins a read that lasts until the sender is dropped; the receiver tells when it has begun.
fn read(reads: &mut JoinSet<()>, journal: &Arc<SqliteJournal>) -> (mpsc::Sender<()>, oneshot::Receiver<()>) {
    let (end, ended) = mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    let journal = Arc::clone(journal);
    reads.spawn(async move {
        let work = move |connection: &Connection| {
            schema::read_facts(connection)?;
            let _ = begin.send(());
            Ok(ended.recv().is_err())
        };
        journal.read_shared(work).await.unwrap();
    });
    (end, begun)
}

/// Reads without end, each from before the last has ended.
async fn read_on(journal: &Arc<SqliteJournal>) {
    let mut reads = JoinSet::new();
    let mut reading = read(&mut reads, journal).0;
    loop {
        let (next, begun) = read(&mut reads, journal);
        // Where reads have to wait, the next cannot begin before this one ends.
        let _begun = tokio::time::timeout(Duration::from_millis(20), begun).await;
        drop(std::mem::replace(&mut reading, next));
        while let Some(read) = reads.try_join_next() {
            read.unwrap();
        }
    }
}

#[tokio::test]
async fn it_has_a_bound_although_reads_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Arc::new(open(directory.path()).unwrap());
    tokio::select! {
        () = write(&journal, 300 << 20) => {}
        () = read_on(&journal) => {}
    }
    let length = length(directory.path());
    assert!(length < 100 << 20, "{length} bytes");
}

#[tokio::test]
async fn it_is_emptied_when_nothing_comes() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    write(&journal, 8 << 20).await;
    let emptied = async {
        while length(directory.path()) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), emptied).await.unwrap();
    assert_eq!(journal.list(tasks()).await.unwrap().len(), 8);
    write(&journal, 1 << 20).await;
}
