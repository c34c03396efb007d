//! The tables, their version, and the one row of facts about the store.
//!
//! # Why these tables
//! `events` is the log: an append only adds rows at its right edge. It has no index but its seq, because an index by
//! channel would make each batch rewrite one page a channel. The fold, which coalesces, writes what is looked up by
//! channel: `channels` (one row each), `history` (its visible events) and `origins`. The log is trimmed from its left
//! edge, whole pages at a time. All seqs after `trimmed_through` are in it without a gap, so that the head
//! needs no row of its own: it is the last seq in the log or, when the log is empty, `folded_through`, at or below
//! which alone is trimmed. So a seq is never given twice, and an append writes no other page.
//!
//! `epochs` is apart from `store`, because the fold writes that row with each slice.
//!
//! A channel's key in `history` and `origins` is the seq of its first event. Rows carry a checksum ([`super::record`]),
//! because SQLite has none for its pages.

use rusqlite::{Connection, OptionalExtension};

use super::{error::StoreError, record};
use crate::event::{Epoch, Epochs, Seq};

/// `progressd`'s mark in the header of the file, so that another's database is not taken for a journal: "prgd".
pub(super) const APPLICATION_ID: i32 = 0x7072_6764;

/// The version of these tables.
pub(super) const VERSION: i32 = 3;

const TABLES: [&str; 2] = [OTHER_TABLES, CHANNELS];

const OTHER_TABLES: &str = "
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    folded_through INTEGER NOT NULL,
    trimmed_through INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

CREATE TABLE epochs (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    begun BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    class INTEGER NOT NULL,
    channel TEXT NOT NULL,
    grouped BLOB NOT NULL,
    name TEXT,
    data BLOB NOT NULL,
    memo BLOB,
    origin BLOB,
    checksum INTEGER NOT NULL
) STRICT;

CREATE TABLE history (
    seq INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    at INTEGER NOT NULL,
    class INTEGER NOT NULL,
    grouped BLOB NOT NULL,
    name TEXT,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX history_by_channel ON history (channel);

CREATE TABLE origins (
    channel INTEGER PRIMARY KEY,
    origin BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
";

/// One row a channel.
pub(super) const CHANNELS: &str = "
CREATE TABLE channels (
    created INTEGER PRIMARY KEY,
    channel TEXT NOT NULL UNIQUE,
    channel_kind TEXT NOT NULL,
    last INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    lasting INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    finished_at INTEGER,
    gone INTEGER NOT NULL,
    status TEXT,
    kind TEXT,
    user_id TEXT,
    queue TEXT,
    visible INTEGER,
    visible_at INTEGER,
    visible_class INTEGER,
    visible_grouped BLOB,
    visible_name TEXT,
    data BLOB,
    memo BLOB,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX channels_by_status ON channels (channel_kind, status, created) WHERE status IS NOT NULL;
CREATE INDEX channels_by_kind ON channels (channel_kind, kind, created) WHERE kind IS NOT NULL;
CREATE INDEX channels_by_user ON channels (channel_kind, user_id, created) WHERE user_id IS NOT NULL;
CREATE INDEX channels_by_queue ON channels (channel_kind, queue, created) WHERE queue IS NOT NULL;
CREATE INDEX channels_live ON channels (channel_kind, created) WHERE finished_at IS NULL AND gone = 0;
CREATE INDEX channels_finished ON channels (finished_at, created) WHERE finished_at IS NOT NULL AND gone = 0;
CREATE INDEX channels_sweepable ON channels (last_at) WHERE gone = 1 OR channel_kind = 'key';
";

/// Bytes of one epoch: its first seq and its name.
const EPOCH_BYTES: usize = 16;

/// What is known of the store as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its name.
    pub(super) store: Epoch,
    /// All events at or before it are in the channels' rows.
    pub(super) folded_through: Seq,
    /// All events at or before it have been removed from the log.
    pub(super) trimmed_through: Seq,
    /// Whether the last process that used it closed it.
    pub(super) closed: bool,
}

impl Facts {
    fn checksum(&self) -> i64 {
        record::Checksum::new()
            .bytes(self.store.as_str().as_bytes())
            .seq(self.folded_through)
            .seq(self.trimmed_through)
            .number(i64::from(self.closed))
            .finish()
    }
}

/// Makes the tables of a new store in one transaction.
pub(super) fn create(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    TABLES.iter().try_for_each(|tables| transaction.execute_batch(tables))?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    let facts = Facts { store: Epoch::random(), folded_through: Seq::ZERO, trimmed_through: Seq::ZERO, closed: true };
    transaction.execute("INSERT INTO store VALUES (1, '', 0, 0, 0, 0)", [])?;
    write_facts(&transaction, &facts)?;
    write_epochs(&transaction, &facts.store.into())?;
    transaction.commit()?;
    Ok(())
}

/// Verifies that the tables are those of this version, to the letter: they are text in the file like any other.
pub(super) fn check_tables(connection: &Connection) -> Result<(), StoreError> {
    let model = Connection::open_in_memory()?;
    TABLES.iter().try_for_each(|tables| model.execute_batch(tables))?;
    if table_texts(connection)? == table_texts(&model)? {
        Ok(())
    } else {
        Err(StoreError::Damaged(format!("its tables are not those of version {VERSION}")))
    }
}

fn table_texts(connection: &Connection) -> Result<Vec<[Option<String>; 4]>, StoreError> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")?;
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads the one row of facts.
pub(super) fn read_facts(connection: &Connection) -> Result<Facts, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT name, folded_through, trimmed_through, closed, checksum FROM store WHERE id = 1")?;
    let mut rows = statement.query([])?;
    let row = rows.next()?.ok_or_else(|| StoreError::Damaged("its row of facts is missing".into()))?;
    let name: String = row.get(0)?;
    let facts = Facts {
        store: name.parse().map_err(|_| StoreError::Damaged("its name is not one".into()))?,
        folded_through: record::seq_at(row, 1)?,
        trimmed_through: record::seq_at(row, 2)?,
        closed: row.get(3)?,
    };
    record::verify(row.get(4)?, facts.checksum(), || "its row of facts".into())?;
    if facts.trimmed_through > facts.folded_through {
        return Err(StoreError::Damaged("more of the log was trimmed than was folded".into()));
    }
    Ok(facts)
}

/// Replaces the one row of facts.
pub(super) fn write_facts(connection: &Connection, facts: &Facts) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE store SET name = ?1, folded_through = ?2, trimmed_through = ?3, closed = ?4, checksum = ?5
             WHERE id = 1",
        )?
        .execute((
            facts.store.as_str(),
            record::signed(facts.folded_through),
            record::signed(facts.trimmed_through),
            facts.closed,
            facts.checksum(),
        ))?;
    Ok(())
}

