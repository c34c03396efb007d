//! Carrying the write-ahead log into the file, beside the writer, and keeping the log small.
//!
//! SQLite does it inside the commit that fills the log to its mark, and all of it at once: appends would wait for tens of
//! megabytes to be written and synced. So a thread carries most of it before, on a connection that is open for that long
//! only. For the commit, which alone can begin the log anew, it leaves what came meanwhile.
//!
//! While reads overlap, no commit can begin the log anew. Where it has outgrown its mark by much, reads wait for a moment
//! and it is emptied; when nothing has come for a while, it is emptied too.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;

use super::{
    connect::{BUSY_TIMEOUT, CHECKPOINT_PAGES},
    error::StoreError,
    pool::Pool,
};

/// Pages in the write-ahead log that are not in the file yet, above which they are carried into it.
const CARRY_PAGES: i64 = 1_024;
/// Pages in the write-ahead log at which reads are held so that it can begin anew.
const PAGES_MAX: i64 = CHECKPOINT_PAGES + 2 * CARRY_PAGES;
/// Rows, or as much, that are written before the log is looked at again: that takes a tenth of a small commit's time.
const LOOK_WEIGHT: usize = 64;
/// What a commit weighs beside its rows.
const COMMIT_WEIGHT: usize = 2;
/// How long appends wait for the reads that run at that moment.
const READS_WAIT_MAX: Duration = Duration::from_millis(500);
/// With nothing to do for so long, a log that has grown is emptied.
pub(super) const QUIET: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(10) };

/// The thread, which ends when this is dropped.
pub(super) struct Checkpointer {
    pool: Arc<Pool>,
    pages_max: i64,
    /// What was written since the log was looked at.
    unseen_weight: usize,
    has_grown: bool,
    // None once it is being dropped.
    wake: Option<SyncSender<()>>,
    pub(super) failed: Arc<Mutex<Option<StoreError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, pool: Arc<Pool>) -> std::io::Result<Self> {
        // Open for as long as there are connections: closing it would take away the locks that SQLite has on the file.
        let file = File::open(path)?;
        let (wake, woken) = sync_channel(1);
        let failed = Arc::<Mutex<Option<StoreError>>>::default();
        let failure = Arc::clone(&failed);
        let beside = Arc::clone(&pool);
        let work = move || {
            for () in woken {
                // Where there is no room, the log just grows on.
                let carried = beside.write_aside(|connection| carry(connection, &file));
                if let Some(error) = carried.err().filter(StoreError::may_hide_loss) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        };
        let thread = thread::Builder::new().name("journal-wal".into()).spawn(work)?;
        Ok(Self {
            pool,
            pages_max: PAGES_MAX,
            unseen_weight: 0,
            has_grown: false,
            wake: Some(wake),
            failed,
            thread: Some(thread),
        })
    }

    /// Notes that something was committed.
    pub(super) fn note(&mut self, weight: usize) {
        self.unseen_weight += COMMIT_WEIGHT + weight;
    }

    /// Looks how long the log is, after enough was written, and lets something be done about it.
    ///
    /// # Errors
    /// Why what was carried may be lost, although the log is to begin anew.
    pub(super) fn look_at(&mut self, connection: &Connection) -> Result<(), StoreError> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        if self.unseen_weight < LOOK_WEIGHT {
            return Ok(());
        }
        self.unseen_weight = 0;
        let log = WalLength::after(connection, "PRAGMA wal_checkpoint(NOOP)")?;
        self.has_grown |= log.pages >= CARRY_PAGES;
        if log.pages - log.carried >= CARRY_PAGES
            && let Some(wake) = &self.wake
        {
            // When it is full, the thread is about to look.
            let _ = wake.try_send(());
        }
        if log.pages < self.pages_max {
            return Ok(());
        }
        let emptied = if self.pool.pause_within(READS_WAIT_MAX) { self.empty(connection) } else { Ok(()) };
        self.pool.resume();
        // A read may last long, also one of another process. The log is left alone until it has grown by as much again.
        self.pages_max = if self.has_grown { log.pages + CHECKPOINT_PAGES } else { PAGES_MAX };
        emptied
    }

    /// Whether the log has grown since it was emptied.
    pub(super) fn has_grown(&self) -> bool {
        self.has_grown
    }

    /// Empties the log if nobody reads.
    pub(super) fn empty(&mut self, connection: &Connection) -> Result<(), StoreError> {
        connection.busy_timeout(Duration::ZERO)?;
        let log = WalLength::after(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
        connection.busy_timeout(BUSY_TIMEOUT)?;
        match log {
            Ok(log) => self.has_grown = log.is_busy,
            Err(error) if error.may_hide_loss() => return Err(error),
            // There is no room in the file: the log just grows on.
            Err(_) => {}
        }
        Ok(())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that checkpoints the journal panicked");
        }
    }
}

/// Carries what can be carried without waiting for anybody.
fn carry(connection: &Connection, file: &File) -> Result<(), StoreError> {
    WalLength::after(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    // SQLite syncs the file only when it has carried all, and a commit would wait for that.
    file.sync_data().map_err(StoreError::Sync)
}

/// The write-ahead log after a checkpoint.
struct WalLength {
    is_busy: bool,
    pages: i64,
    carried: i64,
}

impl WalLength {
    fn after(connection: &Connection, pragma: &str) -> Result<Self, StoreError> {
        let mut statement = connection.prepare_cached(pragma)?;
        let log = statement
            .query_row([], |row| Ok(Self { is_busy: row.get(0)?, pages: row.get(1)?, carried: row.get(2)? }))?;
        Ok(log)
    }
}
