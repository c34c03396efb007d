//! Removing tombstones that nobody may ask for any more.

use rusqlite::{Connection, params};

use super::{
    edge::Edge,
    error::StoreError,
    fold::delete_channel,
    record::{CHANNEL_COLUMNS, Record, signed},
    schema,
};
use crate::{
    event::{ChannelName, Seq, Timestamp},
    journal::column::at_most,
};

/// A channel that may go. Its tombstone is folded, so its row is all that is left of it.
pub(super) struct Swept {
    channel: ChannelName,
    created: Seq,
    tombstone: Seq,
}

/// Finds the oldest tombstones decided before `at`, at most `limit`.
///
/// The index has keys that are in use as well, and this walks over them: so it is for a reader. What is folded ahead of
/// `folded_through` stays, since its events are in the log and would be folded again.
pub(super) fn find(connection: &Connection, at: Timestamp, limit: usize) -> Result<Vec<Swept>, StoreError> {
    let mut statement = connection.prepare_cached(&find_sql())?;
    let folded_through = schema::read_facts(connection)?.folded_through;
    let mut rows = statement.query(params![at.as_millis(), signed(folded_through), at_most(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let stored = Record::read(row)?.stored;
        found.push(Swept { channel: stored.channel, created: stored.created, tombstone: stored.last });
    }
    Ok(found)
}

fn find_sql() -> String {
    format!(
        "SELECT {CHANNEL_COLUMNS} FROM channels
         WHERE gone = 1 AND last_at < ?1 AND last <= ?2 ORDER BY last_at, created LIMIT ?3"
    )
}

/// Removes those that have not begun anew since they were found, and says how many these are.
pub(super) fn sweep(connection: &mut Connection, edge: &mut Edge, found: Vec<Swept>) -> Result<usize, StoreError> {
    let transaction = connection.transaction()?;
    let mut still_gone = Vec::with_capacity(found.len());
    for swept in found {
        if edge.last(&transaction, &swept.channel)? == Some(swept.tombstone) {
            delete_channel(&transaction, swept.created)?;
            still_gone.push(swept.channel);
        }
    }
    transaction.commit()?;
    still_gone.iter().for_each(|channel| edge.forget_last(channel));
    Ok(still_gone.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_are_found_by_their_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::journal::sqlite::schema::create(&mut connection).unwrap();
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {}", find_sql()), params![0, 1, 1], |row| row.get("detail"))
            .unwrap();
        assert!(plan.contains("USING INDEX channels_sweepable (last_at<?)"), "{plan}");
    }
}
