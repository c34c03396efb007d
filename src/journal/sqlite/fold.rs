//! The fold: carries events from the log into the channels' rows and histories, and trims the log behind it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    error::StoreError,
    fold_plan::{FoldPlan, Past, Visit, plan},
    read,
    record::{self, Record, signed},
    schema::{self, Facts},
};
use crate::event::{ChannelName, Class, Event, HistoryBounds, Seq};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoldBounds {
    /// Of each channel.
    pub(super) history: HistoryBounds,
    /// Events in the log.
    pub(super) log: u64,
}

/// Folds events of some channels inside the caller's transaction, and returns the facts after it: with these, all events
/// at or before `through` are in the rows.
///
/// Many events of one channel are one write of its row; of its ticks, only the last is looked at.
pub(super) fn fold(
    connection: &Connection,
    facts: &Facts,
    bounds: FoldBounds,
    channels: &[(&ChannelName, Vec<&Event>)],
    through: Seq,
) -> Result<Facts, StoreError> {
    for (channel, events) in channels {
        fold_channel(connection, bounds, channel, events)?;
    }
    let trim_through = Seq(through.0.saturating_sub(bounds.log)).max(facts.trimmed_through);
    if trim_through > facts.trimmed_through {
        connection.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([signed(trim_through)])?;
    }
    let facts = Facts { folded_through: through, trimmed_through: trim_through, ..*facts };
    schema::write_facts(connection, &facts)?;
    Ok(facts)
}

/// Events by channel, each in seq order, the channels in the order of their first event.
pub(super) fn by_channel(events: &[Event]) -> Vec<(&ChannelName, Vec<&Event>)> {
    let mut places: HashMap<&ChannelName, usize> = HashMap::new();
    let mut channels: Vec<(&ChannelName, Vec<&Event>)> = Vec::new();
    for event in events {
        let place = *places.entry(event.channel()).or_insert(channels.len());
        match channels.get_mut(place) {
            Some((_, events)) => events.push(event),
            None => channels.push((event.channel(), vec![event])),
        }
    }
    channels
}

fn fold_channel(
    connection: &Connection,
    bounds: FoldBounds,
    channel: &ChannelName,
    events: &[&Event],
) -> Result<(), StoreError> {
    let before = read::record(connection, channel)?;
    let created_before = before.as_ref().map(|record| record.stored.created);
    let past = HistoryTable::of(connection, before.as_ref());
    let Some(plan) = plan(before.clone(), events, bounds.history.of(channel.kind()), &past)? else {
        return Ok(());
    };
    if let Some(created) = created_before {
        trim_history(connection, created, &plan)?;
        if plan.began {
            delete_channel(connection, created)?;
        }
    }
    let created = plan.record.stored.created;
    write_record(connection, before.as_ref().filter(|_| !plan.began), &plan.record)?;
    if let Some(origin) = plan.record.stored.origin.as_ref().filter(|_| plan.began) {
        connection.prepare_cached("INSERT INTO origins VALUES (?1, ?2, ?3)")?.execute(params![
            signed(created),
            &origin[..],
            record::origin_checksum(created, origin)
        ])?;
    }
    for event in &plan.kept {
        insert_history(connection, created, event)?;
    }
    Ok(())
}

/// The history of one channel as it is folded.
pub(super) struct HistoryTable<'a> {
    connection: &'a Connection,
    /// The channel's key and its floor.
    channel: Option<(Seq, Seq)>,
}

impl<'a> HistoryTable<'a> {
    pub(super) fn of(connection: &'a Connection, record: Option<&Record>) -> Self {
        Self { connection, channel: record.map(|record| (record.stored.created, record.stored.floor)) }
    }
}

impl Past for HistoryTable<'_> {
    fn each_lasting(&self, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let Some((channel, floor)) = self.channel else { return Ok(()) };
        let sql = format!(
            "SELECT seq, {SIZE_BYTES} FROM history WHERE channel = ?1 AND seq > ?2 AND class <> 2 ORDER BY seq"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((signed(channel), signed(floor)))?;
        while let Some(row) = rows.next()?
            && visit(record::seq_at(row, 0)?, record::seq_at(row, 1)?.0)?
        {}
        Ok(())
    }

    fn newest_change(&self, through: Seq) -> Result<Option<Seq>, StoreError> {
        let Some((channel, _)) = self.channel else { return Ok(None) };
        let sql = "SELECT seq FROM history WHERE channel = ?1 AND seq <= ?2 AND class = ?3 ORDER BY seq DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = (signed(channel), signed(through), Class::Change.code());
        statement.query_row(values, |row| Ok(record::seq_at(row, 0))).optional()?.transpose()
    }
}

