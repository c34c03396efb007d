//! Removing from histories what is older than a time.

use rusqlite::{Connection, params};

use super::{
    error::StoreError,
    fold::{self, HistoryTable},
    fold_plan::FoldPlan,
    read,
    record::{CHANNEL_COLUMNS, Record, signed},
};
use crate::{
    event::{ChannelKind, ChannelName, HistorySize, Seq, Timestamp},
    journal::{Members, column::at_most},
};

/// Most events that are removed at a time, but at least those of one channel.
const EVENTS_MAX: u64 = 4_096;

/// Channels that have something to be removed.
pub(super) struct Outdated {
    channels: Vec<ChannelName>,
    at: Timestamp,
    /// After which channel there may be more.
    pub(super) next: Option<Seq>,
}

impl Outdated {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

/// Finds channels of a kind, created after a seq, at most `limit`.
pub(super) fn find(
    connection: &Connection,
    kind: ChannelKind,
    at: Timestamp,
    after: Seq,
    limit: usize,
) -> Result<Outdated, StoreError> {
    let mut statement = connection.prepare_cached(&find_sql())?;
    let mut rows = statement.query(params![kind.as_str(), signed(after), at.as_millis(), at_most(limit)])?;
    let mut outdated = Outdated { channels: Vec::new(), at, next: None };
    let mut events = 0;
    while let Some(row) = rows.next()? {
        let record = Record::read(row)?;
        events += count(connection, &record, at)?;
        outdated.channels.push(record.stored.channel);
        if outdated.channels.len() == limit || events >= EVENTS_MAX {
            outdated.next = Some(record.stored.created);
            break;
        }
    }
    Ok(outdated)
}

/// The oldest event of a channel is found by the index of its history.
fn find_sql() -> String {
    format!(
        "SELECT {CHANNEL_COLUMNS} FROM channels
         WHERE channel_kind = ?1 AND created > ?2 AND finished_at IS NULL AND gone = 0 AND lasting > 0
         AND (SELECT at FROM history WHERE channel = channels.created AND class <> 2 AND seq > channels.floor
              ORDER BY seq LIMIT 1) < ?3
         ORDER BY created LIMIT ?4"
    )
}

/// How many events other than ticks are older, before the first that is not.
fn count(connection: &Connection, record: &Record, at: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM history WHERE channel = ?1 AND class <> 2 AND seq > ?2 AND seq < coalesce(
         (SELECT min(seq) FROM history WHERE channel = ?1 AND class <> 2 AND seq > ?2 AND at >= ?3), ?4)";
    let (channel, floor) = (signed(record.stored.created), signed(record.stored.floor));
    let mut statement = connection.prepare_cached(sql)?;
    let count: u32 = statement.query_row((channel, floor, at.as_millis(), i64::MAX), |row| row.get(0))?;
    Ok(u64::from(count))
}

/// Removes from what was found that which is still there.
pub(super) fn trim(connection: &mut Connection, outdated: &Outdated) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for channel in &outdated.channels {
        let Some(before) = read::record(&transaction, channel)? else { continue };
        let older = count(&transaction, &before, outdated.at)?;
        let mut plan = FoldPlan::of(before.clone());
        let bound = HistorySize { events: before.size.events.saturating_sub(older), bytes: u64::MAX };
        plan.trim(bound, &HistoryTable::of(&transaction, Some(&before)))?;
        let record = &mut plan.record;
        if record.stored.visible.as_ref().is_some_and(|visible| visible.seq <= record.stored.floor) {
            (record.stored.visible, record.members) = (None, Members::default());
        }
        fold::trim_history(&transaction, before.stored.created, &plan)?;
        fold::write_record(&transaction, Some(&before), &plan.record)?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_found_by_indexes() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::journal::sqlite::schema::create(&mut connection).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", find_sql())).unwrap();
        let plan = statement.query_map(params!["inbox", 0, 1, 1], |row| row.get::<_, String>("detail")).unwrap();
        let plan: Vec<_> = plan.map(Result::unwrap).collect();
        assert!(plan.iter().any(|step| step.contains("channels_live")), "{plan:?}");
        assert!(plan.iter().any(|step| step.contains("history_by_channel")), "{plan:?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:?}");
    }
}
