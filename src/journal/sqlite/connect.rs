//! Connections to the file, and how each is set.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig, types::Value};

use super::error::StoreError;

/// Pages in the write-ahead log at which a commit also carries them into the file.
///
/// Where the file cannot grow at that moment, the log just grows on; the next commit tries again.
pub(super) const CHECKPOINT_PAGES: i64 = 16_384;
/// The most bytes of the log's file that are kept for when it begins anew: those pages with their headers.
const LOG_BYTES_KEPT: i64 = CHECKPOINT_PAGES * (4_096 + 24);
/// How long to wait for a lock that another process has.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a connection for reading or for writing.
pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // The last connection to close would otherwise write to the file, also after an error, when nothing may.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Sets a connection up for durable commits: each commit is on the disk when it returns.
///
/// SQLite does not report a mode that it cannot enter, so what promises rest on is read back.
pub(super) fn make_durable(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "cache_size", -16_384)?;
    let full = 2;
    for (pragma, wanted) in [
        ("journal_mode", Value::from("wal".to_owned())),
        ("synchronous", Value::from(full)),
        ("wal_autocheckpoint", Value::from(CHECKPOINT_PAGES)),
        ("journal_size_limit", Value::from(LOG_BYTES_KEPT)),
    ] {
        connection.pragma_update(None, pragma, &wanted)?;
        let found: Value = connection.pragma_query_value(None, pragma, |row| row.get(0))?;
        if found != wanted {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            let what = format!("SQLite answers {found:?} to {pragma} = {wanted:?}");
            return Err(rusqlite::Error::SqliteFailure(code, Some(what)).into());
        }
    }
    Ok(())
}

/// Carries the whole write-ahead log into the file and empties it. No other connection may be open.
pub(super) fn checkpoint(connection: &Connection) -> Result<(), StoreError> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(code, None).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_database_that_cannot_be_durable() {
        let in_memory = Connection::open_in_memory().unwrap();
        let refused = make_durable(&in_memory).unwrap_err();
        assert!(refused.to_string().contains("journal_mode"), "{refused}");
    }
}