/// [`Event::size_bytes`] of a row of `history`. SQLite finds the lengths without reading what is so long.
pub(super) const SIZE_BYTES: &str = "octet_length(data) + coalesce(octet_length(name), 0)";

pub(super) fn trim_history(connection: &Connection, channel: Seq, plan: &FoldPlan) -> Result<(), StoreError> {
    let through = if plan.cleared { i64::MAX } else { signed(plan.trimmed_through) };
    if through > 0 {
        connection.prepare_cached("DELETE FROM history WHERE channel = ?1 AND seq <= ?2 AND seq <> ?3")?.execute((
            signed(channel),
            through,
            signed(plan.value),
        ))?;
    }
    if plan.cleared {
        connection.prepare_cached("DELETE FROM origins WHERE channel = ?1")?.execute([signed(channel)])?;
    } else if plan.replaced_tick > Seq::ZERO {
        connection.prepare_cached("DELETE FROM history WHERE seq = ?1")?.execute([signed(plan.replaced_tick)])?;
    }
    Ok(())
}

/// Removes a channel's row; nothing else of it may be left.
pub(super) fn delete_channel(connection: &Connection, channel: Seq) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM channels WHERE created = ?1")?.execute([signed(channel)])?;
    Ok(())
}

fn insert_history(connection: &Connection, channel: Seq, event: &Event) -> Result<(), StoreError> {
    connection.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
        signed(event.seq),
        signed(channel),
        event.at.as_millis(),
        event.class().code(),
        event.group.as_bytes(),
        event.draft.name.as_deref(),
        &event.draft.data[..],
        record::kept_checksum(channel, event),
    ])?;
    Ok(())
}

/// Writes a row: a new one whole, another what may have changed. What has indexes is named only when it did.
pub(super) fn write_record(
    connection: &Connection,
    before: Option<&Record>,
    record: &Record,
) -> Result<(), StoreError> {
    let end = |record: &Record| (record.stored.finished_at, record.stored.gone);
    let sql = match before {
        None => INSERT.to_owned(),
        Some(before) => {
            let members = if before.members == record.members { "" } else { SET_MEMBERS };
            let end = if end(before) == end(record) { "" } else { SET_END };
            format!("UPDATE channels SET {SET_OTHERS}{members}{end} WHERE created = ?1")
        }
    };
    let (stored, members) = (&record.stored, &record.members);
    let visible = stored.visible.as_ref();
    connection.prepare_cached(&sql)?.execute(params![
        signed(stored.created),
        stored.channel.text(),
        stored.channel.kind_word(),
        signed(stored.last),
        record.last_at.as_millis(),
        signed(stored.floor),
        signed(Seq(record.size.events)),
        signed(Seq(record.size.bytes)),
        signed(record.tick),
        stored.finished_at.map(|at| at.as_millis()),
        stored.gone,
        members.status,
        members.kind,
        members.user_id,
        members.queue,
        visible.map(|event| signed(event.seq)),
        visible.map(|event| event.at.as_millis()),
        visible.map(|event| event.class().code()),
        visible.map(|event| event.group.as_bytes()),
        visible.and_then(|event| event.draft.name.as_deref()),
        visible.map(|event| &event.draft.data[..]),
        stored.memo.as_deref(),
        record.checksum(),
    ])?;
    Ok(())
}

const INSERT: &str = "INSERT INTO channels VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
     ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
const SET_OTHERS: &str = "last = ?4, last_at = ?5, floor = ?6, lasting = ?7, bytes = ?8, tick = ?9, visible = ?16, \
     visible_at = ?17, visible_class = ?18, visible_grouped = ?19, visible_name = ?20, data = ?21, memo = ?22, \
     checksum = ?23";
const SET_MEMBERS: &str = ", status = ?12, kind = ?13, user_id = ?14, queue = ?15";
const SET_END: &str = ", finished_at = ?10, gone = ?11";
