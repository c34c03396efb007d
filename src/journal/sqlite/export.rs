//! A whole store, row by row, for whoever moves it into another journal. No process serves from it meanwhile.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Params, Row};

use super::{
    SqliteJournal, SqliteOptions,
    error::{OpenError, StoreError},
    home::{FILE, Home, at},
    read,
    record::{self, CHANNEL_COLUMNS, HISTORY_COLUMNS, Record, signed},
    schema,
};
use crate::{
    event::{Epochs, Event, HistoryBounds, Seq},
    journal::{Journal, MovedChannel, MovedEvent},
};

/// Rows that are read at once.
const SLICE: usize = 1_000;

/// A store that was checked whole, is folded, and is this process's alone.
pub struct SqliteExport {
    connection: Connection,
    home: Home,
    epochs: Epochs,
    head: Seq,
    trimmed_through: Seq,
}

impl SqliteExport {
    /// Opens the journal of a data directory as a start and an orderly end would: an older one is upgraded, all of it is
    /// checked and folded.
    ///
    /// # Errors
    /// When there is none, a process uses it, or it is another's, newer or damaged.
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(FILE);
        path.metadata().map_err(at(&path))?;
        // Nothing is trimmed on the way.
        let everything = SqliteOptions {
            history: HistoryBounds::from(usize::MAX),
            log: usize::MAX,
            check_bytes_max: u64::MAX,
            ..SqliteOptions::default()
        };
        let journal = SqliteJournal::open(directory, &everything)?;
        let closed = journal.close().await;
        drop(journal);
        closed.map_err(|error| OpenError::Damaged { path: path.clone(), what: error.to_string() })?;

        let home = Home::enter(directory)?;
        let store = |error: StoreError| error.at_open(path.clone());
        let connection = home.place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(store)?;
        let facts = schema::read_facts(&connection).map_err(store)?;
        let head = schema::read_head(&connection, &facts).map_err(store)?;
        if !facts.closed || facts.folded_through != head {
            return Err(OpenError::InUse(directory.into()));
        }
        let epochs = schema::read_epochs(&connection, &facts).map_err(store)?;
        Ok(Self { connection, home, epochs, head, trimmed_through: facts.trimmed_through })
    }

    /// Its epochs.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Seq of its last event.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// Highest seq that was trimmed from its log.
    pub fn trimmed_through(&self) -> Seq {
        self.trimmed_through
    }

    /// How many events, channels, events of histories and origins there are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn counts(&self) -> Result<[u64; 4], OpenError> {
        let tables = ["events", "channels", "history", "origins"];
        let [events, channels, history, origins] =
            tables.map(|table| self.rows(&format!("SELECT count(*) FROM {table}"), [], |row| record::seq_at(row, 0)));
        let count = |counted: Result<Vec<Seq>, OpenError>| Ok(counted?.first().map_or(0, |count| count.0));
        Ok([count(events)?, count(channels)?, count(history)?, count(origins)?])
    }

    /// The next events of the log after a seq.
    ///
    /// # Errors
    /// When the file cannot be read, or a row is not what was written.
    pub fn events(&self, after: Seq) -> Result<Vec<Event>, OpenError> {
        read::events_after(&self.connection, after.max(self.trimmed_through), SLICE)
            .map_err(|error| error.at_open(self.home.place.file.clone()))
    }

    /// The next channels after that of a seq, tombstones too; without their origins.
    ///
    /// # Errors
    /// See [`SqliteExport::events`].
    pub fn channels(&self, after: Seq) -> Result<Vec<MovedChannel>, OpenError> {
        let sql = format!("SELECT {CHANNEL_COLUMNS} FROM channels WHERE created > ?1 ORDER BY created LIMIT {SLICE}");
        self.rows(&sql, [signed(after)], |row| {
            let Record { stored, last_at, size, tick, members } = Record::read(row)?;
            Ok(MovedChannel { stored, last_at, size, tick, members })
        })
    }

    /// The next events of the histories of channels after a seq.
    ///
    /// # Errors
    /// See [`SqliteExport::events`].
    pub fn history(&self, after: Seq) -> Result<Vec<MovedEvent>, OpenError> {
        let columns: Vec<_> = HISTORY_COLUMNS.split(", ").map(|column| format!("h.{column}")).collect();
        let sql = format!(
            "SELECT {}, c.channel FROM history h JOIN channels c ON c.created = h.channel \
             WHERE h.seq > ?1 ORDER BY h.seq LIMIT {SLICE}",
            columns.join(", ")
        );
        self.rows(&sql, [signed(after)], |row| {
            let channel = record::channel_at(row, 8)?;
            Ok(MovedEvent { channel: record::seq_at(row, 1)?, event: record::kept_event(row, &channel)? })
        })
    }

    /// The next origins of channels after that of a seq, each with the channel's.
    ///
    /// # Errors
    /// See [`SqliteExport::events`].
    pub fn origins(&self, after: Seq) -> Result<Vec<(Seq, Vec<u8>)>, OpenError> {
        let sql =
            format!("SELECT channel, origin, checksum FROM origins WHERE channel > ?1 ORDER BY channel LIMIT {SLICE}");
        self.rows(&sql, [signed(after)], |row| {
            let (channel, origin) = (record::seq_at(row, 0)?, row.get::<_, Vec<u8>>(1)?);
            record::verify(row.get(2)?, record::origin_checksum(channel, &origin), || format!("origin {channel}"))?;
            Ok((channel, origin))
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, OpenError> {
        let all = || -> Result<Vec<T>, StoreError> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(values)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        };
        all().map_err(|error| error.at_open(self.home.place.file.clone()))
    }
}
