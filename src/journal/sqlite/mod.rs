//! The journal in one SQLite file, for one process: durable with no other service.
//!
//! A handle passes appends to the one writer thread (`writer.rs`) and reads from a pool of connections (`pool.rs`);
//! neither waits for the other; another thread carries the write-ahead log into the file (`checkpoint.rs`). The file and
//! its rows are described in `schema.rs`, the fold in `fold.rs` and `fold_plan.rs`, what waits for it in `edge.rs`, how
//! much of it is done at a time in `fold_pace.rs`. `snapshot.rs` makes copies for backups, `export.rs` reads all rows for a move.
//! It stores envelopes; what an event says is not its business, but for the members by which channels are listed.

mod calls;
mod check;
mod checkpoint;
mod connect;
mod edge;
mod error;
mod export;
mod fold;
mod home;
mod open;
mod fold_pace;
mod fold_plan;
mod pool;
mod read;
mod record;
mod schema;
mod snapshot;
mod sweep;
mod trim;
mod trust;
mod upgrade;
mod wal;
mod writer;

#[cfg(test)]
mod tests;

pub use error::OpenError;
pub use export::SqliteExport;
pub use snapshot::{check_journal, copy_journal};

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use self::{
    calls::{Call, Work},
    checkpoint::Checkpointer,
    error::StoreError,
    fold::FoldBounds,
    home::Home,
    pool::{Line, Pool},
    writer::{Gauges, JournalWriter},
};
use super::{Appended, Counted, Group, Journal, JournalError, Listing, Member, Outcome, SWEEP_MAX, Stored, Tail};
use crate::event::{ChannelKind, ChannelName, Epochs, History, HistoryBounds, Seq, Timestamp};

/// Calls that may wait for the writer.
const QUEUE_CALLS_MAX: usize = 64;

/// How much the journal keeps, and how it opens.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// What is kept of each channel.
    pub history: HistoryBounds,
    /// Events kept in the log behind the fold, ticks and hidden ones too; see the contract's page.
    pub log: usize,
    /// A store of up to so many bytes is checked whole when it is opened.
    pub check_bytes_max: u64,
    /// The file may have so many pages (of 4096 bytes); no bound when absent.
    pub pages_max: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { history: HistoryBounds::from(1_000), log: 16_384, check_bytes_max: 256 << 20, pages_max: None }
    }
}

impl SqliteOptions {
    fn bounds(&self) -> FoldBounds {
        FoldBounds { history: self.history, log: self.log as u64 }
    }
}

/// A journal in one SQLite file.
///
/// Dropping it without [`Journal::close`] is like a crash: nothing acknowledged is lost, and the next start says so. The
/// drop waits for the writer to finish what it is doing.
pub struct SqliteJournal {
    epochs: Epochs,
    bounds: FoldBounds,
    places: Arc<Semaphore>,
    // Each call has a place, so sending never waits. None once it is being dropped.
    calls: Option<SyncSender<Call>>,
    pool: Arc<Pool>,
    gauges: Arc<Gauges>,
    ended: watch::Receiver<()>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteJournal {
    /// Opens the journal in a data directory, which is made if it is missing, and folds what an earlier process left.
    /// Blocks; call it before serving, or on a blocking thread.
    ///
    /// # Errors
    /// When the directory is in use or cannot be used, or the store is another's, newer, or damaged.
    pub fn open(directory: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let home = Home::enter(directory)?;
        let place = Arc::clone(&home.place);
        let opened = open::open(&place.file, options)?;
        let bounds = options.bounds();
        let pool = Pool::new(Arc::clone(&place));
        let gauges = Arc::<Gauges>::default();
        let no_thread = |source| OpenError::Io { path: directory.into(), source };
        let checkpointer = Checkpointer::start(&place.file, Arc::clone(&pool)).map_err(no_thread)?;
        let writer = JournalWriter::new(home, opened, bounds, Arc::clone(&pool), checkpointer, Arc::clone(&gauges));
        let begun = writer.and_then(|mut writer| match writer.take_up() {
            Err(error) if !error.is_full() => Err(error),
            _ => Ok(writer),
        });
        let writer = begun.map_err(|error| error.at_open(place.file.clone()))?;
        let epochs = writer.epochs.clone();
        let (calls, queue) = sync_channel(QUEUE_CALLS_MAX);
        let (alive, ended) = watch::channel(());
        let work = move || {
            // Dropped when the thread ends, also by a panic.
            let _alive = alive;
            writer.run(&queue);
        };
        let thread = thread::Builder::new().name("journal".into()).spawn(work).map_err(no_thread)?;
        Ok(Self {
            epochs,
            bounds,
            places: Arc::new(Semaphore::new(QUEUE_CALLS_MAX)),
            calls: Some(calls),
            pool,
            gauges,
            ended,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// Seq of the last event that is known to be on the disk; for metrics.
    pub fn last_seq(&self) -> Seq {
        self.gauges.head()
    }

    /// Comes back when nothing is written any more: it was closed, or the thread that writes has failed.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent.
        while ended.changed().await.is_ok() {}
    }

    /// Folds everything now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fold(&self) -> Result<(), JournalError> {
        self.call(|answer| Work::Fold { answer }).await
    }

    async fn read_shared<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.pool.read(Line::Shared, work).await
    }

    /// Asks the writer, and waits for its answer.
    async fn call<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Work,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        self.send(work(answer)).await?;
        answered.await.unwrap_or_else(|_| Err(JournalError::Unavailable("the journal's writer is gone".into())))
    }

