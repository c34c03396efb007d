//! What holds for the SQLite journal only: its files, its lock, and how it meets crashes, damage and full disks.

mod crashes;
mod damage;
mod directory;
mod disk;
mod folding;
mod reading;
mod surroundings;
mod upgrade;
mod wal;

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::{trust::Trust, *};
use crate::{
    event::{ChannelKind, Class, Draft, Event},
    journal::Listing,
};

fn open(directory: &Path) -> Result<SqliteJournal, OpenError> {
    SqliteJournal::open(directory, &SqliteOptions::default())
}

fn task(number: u128) -> ChannelName {
    ChannelName::task(Uuid::from_u128(number))
}

fn group(channel: &ChannelName, class: Class, data: &str) -> Group {
    let data = Bytes::copy_from_slice(data.as_bytes());
    let draft = Draft { channel: channel.clone(), name: None, class, data, memo: None, origin: None };
    Group { id: Uuid::new_v4(), at: Timestamp::from_millis(1), expects: Vec::new(), drafts: vec![draft] }
}

async fn add(journal: &SqliteJournal, channel: &ChannelName, class: Class, data: &str) -> Vec<Event> {
    append(journal, vec![group(channel, class, data)]).await.unwrap().events
}

async fn append(journal: &SqliteJournal, groups: Vec<Group>) -> Result<Appended, JournalError> {
    let head = journal.head().await?;
    journal.append(head, groups).await
}

/// Does something to the writer, between two calls.
async fn with_writer(journal: &SqliteJournal, act: impl FnOnce(&mut JournalWriter) + Send + 'static) {
    journal.send(Work::Test(Box::new(act))).await.unwrap();
}

impl SqliteJournal {
    /// Ends the thread that writes as a defect would.
    pub(crate) async fn break_thread(&self) {
        with_writer(self, |_| panic!("as a test wants it")).await;
    }
}

/// Does something to the connection that writes.
async fn with_connection(journal: &SqliteJournal, act: impl FnOnce(&mut Connection) + Send + 'static) {
    with_writer(journal, |writer| act(writer.connection.as_mut().unwrap())).await;
}

fn tasks() -> Listing {
    Listing { kind: ChannelKind::Task, members: Vec::new(), created_before: None, limit: usize::MAX }
}

/// All that can be read of a journal.
async fn everything(journal: &SqliteJournal) -> Result<(Seq, Tail, Vec<Stored>, Vec<History>), JournalError> {
    let stored = journal.list(tasks()).await?;
    let mut logs = Vec::new();
    for stored in &stored {
        assert_eq!(journal.last(&stored.channel).await?.as_ref(), Some(stored));
        logs.push(journal.read(&stored.channel, Seq::ZERO).await?);
    }
    Ok((journal.head().await?, journal.tail(Seq::ZERO, usize::MAX).await?, stored, logs))
}

/// Copies the store as a crash would leave it, with the write-ahead log cut to a length.
fn copy_as_crashed(directory: &Path, wal_bytes: usize) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(directory.join("journal.db"), copy.path().join("journal.db")).unwrap();
    let wal = fs::read(directory.join("journal.db-wal")).unwrap();
    fs::write(copy.path().join("journal.db-wal"), &wal[..wal_bytes.min(wal.len())]).unwrap();
    copy
}

fn wal_bytes(directory: &Path) -> usize {
    fs::read(directory.join("journal.db-wal")).unwrap().len()
}

/// What is logged on this thread while `work` runs.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let answer = tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    (answer, String::from_utf8(bytes).unwrap())
}
