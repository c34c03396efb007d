//! The stores that the tests of the core run on.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use proptest::{prelude::*, test_runner::TestRunner};
use tempfile::TempDir;

use crate::{
    journal::{
        Journal,
        sqlite::{SqliteJournal, SqliteOptions},
    },
    testing::{FaultyJournal, MemoryJournal, TestStore},
};

/// What a test runs on.
#[derive(Clone, Copy, Debug)]
pub(in crate::tracker) enum Store {
    Memory,
    Sqlite,
}

impl Store {
    /// An empty store.
    pub(super) fn open(self) -> FaultyJournal<dyn TestStore> {
        self.bounded(1_000, 65_536)
    }

    /// One that keeps so many changes and finals per channel, and so many events in the log.
    pub(super) fn bounded(self, history: usize, log: usize) -> FaultyJournal<dyn TestStore> {
        let store: Arc<dyn TestStore> = match self {
            Self::Memory => MemoryJournal::with_bounds(history, log).into_store(),
            Self::Sqlite => {
                let options = SqliteOptions { history: history.into(), log, ..SqliteOptions::default() };
                Arc::new(StoreInSqlite::open(Arc::new(tempfile::tempdir().unwrap()), options))
            }
        };
        FaultyJournal::around(store)
    }
}

/// Holds a store to what `run` says of any acts, with a clock that moves only when all wait for it.
pub(super) fn any_acts<A: Debug>(
    store: Store,
    act: impl Strategy<Value = A>,
    run: impl AsyncFn(Vec<A>) -> Result<(), TestCaseError>,
) {
    let cases = match store {
        Store::Memory => 256,
        // Each commit reaches the disk.
        Store::Sqlite => 12,
    };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let held = TestRunner::new(config).run(&prop::collection::vec(act, 1..60), |acts| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(acts))
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

/// A journal in a file of a directory that goes with its last handle.
struct StoreInSqlite {
    journal: SqliteJournal,
    options: SqliteOptions,
    directory: Arc<TempDir>,
}

impl StoreInSqlite {
    fn open(directory: Arc<TempDir>, options: SqliteOptions) -> Self {
        Self { journal: SqliteJournal::open(directory.path(), &options).unwrap(), options, directory }
    }
}

#[async_trait]
impl TestStore for StoreInSqlite {
    fn journal(&self) -> &dyn Journal {
        &self.journal
    }

    async fn fold(&self) {
        self.journal.fold().await.unwrap();
    }

    fn has_threads(&self) -> bool {
        true
    }

    fn reopened(&self) -> Arc<dyn TestStore> {
        Arc::new(Self::open(Arc::clone(&self.directory), self.options.clone()))
    }
}
