//! Connections to the file, and how each is set.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::error::StoreError;

/// Pages in the write-ahead log at which a commit also carries them into the file.
///
/// Where the file cannot grow at that moment, the log just grows on; the next commit tries again.
const CHECKPOINT_PAGES: i64 = 16_384;

/// Opens a connection for reading or for writing.
pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // The last connection to close would otherwise write to the file, also after an error, when nothing may.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Sets a connection up for durable commits: each commit is on the disk when it returns.
pub(super) fn make_durable(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
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