/// Reads the epochs: names of equal length, each behind its first seq.
pub(super) fn read_epochs(connection: &Connection, facts: &Facts) -> Result<Epochs, StoreError> {
    let row = connection.query_row("SELECT begun, checksum FROM epochs", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (begun, checksum): (Vec<u8>, i64) = row.optional()?.ok_or_else(|| damaged_epochs("are missing"))?;
    record::verify(checksum, epochs_checksum(&begun), || "its epochs".into())?;
    let (pairs, rest) = begun.as_chunks::<EPOCH_BYTES>();
    let pair = |pair: &[u8; EPOCH_BYTES]| {
        let (first, name) = pair.split_first_chunk()?;
        Some((Seq(u64::from_be_bytes(*first)), std::str::from_utf8(name).ok()?.parse().ok()?))
    };
    let begun = pairs.iter().map(pair).collect::<Option<Vec<_>>>().filter(|_| rest.is_empty());
    begun.and_then(|begun| Epochs::new(facts.store, begun)).ok_or_else(|| damaged_epochs("cannot be read"))
}

/// Replaces the epochs.
pub(super) fn write_epochs(connection: &Connection, epochs: &Epochs) -> Result<(), StoreError> {
    let begun = epochs.begun();
    let pairs = begun.iter().flat_map(|(first, epoch)| [first.0.to_be_bytes(), *epoch.as_bytes()]);
    let begun: Vec<u8> = pairs.flatten().collect();
    let checksum = epochs_checksum(&begun);
    connection.execute("INSERT OR REPLACE INTO epochs VALUES (1, ?1, ?2)", (begun, checksum))?;
    Ok(())
}

fn epochs_checksum(begun: &[u8]) -> i64 {
    record::Checksum::new().bytes(begun).finish()
}

fn damaged_epochs(how: &str) -> StoreError {
    StoreError::Damaged(format!("its epochs {how}"))
}

/// The seq of the last event.
pub(super) fn read_head(connection: &Connection, facts: &Facts) -> Result<Seq, StoreError> {
    let last: Option<i64> =
        connection.prepare_cached("SELECT max(seq) FROM events")?.query_row([], |row| row.get(0))?;
    let last = Seq(u64::try_from(last.unwrap_or(0)).unwrap_or(0));
    if last > Seq::ZERO && last < facts.folded_through {
        return Err(StoreError::Damaged(format!("the log ends at {last}, before what was folded")));
    }
    Ok(last.max(facts.folded_through))
}
