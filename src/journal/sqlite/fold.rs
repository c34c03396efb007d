//! The fold: carries events from the log into the channels' rows and histories, and trims the log behind it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    error::StoreError,
    plan::{Plan, plan},
    read,
    record::{self, Record, signed},
    schema::{self, Facts},
};
use crate::event::{ChannelName, Event, Seq};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Changes and finals per channel.
    pub(super) history: u64,
    /// Events in the log.
    pub(super) log: u64,
}

/// Folds the events that come next after `facts.folded_through`, in one transaction, and returns the facts after it.
///
/// Many events of one channel are one write of its row; of its ticks, only the last is looked at.
pub(super) fn fold(
    connection: &mut Connection,
    facts: &Facts,
    bounds: Bounds,
    events: &[Event],
) -> Result<Facts, StoreError> {
    let Some(last) = events.last() else { return Ok(*facts) };
    let transaction = connection.transaction()?;
    for (channel, events) in by_channel(events) {
        fold_channel(&transaction, bounds, channel, &events)?;
    }
    let trim_through = Seq(last.seq.0.saturating_sub(bounds.log)).max(facts.trimmed_through);
    if trim_through > facts.trimmed_through {
        transaction.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([signed(trim_through)])?;
    }
    let facts = Facts { folded_through: last.seq, trimmed_through: trim_through, ..*facts };
    schema::write_facts(&transaction, &facts)?;
    transaction.commit()?;
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
    bounds: Bounds,
    channel: &ChannelName,
    events: &[&Event],
) -> Result<(), StoreError> {
    let before = read::record(connection, channel)?;
    let created_before = before.as_ref().map(|record| record.stored.created);
    let nth = |n| nth_lasting(connection, created_before, n);
    let members_before = before.as_ref().map(|record| record.members.clone());
    let Some(plan) = plan(before, events, bounds.history, nth)? else { return Ok(()) };
    if let Some(created) = created_before {
        trim_history(connection, created, &plan)?;
        if plan.began {
            delete_channel(connection, created)?;
        }
    }
    let created = plan.record.stored.created;
    if plan.began {
        insert_record(connection, &plan.record)?;
        if let Some(origin) = &plan.record.stored.origin {
            connection.prepare_cached("INSERT INTO origins VALUES (?1, ?2, ?3)")?.execute(params![
                signed(created),
                &origin[..],
                record::origin_checksum(created, origin)
            ])?;
        }
    } else {
        update_record(connection, &plan.record, members_before.as_ref() != Some(&plan.record.members))?;
    }
    for event in &plan.kept {
        insert_history(connection, created, event)?;
    }
    Ok(())
}

/// The seq of the n-th oldest change or final in a channel's history, counted from one.
pub(super) fn nth_lasting(connection: &Connection, channel: Option<Seq>, n: u64) -> Result<Seq, StoreError> {
    let missing = || StoreError::Damaged("a channel's history has less than its row counts".into());
    let channel = channel.ok_or_else(missing)?;
    let seq: Option<i64> = connection
        .prepare_cached("SELECT seq FROM history WHERE channel = ?1 AND class <> 2 ORDER BY seq LIMIT 1 OFFSET ?2")?
        .query_row((signed(channel), signed(Seq(n.saturating_sub(1)))), |row| row.get(0))
        .optional()?;
    seq.and_then(|seq| u64::try_from(seq).ok()).map(Seq).ok_or_else(missing)
}

fn trim_history(connection: &Connection, channel: Seq, plan: &Plan) -> Result<(), StoreError> {
    let through = if plan.cleared { i64::MAX } else { signed(plan.trimmed_through) };
    if through > 0 {
        connection
            .prepare_cached("DELETE FROM history WHERE channel = ?1 AND seq <= ?2")?
            .execute((signed(channel), through))?;
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

fn insert_record(connection: &Connection, record: &Record) -> Result<(), StoreError> {
    let stored = &record.stored;
    connection
        .prepare_cached(
            "INSERT INTO channels (created, channel, channel_kind, last, last_at, floor, lasting, tick, gone, checksum)
             VALUES (?1, ?2, ?3, 0, 0, 0, 0, 0, 0, 0)",
        )?
        .execute(params![signed(stored.created), stored.channel.text(), stored.channel.kind().as_str()])?;
    update_record(connection, record, true)
}

/// Writes what may have changed. The members have indexes, so they are named only when they did.
fn update_record(connection: &Connection, record: &Record, members_changed: bool) -> Result<(), StoreError> {
    let stored = &record.stored;
    let visible = stored.visible.as_ref();
    if members_changed {
        let members = &record.members;
        connection
            .prepare_cached("UPDATE channels SET status = ?2, kind = ?3, user_id = ?4, queue = ?5 WHERE created = ?1")?
            .execute(params![signed(stored.created), members.status, members.kind, members.user_id, members.queue])?;
    }
    connection
        .prepare_cached(
            "UPDATE channels SET last = ?2, last_at = ?3, floor = ?4, lasting = ?5, tick = ?6, finished_at = ?7,
                gone = ?8, visible = ?9, visible_at = ?10, visible_class = ?11, visible_grouped = ?12,
                visible_name = ?13, data = ?14, memo = ?15, checksum = ?16
             WHERE created = ?1",
        )?
        .execute(params![
            signed(stored.created),
            signed(stored.last),
            record.last_at.as_millis(),
            signed(stored.floor),
            signed(Seq(record.lasting)),
            signed(record.tick),
            stored.finished_at.map(|at| at.as_millis()),
            stored.gone,
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
