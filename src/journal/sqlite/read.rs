//! What is read from the file. Every answer is that of rows and log together, as though the fold had caught up.
//!
//! Each function needs a connection inside a transaction, so that rows and log are of one moment.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{
    check::{counted_size, miscounted},
    error::StoreError,
    fold::{HistoryTable, by_channel},
    fold_plan::{FoldPlan, plan},
    pool::SHARED_READERS_MAX,
    record::{self, CHANNEL_COLUMNS, EVENT_COLUMNS, HISTORY_COLUMNS, Record, signed},
    schema,
};
use crate::{
    event::{ChannelKind, ChannelName, Class, Event, History, HistoryBounds, Seq, Timestamp},
    journal::{
        Counted, Listing, Member, Members, Stored, Tail,
        column::{self, at_most},
    },
};

/// The row of one channel, without its origin.
pub(super) fn record(connection: &Connection, channel: &ChannelName) -> Result<Option<Record>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {CHANNEL_COLUMNS} FROM channels WHERE channel = ?1"))?;
    let mut rows = statement.query([channel.text()])?;
    rows.next()?.map(Record::read).transpose()
}

/// The last seq in the row of one channel.
pub(super) fn last_seq(connection: &Connection, channel: &ChannelName) -> Result<Option<Seq>, StoreError> {
    let last = connection
        .prepare_cached("SELECT last FROM channels WHERE channel = ?1")?
        .query_row([channel.text()], |row| Ok(record::seq_at(row, 0)))
        .optional()?;
    last.transpose()
}

/// Events of the log after a seq, at most `limit`, in order and without a gap.
pub(super) fn events_after(connection: &Connection, after: Seq, limit: usize) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?;
    let mut rows = statement.query((signed(after), at_most(limit)))?;
    let mut events: Vec<Event> = Vec::new();
    while let Some(row) = rows.next()? {
        column::push_next(&mut events, after, record::event(row)?)?;
    }
    Ok(events)
}

/// All events after a seq, or that some were trimmed.
pub(super) fn tail(connection: &Connection, after: Seq, limit: usize) -> Result<Tail, StoreError> {
    if after < schema::read_facts(connection)?.trimmed_through {
        return Ok(Tail::Lapsed);
    }
    events_after(connection, after, limit).map(Tail::Events)
}

/// The states of some channels, one answer each.
pub(super) fn last(
    connection: &Connection,
    bounds: HistoryBounds,
    channels: &[ChannelName],
) -> Result<Vec<Option<Stored>>, StoreError> {
    let events = unfolded_events(connection, channels)?;
    let unfolded: HashMap<&ChannelName, Vec<&Event>> = by_channel(&events).into_iter().collect();
    let mut states = Vec::with_capacity(channels.len());
    for channel in channels {
        let events = unfolded.get(channel).map_or(&[][..], Vec::as_slice);
        states.push(caught_up(connection, bounds, channel, events)?.1.map(|plan| plan.record.stored));
    }
    Ok(states)
}

/// The kept visible events of one channel after a seq.
pub(super) fn read(
    connection: &Connection,
    bounds: HistoryBounds,
    channel: &ChannelName,
    after: Seq,
) -> Result<History, StoreError> {
    let events = unfolded_events(connection, std::slice::from_ref(channel))?;
    let (folded, plan) = caught_up(connection, bounds, channel, &events.iter().collect::<Vec<_>>())?;
    let Some(plan) = plan else { return Ok(History::default()) };
    let mut kept = History { floor: plan.record.stored.floor, events: Vec::new() };
    if let Some(folded) = folded.filter(|_| !plan.cleared) {
        kept.events = history(connection, &folded.stored, after.max(plan.trimmed_through), plan.value)?;
        kept.events.retain(|event| event.seq > after && event.seq != plan.replaced_tick);
        let is_whole = after == Seq::ZERO && plan.trimmed_through == Seq::ZERO;
        if is_whole && counted_size(&folded, &kept.events) != folded.size {
            return Err(miscounted(channel));
        }
    }
    // A tick that is the last visible event stands in the row only.
    let tick = plan.record.stored.visible.filter(|event| event.class() == Class::Tick);
    kept.events.extend(plan.kept.into_iter().chain(tick).filter(|event| event.seq > after));
    Ok(kept)
}

/// Channels by creation, newest first.
pub(super) fn list(
    connection: &Connection,
    bounds: HistoryBounds,
    listing: &Listing,
) -> Result<Vec<Stored>, StoreError> {
    let unfolded = unfolded_channels(connection, bounds)?;
    let wanted = |record: &Record| {
        let stored = &record.stored;
        stored.channel.kind() == listing.kind
            && !stored.gone
            && listing.created_before.is_none_or(|before| stored.created < before)
            && record.members.match_all(&listing.members)
    };
    let (condition, mut values) = listing_condition(listing);
    values.push(at_most(listing.limit.saturating_add(unfolded.len())).to_string());
    let limit = values.len();
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    // The inner query is answered from an index where there is one; only rows that are wanted are read whole.
    let sql = format!(
        "SELECT {CHANNEL_COLUMNS} FROM channels WHERE created IN
            (SELECT created FROM channels WHERE {condition} ORDER BY created DESC LIMIT CAST(?{limit} AS INTEGER))
         ORDER BY created DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(&values[..])?;
    let folded = take_others(&mut rows, listing.limit, &unfolded)?;
    let fresh = unfolded.into_values().filter(wanted);
    let mut records: Vec<Record> = folded.into_iter().chain(fresh).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.stored.created));
    records.truncate(listing.limit);
    records.into_iter().map(|record| with_origin(connection, record).map(|record| record.stored)).collect()
}

