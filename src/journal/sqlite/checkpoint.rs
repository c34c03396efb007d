//! Carrying the write-ahead log into the file, beside the writer.
//!
//! SQLite does it inside the commit that fills the log to its mark, and all of it at once: appends would wait for tens of
//! megabytes to be written and synced. So a thread carries most of it before, on a connection that is open for that long
//! only. For the commit, which alone can begin the log anew, it leaves what came meanwhile.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Row};

use super::{error::StoreError, pool::Pool};

/// Pages in the write-ahead log that are not in the file yet, above which they are carried into it.
const CARRY_PAGES: i64 = 1_024;

/// The thread, which ends when this is dropped.
pub(super) struct Checkpointer {
    // None once it is being dropped.
    wake: Option<SyncSender<()>>,
    failed: Arc<Mutex<Option<StoreError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, pool: Arc<Pool>) -> std::io::Result<Self> {
        // Open for as long as there are connections: closing it would take away the locks that SQLite has on the file.
        let file = File::open(path)?;
        let (wake, woken) = sync_channel(1);
        let failed = Arc::<Mutex<Option<StoreError>>>::default();
        let failure = Arc::clone(&failed);
        let work = move || {
            for () in woken {
                // Where there is no room, the log just grows on.
                let carried = pool.write_aside(|connection| carry(connection, &file));
                if let Some(error) = carried.err().filter(StoreError::may_hide_loss) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        };
        let thread = thread::Builder::new().name("journal-wal".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), failed, thread: Some(thread) })
    }

    /// Wakes the thread if there is enough to carry.
    ///
    /// # Errors
    /// Why it could not do so the last time: what it wrote may be lost, although the log is to begin anew.
    pub(super) fn look_at(&self, connection: &Connection) -> Result<(), StoreError> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        if left_by(connection, "PRAGMA wal_checkpoint(NOOP)")? >= CARRY_PAGES
            && let Some(wake) = &self.wake
        {
            // When it is full, the thread is about to look.
            let _ = wake.try_send(());
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn fail(&self) {
        *self.failed.lock().expect("no panic") = Some(StoreError::Sync(std::io::ErrorKind::Other.into()));
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
    left_by(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    // SQLite syncs the file only when it has carried all, and a commit would wait for that.
    file.sync_data().map_err(StoreError::Sync)
}

/// The pages that are not in the file yet after such a checkpoint.
fn left_by(connection: &Connection, pragma: &str) -> Result<i64, StoreError> {
    let left = |row: &Row<'_>| Ok(row.get::<_, i64>("log")? - row.get::<_, i64>("checkpointed")?);
    Ok(connection.prepare_cached(pragma)?.query_row([], left)?)
}
