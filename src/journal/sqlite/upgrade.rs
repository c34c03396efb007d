//! Upgrading a store of an earlier version, in place: one transaction, with a copy kept beside it.
//!
//! Each version has one step, from the version before it. A step leaves the tables exactly as [`schema`] has them for a new
//! store, since they are compared to the letter: what SQLite cannot alter is made anew and filled. Once a version is
//! released, its fixture in `tests/fixtures/stores/` shows that its step works.

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use rusqlite::Connection;

use super::{
    error::{OpenError, StoreError},
    fold::{SIZE_BYTES, write_record},
    home::{at, beside, private_file, sync_directory},
    record::{CHANNEL_COLUMNS, Record},
    schema,
};

type UpgradeStep = fn(&Connection) -> Result<(), StoreError>;

/// The steps to version 2 and so on.
const STEPS: [UpgradeStep; 2] = [to_2, to_3];

const _: () = assert!(STEPS.len() as i32 + 1 == schema::VERSION, "each version has a step from the one before");

/// Brings a store of an earlier version to this one's, if `check` finds nothing wrong with the outcome.
pub(super) fn upgrade(
    connection: &mut Connection,
    path: &Path,
    version: i32,
    check: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), OpenError> {
    let store = |error: StoreError| error.at_open(path.into());
    let copy = beside(path, &format!(".v{version}"));
    keep_copy(connection, &copy)?;
    let changed = || {
        let transaction = connection.transaction()?;
        let done = usize::try_from(version - 1).unwrap_or(0);
        for step in STEPS.iter().skip(done) {
            step(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", schema::VERSION)?;
        check(&transaction)?;
        Ok(transaction.commit()?)
    };
    changed().map_err(store)?;
    tracing::info!(
        journal.version = schema::VERSION,
        "the journal was upgraded from version {version}; {} is a copy of it as it was",
        copy.display()
    );
    Ok(())
}

/// Copies the store. The copy has its name only when it is whole and on the disk.
fn keep_copy(connection: &Connection, copy: &Path) -> Result<(), OpenError> {
    let new = beside(copy, ".new");
    let file = private_file().truncate(true).open(&new).map_err(at(&new))?;
    let copied = connection.execute("VACUUM INTO CAST(?1 AS TEXT)", [new.as_os_str().as_bytes()]);
    copied.map_err(|error| StoreError::from(error).at_open(new.clone()))?;
    file.sync_all().and_then(|()| fs::rename(&new, copy)).map_err(at(copy))?;
    sync_directory(copy.parent())
}

/// Until then a store had one epoch, which was its name too.
fn to_2(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "ALTER TABLE store RENAME COLUMN epoch TO name;
         CREATE TABLE epochs (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    begun BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;",
    )?;
    let store = schema::read_facts(connection)?.store;
    schema::write_epochs(connection, &store.into())
}

/// Until then the row of a channel did not count the bytes of its history.
fn to_3(connection: &Connection) -> Result<(), StoreError> {
    let indexes = "SELECT group_concat(format('DROP INDEX \"%w\"', name), ';') FROM sqlite_schema
        WHERE type = 'index' AND tbl_name = 'channels' AND sql IS NOT NULL";
    let drop_indexes: Option<String> = connection.query_row(indexes, [], |row| row.get(0))?;
    connection.execute_batch(&drop_indexes.unwrap_or_default())?;
    connection.execute_batch("ALTER TABLE channels RENAME TO channels_2")?;
    connection.execute_batch(schema::CHANNELS)?;
    let bytes = format!(
        "(SELECT coalesce(sum({SIZE_BYTES}), 0) FROM history
          WHERE channel = created AND seq > floor AND class <> 2)"
    );
    let columns = CHANNEL_COLUMNS.replace(" bytes,", &format!(" {bytes},"));
    let mut before = connection.prepare(&format!("SELECT {columns} FROM channels_2"))?;
    let mut rows = before.query([])?;
    while let Some(row) = rows.next()? {
        let record = Record::unverified(row)?;
        record.verify(row, record.checked().finish())?;
        write_record(connection, None, &record)?;
    }
    drop(rows);
    drop(before);
    Ok(connection.execute_batch("DROP TABLE channels_2")?)
}