    async fn send(&self, work: Work) -> Result<(), JournalError> {
        let closed = || JournalError::Unavailable("the journal is closed".into());
        let permit = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let calls = self.calls.as_ref().ok_or_else(closed)?;
        calls.try_send(Call { work, permit }).map_err(|_| closed())
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn folded_through(&self) -> Seq {
        self.gauges.folded_through()
    }

    async fn head(&self) -> Result<Seq, JournalError> {
        // Nobody else writes to the file, so what the writer has published is the head, unless a commit was lost.
        if self.places.is_closed() || self.gauges.unsettled.load(Ordering::Acquire) {
            return self.call(|answer| Work::Head { answer }).await;
        }
        Ok(self.gauges.head())
    }

    async fn check(&self) -> Result<(), JournalError> {
        self.call(|answer| Work::Check { answer }).await
    }

    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        let (answer, answered) = oneshot::channel();
        let outcomes = vec![Outcome::Unknown; groups.len()];
        self.send(Work::Append { known_head, groups, answer }).await?;
        // The writer went away on the way: it may have committed.
        answered.await.unwrap_or(Ok(Appended { outcomes, events: Vec::new() }))
    }

    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError> {
        self.read_shared(move |connection| read::tail(connection, after, limit)).await
    }

    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError> {
        let (channel, bounds) = (channel.clone(), self.bounds.history);
        self.read_shared(move |connection| read::read(connection, bounds, &channel, after)).await
    }

    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError> {
        let (channels, bounds) = (channels.to_vec(), self.bounds.history);
        let read = move |connection: &Connection| {
            channels.iter().map(|channel| read::read(connection, bounds, channel, Seq::ZERO)).collect()
        };
        self.read_shared(read).await
    }

    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError> {
        let (channels, bounds) = ([channel.clone()], self.bounds.history);
        let states = self.read_shared(move |connection| read::last(connection, bounds, &channels)).await;
        states.map(|mut states| states.pop().flatten())
    }

    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        let (channels, bounds) = (channels.to_vec(), self.bounds.history);
        self.pool.read(Line::Own, move |connection| read::last(connection, bounds, &channels)).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError> {
        let bounds = self.bounds.history;
        self.read_shared(move |connection| read::list(connection, bounds, &listing)).await
    }

    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Counted, JournalError> {
        let bounds = self.bounds.history;
        self.read_shared(move |connection| read::count(connection, bounds, kind, member)).await
    }

    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError> {
        let (bounds, mut after) = (self.bounds.history, after);
        loop {
            let ends = self.read_shared(move |connection| read::live_ends(connection, kind, after, limit)).await?;
            let begins = std::iter::once(after).chain(ends.iter().copied());
            let parts = begins.zip(&ends).map(|(after, through)| {
                let through = *through;
                self.read_shared(move |connection| read::live(connection, bounds, kind, after, through))
            });
            let mut live = try_join_all(parts).await?.concat();
            live.truncate(limit);
            match ends.last() {
                // All of them have ended meanwhile.
                Some(end) if live.is_empty() && *end != read::NO_END => after = *end,
                _ => return Ok(live),
            }
        }
    }

    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError> {
        let bounds = self.bounds.history;
        self.read_shared(move |connection| read::finished_before(connection, bounds, at, limit)).await
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError> {
        let limit = limit.min(SWEEP_MAX);
        let found = self.read_shared(move |connection| sweep::find(connection, at, limit)).await?;
        let is_limited = found.len() == limit;
        // What has begun anew is found again until that is folded: so where nothing was removed, nothing more can be.
        Ok(!found.is_empty() && self.call(|answer| Work::Sweep { found, answer }).await? > 0 && is_limited)
    }

    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError> {
        let limit = limit.min(SWEEP_MAX);
        let found = self.read_shared(move |connection| trim::find(connection, kind, at, after, limit)).await?;
        let next = found.next;
        if !found.is_empty() {
            self.call(|answer| Work::Trim { found, answer }).await?;
        }
        Ok(next)
    }

    async fn close(&self) -> Result<(), JournalError> {
        let closed = self.call(|answer| Work::Close { answer }).await;
        self.places.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has answered, or is gone: there is next to nothing to wait for.
            let joined = tokio::task::spawn_blocking(|| thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                return Err(JournalError::Unavailable("the thread that writes the journal panicked".into()));
            }
        }
        closed
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.calls = None;
        let thread = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the thread that writes the journal panicked");
        }
    }
}
