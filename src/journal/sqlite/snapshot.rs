//! A copy of the store as it is at one moment, beside the process that serves from it.

use std::path::Path;

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use super::{
    SqliteOptions,
    connect::connect,
    error::{OpenError, StoreError},
    home::{FILE, at},
    open, schema,
};

/// Copies the journal of a data directory to `copy`, an empty file or none, and checks the whole copy.
///
/// Meanwhile the process that serves goes on; its write-ahead log is not emptied until this is done.
///
/// # Errors
/// When there is no journal, it is not ours or damaged, or the copy cannot be written.
pub fn copy_journal(data_dir: &Path, copy: &Path) -> Result<(), OpenError> {
    let path = data_dir.join(FILE);
    path.metadata().map_err(at(&path))?;
    let source = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| error.at_open(path.clone()))?;
    if open::recognise(&source, &path)?.is_none() {
        return Err(OpenError::NotAJournal(path));
    }
    copy_whole(&source, copy).map_err(|error| error.at_open(copy.into()))?;
    check_journal(copy)
}

fn copy_whole(source: &Connection, copy: &Path) -> Result<(), StoreError> {
    let mut copy = Connection::open(copy)?;
    // All pages in one step, which is one read of the store. A commit does not wait for reads, nor they for it.
    let step = Backup::new(source, &mut copy)?.step(-1)?;
    match step {
        StepResult::Done => {}
        other => return Err(StoreError::Damaged(format!("SQLite stopped copying it: {other:?}"))),
    }
    // One file, with no log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
    Ok(copy.close().map_err(|(_, error)| error)?)
}

/// Checks a whole store that no process serves from.
///
/// # Errors
/// When it is not ours, of a newer version, or damaged.
pub fn check_journal(path: &Path) -> Result<(), OpenError> {
    let store = |error: StoreError| error.at_open(path.into());
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(store)?;
    // An older one is checked when it is upgraded.
    if open::recognise(&connection, path)? == Some(schema::VERSION) {
        let whole = SqliteOptions { check_bytes_max: u64::MAX, ..SqliteOptions::default() };
        open::check(&connection, &whole).map_err(store)?;
    }
    Ok(())
}
