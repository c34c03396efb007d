//! What can go wrong with the database, and what callers are told of it.

use std::{error::Error as _, path::PathBuf};

use deadpool_postgres::{HookError, PoolError};
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::open::VERSION;
use crate::journal::{JournalError, column::Damage};

/// Why a journal could not be opened. No message names the password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseRefused {
    /// The URL is none, or what it needs is not there.
    #[error("the store's URL cannot be used: {0}")]
    Address(String),
    /// The database does not answer, or refuses.
    #[error("cannot use the database {place}: {reason}")]
    Unavailable {
        /// Host, port and name of the database.
        place: String,
        /// What it says.
        reason: String,
    },
    /// Another process is this node.
    #[error("another progressd is using the data directory {}: each node needs one of its own", .0.display())]
    NodeInUse(PathBuf),
    /// The node's name cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    Directory {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store was made by a newer progressd.
    #[error(
        "the store in the database {place} has version {found}, and this progressd supports versions up to \
         {supported}: use the newer progressd"
    )]
    Newer {
        /// Host, port and name of the database.
        place: String,
        /// Its version.
        found: i32,
        /// The newest version that this program knows.
        supported: i32,
    },
    /// The store holds something that it cannot have been given.
    #[error("the store in the database {place} is damaged: {what}; restore it from a backup")]
    Damaged {
        /// Host, port and name of the database.
        place: String,
        /// What was found.
        what: String,
    },
}

/// Why work on the database failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("the journal is closed")]
    Closed,
    /// It was not asked, or has refused: nothing was written.
    #[error("{0}")]
    Away(String),
    /// It was asked and has not answered: what was asked for may be committed.
    #[error("{0}")]
    Lost(String),
    #[error("the database has no room left: {0}")]
    Full(String),
    #[error("events after the known head have been trimmed")]
    Lapsed,
    /// It goes on as another life of the store than the one that is known.
    #[error("the store has begun another life")]
    NewLife,
    /// It is of a newer progressd.
    #[error("the store has version {0}")]
    Newer(i32),
    #[error("{0}")]
    Damaged(String),
}

impl From<Damage> for DatabaseError {
    fn from(Damage(what): Damage) -> Self {
        Self::Damaged(what)
    }
}

impl DatabaseError {
    /// The one row of the store's facts is not there.
    pub(super) fn no_facts() -> Self {
        Self::Damaged("its row of facts is missing".into())
    }

    /// Of a statement that was sent.
    pub(super) fn after_sending(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::of_refusal(refusal),
            None => Self::Lost(describe(error)),
        }
    }

    /// Of a connection, and of a statement that was not sent.
    pub(super) fn before_sending(error: &tokio_postgres::Error) -> Self {
        match Self::after_sending(error) {
            Self::Lost(reason) => Self::Away(reason),
            refused => refused,
        }
    }

    pub(super) fn of_pool(error: PoolError) -> Self {
        match error {
            PoolError::Closed => Self::Closed,
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::before_sending(&error)
            }
            PoolError::Timeout(_) => Self::Away("no connection to the database is free".into()),
            PoolError::PostCreateHook(HookError::Message(reason)) => Self::Away(reason.into()),
            PoolError::NoRuntimeSpecified => Self::Away(error.to_string()),
        }
    }

    fn of_refusal(refusal: &DbError) -> Self {
        let text = refusal.message().to_owned();
        let is_fatal = matches!(refusal.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        match refusal.code() {
            // The connection ends with it, and that may be after a commit.
            _ if is_fatal => Self::Lost(text),
            code if code.code() == "PDLAP" => Self::Lapsed,
            code if code.code() == "PDEPO" => Self::NewLife,
            code if code.code() == "PDHED" => Self::Damaged(text),
            &SqlState::DISK_FULL => Self::Full(text),
            &SqlState::DATA_CORRUPTED
            | &SqlState::INDEX_CORRUPTED
            | &SqlState::UNIQUE_VIOLATION
            | &SqlState::UNDEFINED_COLUMN
            | &SqlState::UNDEFINED_TABLE
            | &SqlState::UNDEFINED_FUNCTION
            | &SqlState::INVALID_SCHEMA_NAME => Self::Damaged(text),
            _ => Self::Away(text),
        }
    }

    /// What the opener is told.
    pub(super) fn at_open(self, place: &str) -> DatabaseRefused {
        let place = place.to_owned();
        match self {
            Self::Damaged(what) => DatabaseRefused::Damaged { place, what },
            Self::Newer(found) => DatabaseRefused::Newer { place, found, supported: VERSION },
            other => DatabaseRefused::Unavailable { place, reason: other.to_string() },
        }
    }
}

impl From<DatabaseError> for JournalError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Full(_) => Self::Full,
            DatabaseError::Damaged(what) => Self::Damaged(what),
            // What was known is of another life: it is loaded anew.
            DatabaseError::Lapsed | DatabaseError::NewLife => Self::Lapsed,
            DatabaseError::Closed | DatabaseError::Newer(_) | DatabaseError::Away(_) | DatabaseError::Lost(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// The error with what caused it; the library's own text says only where it happened.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let reason = next.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = next.source();
    }
    text
}
