//! The connections for reading: a few, opened when needed, used on the blocking threads.
//!
//! It owns its connections and knows nothing of what is read. The writer can make it wait with none open, because
//! after an error of the disk nothing that was opened before may be used again.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::{connect, error::StoreError, home::Place};
use crate::journal::JournalError;

/// Connections that everybody shares.
pub(super) const SHARED_READERS_MAX: usize = 4;

/// Where a read waits for a connection.
#[derive(Clone, Copy)]
pub(super) enum Line {
    /// With everybody's.
    Shared,
    /// At the one connection for whoever appends, so that appends do not wait for everybody's reads.
    Own,
}

pub(super) struct Pool {
    place: Arc<Place>,
    shared: Arc<Semaphore>,
    own: Arc<Semaphore>,
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<Connection>,
    in_use: usize,
    paused: bool,
    /// Reads are refused, and not only held.
    closed: bool,
}

impl Pool {
    pub(super) fn new(place: Arc<Place>) -> Arc<Self> {
        let (shared, own) = (Arc::new(Semaphore::new(SHARED_READERS_MAX)), Arc::new(Semaphore::new(1)));
        Arc::new(Self { place, shared, own, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Runs a read on a connection of the pool, inside one transaction.
    pub(super) async fn read<T, F>(self: &Arc<Self>, line: Line, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let closed = || JournalError::Unavailable("the journal is closed".into());
        let permits = match line {
            Line::Shared => &self.shared,
            Line::Own => &self.own,
        };
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| closed())?;
        let pool = Arc::clone(self);
        let joined = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let slot = pool.take()?.ok_or_else(closed)?;
            slot.run(work).map_err(JournalError::from)
        })
        .await;
        joined.unwrap_or_else(|error| Err(JournalError::Unavailable(format!("a read failed: {error}"))))
    }

    /// Works on a connection of its own that may write, but not while reads have to wait.
    pub(super) fn write_aside(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.paused || state.closed {
            return Ok(());
        }
        state.in_use += 1;
        drop(state);
        let _slot = ReaderSlot { connection: None, pool: Arc::clone(self) };
        let connection = self.place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connect::make_durable(&connection)?;
        work(&connection)
    }

    /// Waits for running reads, and closes all connections; later reads wait for [`Self::resume`].
    pub(super) fn pause(&self) {
        while !self.pause_within(Duration::MAX) {}
    }

    /// The same, but waits for so long only: false means that reads still run, and connections are open.
    pub(super) fn pause_within(&self, limit: Duration) -> bool {
        let mut state = self.state();
        state.paused = true;
        let waited = self.changed.wait_timeout_while(state, limit, |state| state.in_use > 0);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.in_use == 0 {
            state.idle.clear();
        }
        state.in_use == 0
    }

    pub(super) fn resume(&self) {
        self.end_pause(false);
    }

    /// Refuses the reads that wait, and later ones, until [`Self::resume`].
    pub(super) fn refuse(&self) {
        self.end_pause(true);
    }

    /// Waits for running reads, and refuses later ones for good.
    pub(super) fn close(&self) {
        self.shared.close();
        self.own.close();
        self.pause();
        self.refuse();
    }

    fn end_pause(&self, closed: bool) {
        let mut state = self.state();
        (state.paused, state.closed) = (false, closed);
        drop(state);
        self.changed.notify_all();
    }

    fn take(self: Arc<Self>) -> Result<Option<ReaderSlot>, StoreError> {
        let mut state = self.state();
        while state.paused {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Ok(None);
        }
        state.in_use += 1;
        let idle = state.idle.pop();
        drop(state);
        let mut slot = ReaderSlot { connection: idle, pool: self };
        if slot.connection.is_none() {
            slot.connection = Some(slot.pool.place.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?);
        }
        Ok(Some(slot))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        // The state is whole between its changes, so a panic elsewhere is no reason to stop reading.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use; it goes back when its work has succeeded, and is closed otherwise.
struct ReaderSlot {
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl ReaderSlot {
    fn run<T>(mut self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let Some(mut connection) = self.connection.take() else { return Err(rusqlite::Error::InvalidQuery.into()) };
        let transaction = connection.transaction()?;
        let answer = work(&transaction)?;
        transaction.finish()?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut state = self.pool.state();
        state.in_use -= 1;
        if let Some(connection) = connection.filter(|_| !state.paused) {
            state.idle.push(connection);
        }
        drop(state);
        self.pool.changed.notify_all();
    }
}