/// Where the parts of a page of live channels end, so that a page can be read by all connections at once: it is what a
/// start waits for.
pub(super) fn live_ends(
    connection: &Connection,
    kind: ChannelKind,
    after: Seq,
    limit: usize,
) -> Result<Vec<Seq>, StoreError> {
    let sql = format!("SELECT created FROM channels WHERE {LIVE} AND created > ?2 ORDER BY created LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![kind.as_str(), signed(after), at_most(limit)])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(record::seq_at(row, 0)?);
    }
    let parts = page.chunks(page.len().div_ceil(SHARED_READERS_MAX).max(1));
    let mut ends: Vec<Seq> = parts.filter_map(|part| part.last().copied()).collect();
    if page.len() < limit {
        // What is not folded comes after all of these.
        ends.pop();
        ends.push(NO_END);
    }
    Ok(ends)
}

/// The end of the last part where there is nothing behind it.
pub(super) const NO_END: Seq = Seq(u64::MAX);

/// Live channels by creation, after a seq and through another.
pub(super) fn live(
    connection: &Connection,
    bounds: HistoryBounds,
    kind: ChannelKind,
    after: Seq,
    through: Seq,
) -> Result<Vec<Stored>, StoreError> {
    let unfolded = unfolded_channels(connection, bounds)?;
    let sql = format!("SELECT {CHANNEL_COLUMNS} FROM channels WHERE {LIVE} AND created > ?2 AND created <= ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![kind.as_str(), signed(after), signed(through)])?;
    let mut records = take_others(&mut rows, usize::MAX, &unfolded)?;
    records.extend(unfolded.into_values().filter(|record| {
        let stored = &record.stored;
        let is_live = stored.channel.kind() == kind && !stored.gone && stored.finished_at.is_none();
        is_live && stored.created > after && stored.created <= through
    }));
    records.sort_by_key(|record| record.stored.created);
    records.into_iter().map(|record| with_origin(connection, record).map(|record| record.stored)).collect()
}

const LIVE: &str = "channel_kind = ?1 AND finished_at IS NULL AND gone = 0";

/// Channels that finished before a time, oldest finish first.
pub(super) fn finished_before(
    connection: &Connection,
    bounds: HistoryBounds,
    at: Timestamp,
    limit: usize,
) -> Result<Vec<(ChannelName, Seq)>, StoreError> {
    let unfolded = unfolded_channels(connection, bounds)?;
    let kinds: Vec<_> = ChannelKind::known().map(|kind| format!("'{}'", kind.as_str())).collect();
    let sql = format!(
        "SELECT {CHANNEL_COLUMNS} FROM channels WHERE finished_at IS NOT NULL AND gone = 0 AND finished_at < ?1
         AND channel_kind IN ({}) ORDER BY finished_at, created",
        kinds.join(", ")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([at.as_millis()])?;
    let folded = take_others(&mut rows, limit, &unfolded)?;
    let mut finished: Vec<(Timestamp, Stored)> = folded
        .into_iter()
        .chain(unfolded.into_values())
        .filter(|record| !record.stored.gone && record.stored.channel.kind() != ChannelKind::Unknown)
        .filter_map(|record| Some((record.stored.finished_at?, record.stored)))
        .filter(|(finished_at, _)| *finished_at < at)
        .collect();
    finished.sort_by_key(|(finished_at, stored)| (*finished_at, stored.created));
    Ok(finished.into_iter().take(limit).map(|(_, stored)| (stored.channel, stored.last)).collect())
}

/// How many channels of a kind have each value of a member.
pub(super) fn count(
    connection: &Connection,
    bounds: HistoryBounds,
    kind: ChannelKind,
    member: Member,
) -> Result<Counted, StoreError> {
    let column = column::of_member(member);
    let sql = format!(
        "SELECT {column}, count(*) FROM channels WHERE channel_kind = ?1 AND {column} IS NOT NULL GROUP BY {column}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let counted = statement.query_map([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut counts = counted.collect::<Result<BTreeMap<String, i64>, _>>()?;
    let mut add = |members: &Members, by: i64| {
        members.get(member).into_iter().for_each(|value| *counts.entry(value.to_owned()).or_default() += by);
    };
    for (channel, fresh) in unfolded_channels(connection, bounds)? {
        if channel.kind() == kind {
            record(connection, &channel)?.iter().for_each(|folded| add(&folded.members, -1));
            add(&fresh.members, 1);
        }
    }
    let counted = counts.into_iter().filter_map(|(value, count)| Some((value, u64::try_from(count).ok()?)));
    let through = schema::read_head(connection, &schema::read_facts(connection)?)?;
    Ok(Counted { through, values: counted.filter(|(_, count)| *count > 0).collect() })
}

/// The row of one channel as it is folded, and what it comes to with its events that are not.
fn caught_up(
    connection: &Connection,
    bounds: HistoryBounds,
    channel: &ChannelName,
    events: &[&Event],
) -> Result<(Option<Record>, Option<FoldPlan>), StoreError> {
    let folded = record(connection, channel)?.map(|record| with_origin(connection, record)).transpose()?;
    // What is folded is trimmed in the file with the next event, should its bound have been lowered.
    let plan = plan(folded.clone(), events, bounds.of(channel.kind()), &HistoryTable::of(connection, folded.as_ref()))?;
    Ok((folded, plan))
}

/// The states of all channels that have events which are not folded yet; there are never many of these.
fn unfolded_channels(
    connection: &Connection,
    bounds: HistoryBounds,
) -> Result<BTreeMap<ChannelName, Record>, StoreError> {
    let folded_through = schema::read_facts(connection)?.folded_through;
    let events = events_after(connection, folded_through, usize::MAX)?;
    let mut records = BTreeMap::new();
    for (channel, events) in by_channel(&events) {
        let folded = record(connection, channel)?;
        let past = HistoryTable::of(connection, folded.as_ref());
        if let Some(plan) = plan(folded, &events, bounds.of(channel.kind()), &past)? {
            records.insert(channel.clone(), plan.record);
        }
    }
    Ok(records)
}

/// The events of these channels that are not folded, found in one pass of the log.
fn unfolded_events(connection: &Connection, channels: &[ChannelName]) -> Result<Vec<Event>, StoreError> {
    let folded_through = schema::read_facts(connection)?.folded_through;
    let names: Vec<_> = channels.iter().map(ChannelName::text).collect();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM events
         WHERE seq > ?1 AND channel IN (SELECT value FROM json_each(?2)) ORDER BY seq"
    ))?;
    let mut rows = statement.query(params![signed(folded_through), serde_json::json!(names).to_string()])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(record::event(row)?);
    }
    Ok(events)
}

