//! Removing channels that nobody may ask for any more.

use rusqlite::Connection;

use super::{
    error::StoreError,
    fold::delete_channel,
    record::{self, signed},
};
use crate::event::{Seq, Timestamp};

/// Channels that one transaction removes, so that appends get between.
const SLICE_CHANNELS: usize = 256;

/// Removes some tombstones and keys whose last event was decided before `at`, and says whether there are more.
///
/// Everything must be folded.
pub(super) fn sweep(connection: &mut Connection, at: Timestamp) -> Result<bool, StoreError> {
    let transaction = connection.transaction()?;
    let swept = {
        let mut statement = transaction.prepare_cached(
            "SELECT created FROM channels WHERE (gone = 1 OR channel_kind = 'key') AND last_at < ?1 LIMIT ?2",
        )?;
        let mut rows = statement.query((at.as_millis(), SLICE_CHANNELS as i64))?;
        let mut swept: Vec<Seq> = Vec::new();
        while let Some(row) = rows.next()? {
            swept.push(record::seq_at(row, 0)?);
        }
        swept
    };
    for channel in &swept {
        transaction.prepare_cached("DELETE FROM history WHERE channel = ?1")?.execute([signed(*channel)])?;
        transaction.prepare_cached("DELETE FROM origins WHERE channel = ?1")?.execute([signed(*channel)])?;
        delete_channel(&transaction, *channel)?;
    }
    transaction.commit()?;
    Ok(swept.len() == SLICE_CHANNELS)
}
