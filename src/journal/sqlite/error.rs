//! What can go wrong with the file, and what callers are told of it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::journal::{JournalError, column::Damage};

/// Why a journal could not be opened. Each message names the file or directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the data directory.
    #[error("another progressd is using the data directory {}", .0.display())]
    InUse(PathBuf),
    /// The directory or a file in it cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file was not made by progressd.
    #[error("{} is not a journal of progressd; it was left as it is", .0.display())]
    NotAJournal(PathBuf),
    /// The store was made by a newer progressd.
    #[error(
        "{} has version {found}, and this progressd supports versions up to {supported}: use the newer progressd",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The newest version that this program knows.
        supported: i32,
    },
    /// The store holds something that it cannot have been given. Nothing of it was changed.
    #[error(
        "{} is damaged: {what}; restore it from a backup, or move the data directory away to start with an empty journal",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file is gone, or has nothing in it, and what belongs to it is there.
    #[error(
        "{} is missing or empty, but an earlier run left {left}: put its journal.db back, or move these away too to \
         start with an empty journal",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is there.
        left: String,
    },
    /// SQLite cannot use the file.
    #[error("cannot open {}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// Why work on the file failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    #[error("the file could not be synced: {0}")]
    Sync(std::io::Error),
    #[error("the data directory was removed or replaced: {} is not what was opened", .0.display())]
    Displaced(PathBuf),
}

impl From<Damage> for StoreError {
    fn from(Damage(what): Damage) -> Self {
        Self::Damaged(what)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sqlite;
        match error {
            // A value of another type than the column's is not something that was written.
            Sqlite::InvalidColumnType(..)
            | Sqlite::FromSqlConversionFailure(..)
            | Sqlite::IntegralValueOutOfRange(..)
            | Sqlite::Utf8Error(..) => Self::Damaged(error.to_string()),
            _ => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
                _ => Self::Sqlite(error),
            },
        }
    }
}

impl StoreError {
    /// Whether the disk was full. SQLite has undone the transaction then, and the connection stays good.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    /// Whether what was written may not have reached the disk although it reads as though it had.
    ///
    /// Not so where only the shared memory of the connections could not be had, which happens when the disk is full.
    pub(super) fn may_hide_loss(&self) -> bool {
        use rusqlite::ffi;
        if matches!(self, Self::Displaced(_)) {
            return false;
        }
        let Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) = self else { return true };
        let harmless = [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_SHMOPEN,
            ffi::SQLITE_IOERR_SHMSIZE,
            ffi::SQLITE_IOERR_SHMLOCK,
            ffi::SQLITE_IOERR_SHMMAP,
        ];
        !harmless.contains(&error.extended_code)
    }

    /// SQLite's own number for it, for the log.
    pub(super) fn extended_code(&self) -> Option<i32> {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => Some(error.extended_code),
            _ => None,
        }
    }

    /// What the opener is told.
    pub(super) fn at_open(self, path: PathBuf) -> OpenError {
        match self {
            Self::Damaged(what) => OpenError::Damaged { path, what },
            Self::Sqlite(source) => OpenError::Store { path, source },
            Self::Sync(source) => OpenError::Io { path, source },
            Self::Displaced(path) => OpenError::Missing { left: path.display().to_string(), path },
        }
    }
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        let no_room_to_share = error.extended_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
        if error.is_full() || no_room_to_share {
            return Self::Full;
        }
        match error {
            StoreError::Damaged(what) => Self::Damaged(what),
            StoreError::Sqlite(error) => Self::Unavailable(error.to_string()),
            StoreError::Sync(_) | StoreError::Displaced(_) => Self::Unavailable(error.to_string()),
        }
    }
}
