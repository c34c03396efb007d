//! Whether the rows behind the log are whole: all when a store is opened, those of a channel when it is read.

use rusqlite::Connection;

use super::{
    error::StoreError,
    read::{history, with_origin},
    record::{CHANNEL_COLUMNS, Record},
};
use crate::event::{ChannelName, Class, Event, HistorySize, Seq};

/// Verifies every row of channels, origins and histories, and that histories are what their rows count.
pub(super) fn check_channels(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("SELECT {CHANNEL_COLUMNS} FROM channels"))?;
    let mut rows = statement.query([])?;
    let mut kept = 0_i64;
    while let Some(row) = rows.next()? {
        let record = with_origin(connection, Record::read(row)?)?;
        let events = history(connection, &record.stored, Seq::ZERO, Seq::ZERO)?;
        let ticks: Vec<Seq> =
            events.iter().filter(|event| event.class() == Class::Tick).map(|event| event.seq).collect();
        let tick = [record.tick];
        let counted = if record.tick == Seq::ZERO { &[][..] } else { &tick[..] };
        if ticks != counted || counted_size(&record, &events) != record.size {
            return Err(miscounted(&record.stored.channel));
        }
        kept += i64::try_from(events.len()).unwrap_or(i64::MAX);
    }
    let all: i64 = connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0))?;
    if all == kept {
        Ok(())
    } else {
        Err(StoreError::Damaged("there is history of channels that are not there".into()))
    }
}

/// What the row of a channel counts of these events. The value of a topic is not counted once it is trimmed.
pub(super) fn counted_size(record: &Record, events: &[Event]) -> HistorySize {
    let counts = |event: &&Event| event.class() != Class::Tick && event.seq > record.stored.floor;
    events.iter().filter(counts).fold(HistorySize::default(), HistorySize::with)
}

pub(super) fn miscounted(channel: &ChannelName) -> StoreError {
    StoreError::Damaged(format!("the history of {channel} is not what its row counts"))
}
