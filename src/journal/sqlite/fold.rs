//! The fold: carries events from the log into the channels' rows and histories, and trims the log behind it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    error::StoreError,
    fold_plan::{FoldPlan, Past, plan},
    read,
    record::{self, Record, signed},
    schema::{self, Facts},
};
use crate::event::{ChannelName, Class, Event, HistoryBounds, Seq};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoldBounds {
    /// Events other than ticks per channel.
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
    let Some(plan) = plan(before.clone(), events, bounds.history.of(channel.kind()) as u64, &past)? else {
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
    fn nth_lasting(&self, n: u64) -> Result<Seq, StoreError> {
        let missing = || StoreError::Damaged("a channel's history has less than its row counts".into());
        let (channel, floor) = self.channel.ok_or_else(missing)?;
        let sql =
            "SELECT seq FROM history WHERE channel = ?1 AND seq > ?2 AND class <> 2 ORDER BY seq LIMIT 1 OFFSET ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = (signed(channel), signed(floor), signed(Seq(n.saturating_sub(1))));
        statement.query_row(values, |row| Ok(record::seq_at(row, 0))).optional()?.ok_or_else(missing)?
    }

    fn newest_change(&self, through: Seq) -> Result<Option<Seq>, StoreError> {
        let Some((channel, _)) = self.channel else { return Ok(None) };
        let sql = "SELECT seq FROM history WHERE channel = ?1 AND seq <= ?2 AND class = ?3 ORDER BY seq DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = (signed(channel), signed(through), record::class_code(Class::Change));
        statement.query_row(values, |row| Ok(record::seq_at(row, 0))).optional()?.transpose()
    }
}

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
        record::class_code(event.class()),
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
        stored.channel.kind().as_str(),
        signed(stored.last),
        record.last_at.as_millis(),
        signed(stored.floor),
        signed(Seq(record.lasting)),
        signed(record.tick),
        stored.finished_at.map(|at| at.as_millis()),
        stored.gone,
        members.status,
        members.kind,
        members.user_id,
        members.queue,
        visible.map(|event| signed(event.seq)),
        visible.map(|event| event.at.as_millis()),
        visible.map(|event| record::class_code(event.class())),
        visible.map(|event| event.group.as_bytes()),
        visible.and_then(|event| event.draft.name.as_deref()),
        visible.map(|event| &event.draft.data[..]),
        stored.memo.as_deref(),
        record.checksum(),
    ])?;
    Ok(())
}

const INSERT: &str = "INSERT INTO channels VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
     ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
const SET_OTHERS: &str = "last = ?4, last_at = ?5, floor = ?6, lasting = ?7, tick = ?8, visible = ?15, visible_at = ?16, \
     visible_class = ?17, visible_grouped = ?18, visible_name = ?19, data = ?20, memo = ?21, checksum = ?22";
const SET_MEMBERS: &str = ", status = ?11, kind = ?12, user_id = ?13, queue = ?14";
const SET_END: &str = ", finished_at = ?9, gone = ?10";
