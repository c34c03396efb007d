//! Opening: everything that is checked before the first read.
//!
//! # What is checked
//! Always: that the file is ours and of a known version, that the write-ahead log is whole but for a cut-off end, the
//! tables, the row of facts, and every event in the log. A store of up to [`SqliteOptions::check_bytes_max`] is checked whole
//! besides: SQLite's own check of pages and indexes, and the checksum of every row. It takes about a second
//! per 130 MB, which a start can bear; of a bigger store, rows are checked when they are read, so damage in the
//! history of a task that nobody asks for is found when somebody does. Nothing damaged is ever skipped or repaired: the store
//! is refused.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{
    SqliteOptions, check,
    connect::{checkpoint, connect, make_durable},
    error::{OpenError, StoreError},
    home::{Place, WAL_SUFFIX, at, beside, private_file, sync_directory},
    read,
    schema::{self, APPLICATION_ID, Facts, VERSION},
    upgrade::upgrade,
    wal::{self, Wal},
};
use crate::event::Epochs;

/// What is beside the file once it was in use.
const LEFT_BY_A_STORE: [&str; 4] = ["journal.db-wal", "journal.db-shm", "files", "incoming"];
/// Events that are read at a time.
const SLICE_EVENTS: usize = 1_024;

/// A store, and what is known of it.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) facts: Facts,
    pub(super) epochs: Epochs,
}

/// Opens the store and checks it.
pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Opened, OpenError> {
    prepare_file(path)?;
    let cut_off_bytes = look_at_wal(path)?;
    let store = |error: StoreError| error.at_open(path.into());
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(store)?;
    let version = match recognise(&connection, path)? {
        Some(version) => version,
        None => schema::create(&mut connection).map(|()| VERSION).map_err(store)?,
    };
    make_durable(&connection).map_err(store)?;
    if version < VERSION {
        upgrade(&mut connection, path, version, |upgraded| check(upgraded, options).map(drop))?;
    }
    let (facts, epochs) = check(&connection, options).map_err(store)?;
    if !facts.closed {
        let head = schema::read_head(&connection, &facts).map_err(store)?;
        tracing::warn!(
            journal.unfolded_events = head.0 - facts.folded_through.0,
            journal.cut_off_bytes = cut_off_bytes,
            "the last process did not close the journal; everything it committed was recovered"
        );
    }
    if let Some(pages) = options.pages_max {
        connection.pragma_update(None, "max_page_count", pages).map_err(|error| store(error.into()))?;
    }
    Ok(Opened { connection, facts, epochs })
}

/// Opens the store again after an error of the disk.
///
/// What an fsync that failed was to write may be gone from the disk and yet be read from memory, and the next fsync would
/// not say so. So, where `rewrite` is set, all that is read is written again, into the file itself, before anything is
/// appended.
pub(super) fn reopen(place: &Place, before: &Facts, rewrite: bool) -> Result<(Connection, Facts), StoreError> {
    let connection = place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    make_durable(&connection)?;
    if rewrite {
        checkpoint(&connection)?;
    }
    let facts = schema::read_facts(&connection)?;
    if facts.store != before.store {
        return Err(StoreError::Damaged(format!("it is another store, {} and not {}", facts.store, before.store)));
    }
    Ok((connection, facts))
}

/// Makes the file if there is none, readable by its owner only; SQLite gives its other files the same mode.
///
/// Nothing is made where there was a store: after a crash most of it is in the write-ahead log, which SQLite would remove,
/// and files are kept only as long as their store knows them.
fn prepare_file(path: &Path) -> Result<(), OpenError> {
    let is_there = path.metadata().is_ok_and(|file| file.len() > 0);
    let left = LEFT_BY_A_STORE.map(|name| path.with_file_name(name)).into_iter().filter(|left| left.exists());
    let left: Vec<String> = left.map(|left| left.display().to_string()).collect();
    if !is_there && !left.is_empty() {
        return Err(OpenError::Missing { path: path.into(), left: left.join(", ") });
    }
    let file = private_file().open(path).map_err(at(path))?;
    if file.metadata().map_err(at(path))?.len() == 0 {
        file.sync_all().map_err(at(path))?;
        sync_directory(path.parent())?;
    }
    Ok(())
}

fn look_at_wal(path: &Path) -> Result<u64, OpenError> {
    let wal_path = beside(path, WAL_SUFFIX);
    match wal::look(&wal_path).map_err(at(&wal_path))? {
        Wal::Empty | Wal::Whole => Ok(0),
        Wal::CutOff { bytes } => {
            tracing::warn!(
                journal.cut_off_bytes = bytes,
                "the journal ends with an incomplete write that was never acknowledged; it is discarded"
            );
            Ok(bytes)
        }
        Wal::Damaged => {
            Err(OpenError::Damaged { path: wal_path, what: "its checksum is wrong before the last commit".into() })
        }
    }
}

/// Tells our store from another's file, before anything of it is changed. Answers its version, or none for a file in which
/// nothing has been made yet.
pub(super) fn recognise(connection: &Connection, path: &Path) -> Result<Option<i32>, OpenError> {
    let store = |error: StoreError| error.at_open(path.into());
    let number = |pragma| {
        let read = connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        read.map_err(StoreError::from)
    };
    let application_id = match number("application_id") {
        // SQLite cannot even read its header: it was never a database, or it is damaged; either way not ours to touch.
        Err(StoreError::Damaged(_)) => return Err(OpenError::NotAJournal(path.into())),
        other => other.map_err(store)?,
    };
    let version = number("user_version").map_err(store)?;
    if application_id == APPLICATION_ID && (1..=VERSION).contains(&version) {
        return Ok(Some(version));
    }
    if application_id == APPLICATION_ID && version > VERSION {
        return Err(OpenError::Newer { path: path.into(), found: version, supported: VERSION });
    }
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| store(error.into()));
    // A new file, or one whose making was cut off: that was one transaction, so there is nothing in it.
    let is_new = count("SELECT count(*) FROM sqlite_schema")? == 0 && count("PRAGMA page_count")? <= 1;
    if application_id != 0 || !is_new { Err(OpenError::NotAJournal(path.into())) } else { Ok(None) }
}

/// Checks what is in it; see the module's page.
pub(super) fn check(connection: &Connection, options: &SqliteOptions) -> Result<(Facts, Epochs), StoreError> {
    schema::check_tables(connection)?;
    let facts = schema::read_facts(connection)?;
    let epochs = schema::read_epochs(connection, &facts)?;
    let bytes: i64 =
        connection.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            row.get(0)
        })?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= options.check_bytes_max) {
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(StoreError::Damaged(found));
        }
        check::check_channels(connection)?;
    }
    let head = schema::read_head(connection, &facts)?;
    let mut through = facts.trimmed_through;
    loop {
        let events = read::events_after(connection, through, SLICE_EVENTS)?;
        let Some(last) = events.last() else { break };
        through = last.seq;
    }
    if through != head {
        return Err(StoreError::Damaged(format!("the log has no events from {} to {head}", through.next())));
    }
    Ok((facts, epochs))
}