/// The events of a channel's history after a seq, and the one at `value`.
pub(super) fn history(
    connection: &Connection,
    stored: &Stored,
    after: Seq,
    value: Seq,
) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {HISTORY_COLUMNS} FROM history WHERE channel = ?1 AND (seq > ?2 OR seq = ?3) ORDER BY seq"
    ))?;
    let mut rows = statement.query((signed(stored.created), signed(after), signed(value)))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(record::kept_event(row, &stored.channel)?);
    }
    Ok(events)
}

/// A channel that is not folded yet and began in the log has its origin from there, the others from their table.
pub(super) fn with_origin(connection: &Connection, mut record: Record) -> Result<Record, StoreError> {
    let stored = &mut record.stored;
    if stored.origin.is_some() || stored.gone {
        return Ok(record);
    }
    let read = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?));
    let found = connection
        .prepare_cached("SELECT origin, checksum FROM origins WHERE channel = ?1")?
        .query_row([signed(stored.created)], read)
        .optional()?;
    if let Some((origin, checksum)) = found {
        record::verify(checksum, record::origin_checksum(stored.created, &origin), || {
            format!("the origin of {}", stored.channel)
        })?;
        stored.origin = Some(origin.into());
    }
    Ok(record)
}

/// Takes the first rows whose channel is not among those that are not folded yet.
fn take_others(
    rows: &mut rusqlite::Rows<'_>,
    limit: usize,
    unfolded: &BTreeMap<ChannelName, Record>,
) -> Result<Vec<Record>, StoreError> {
    let mut taken = Vec::new();
    while taken.len() < limit
        && let Some(row) = rows.next()?
    {
        let record = Record::read(row)?;
        if !unfolded.contains_key(&record.stored.channel) {
            taken.push(record);
        }
    }
    Ok(taken)
}

/// The condition on rows, and its values. The text has no value in it, so it is prepared once a form of filter.
fn listing_condition(listing: &Listing) -> (String, Vec<String>) {
    let mut condition = String::from("channel_kind = ?1 AND gone = 0");
    let mut values = vec![listing.kind.as_str().to_owned()];
    if let Some(before) = listing.created_before {
        // A number of our own; as text it would compare greater than all.
        condition.push_str(&format!(" AND created < CAST(?{} AS INTEGER)", values.len() + 1));
        values.push(signed(before).to_string());
    }
    // A user has few channels, and SQLite cannot know it: the plus keeps it from the indexes of the other members.
    let by_user = listing.members.iter().any(|(member, _)| *member == Member::UserId);
    for (member, wanted) in &listing.members {
        let places: Vec<String> = (1..=wanted.len()).map(|n| format!("?{}", values.len() + n)).collect();
        let prefix = if by_user && *member != Member::UserId { "+" } else { "" };
        condition.push_str(&format!(" AND {prefix}{} IN ({})", column::of_member(*member), places.join(", ")));
        values.extend(wanted.iter().cloned());
    }
    (condition, values)
}
