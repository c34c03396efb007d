//! What is read: each answer is one statement, so all of it is of one moment.

use tokio_postgres::{Row, types::ToSql};

use super::{
    append::is_listable,
    error::DatabaseError,
    record::{self, CHANNELS, signed},
    time,
};
use crate::{
    event::{ChannelName, Event, History, Seq},
    journal::{
        Counted, Listing, Member, Stored, Tail,
        column::{self, at_most},
    },
};

/// The states of some channels, in any order.
pub(super) fn last_sql() -> String {
    format!("{CHANNELS} WHERE c.channel = ANY ($1)")
}

/// Puts states into the order of the channels that were asked for.
pub(super) fn in_order(channels: &[ChannelName], rows: &[Row]) -> Result<Vec<Option<Stored>>, DatabaseError> {
    let states = rows.iter().map(record::stored).collect::<Result<Vec<_>, _>>()?;
    let by_channel: std::collections::HashMap<_, _> = states.iter().map(|stored| (&stored.channel, stored)).collect();
    Ok(channels.iter().map(|channel| by_channel.get(channel).copied().cloned()).collect())
}

/// Where the log begins, in which epoch it goes on, its events after a seq, at most so many, and what time it is.
pub(super) fn tail_sql() -> String {
    format!(
        "SELECT s.trimmed_through, s.epoch, e.*, {} FROM progressd.store s LEFT JOIN LATERAL \
         (SELECT * FROM progressd.events WHERE seq > $1 ORDER BY seq LIMIT $2) e ON true ORDER BY e.seq",
        time::NOW
    )
}

/// Reads the rows of [`tail_sql`].
pub(super) fn tail(rows: &[Row], after: Seq) -> Result<Tail, DatabaseError> {
    let row = rows.first().ok_or_else(DatabaseError::no_facts)?;
    if after < record::seq_at(row, 0)? {
        return Ok(Tail::Lapsed);
    }
    let mut events: Vec<Event> = Vec::with_capacity(rows.len());
    for row in rows {
        if record::value_at::<Option<i64>>(row, 2)?.is_none() {
            break;
        }
        column::push_next(&mut events, after, record::event(row, 2)?)?;
    }
    Ok(Tail::Events(events))
}

/// The floors of some channels and their kept events after a seq. A tick that is the last visible event stands in the
/// row only.
pub(super) const HISTORIES: &str = "SELECT c.channel, c.floor, h.* FROM progressd.channels c LEFT JOIN LATERAL \
     (SELECT h.seq, h.at, h.class, h.grouped, h.name, h.data FROM progressd.history h \
      WHERE h.channel = c.created AND h.seq > $2 \
      UNION ALL SELECT c.visible, c.visible_at, c.visible_class, c.visible_grouped, c.visible_name, c.data \
      WHERE c.visible_class = 2 AND c.visible > $2) h ON true \
     WHERE c.channel = ANY ($1) ORDER BY c.channel, h.seq";

/// Reads the rows of [`HISTORIES`].
pub(super) fn histories(channels: &[ChannelName], rows: &[Row]) -> Result<Vec<History>, DatabaseError> {
    let mut by_channel = std::collections::HashMap::<ChannelName, History>::new();
    for row in rows {
        let channel = record::channel_at(row, 0)?;
        let event = match record::value_at::<Option<i64>>(row, 2)? {
            Some(_) => Some(record::kept_event(row, 2, &channel)?),
            None => None,
        };
        let history = by_channel.entry(channel).or_default();
        history.floor = record::seq_at(row, 1)?;
        history.events.extend(event);
    }
    Ok(channels.iter().map(|channel| by_channel.get(channel).cloned().unwrap_or_default()).collect())
}

/// A listing as a statement, and its values. The text has no value in it, so it is prepared once a form of filter.
pub(super) fn listing(listing: &Listing) -> (String, Vec<Box<dyn ToSql + Sync + Send>>) {
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = vec![
        Box::new(listing.kind.as_str()),
        Box::new(listing.created_before.map_or(i64::MAX, signed)),
        Box::new(at_most(listing.limit)),
    ];
    let mut condition = String::new();
    for (member, wanted) in &listing.members {
        let wanted: Vec<String> = wanted.iter().filter(|value| is_listable(value)).cloned().collect();
        values.push(Box::new(wanted));
        condition.push_str(&format!(" AND c.{} = ANY (${})", column::of_member(*member), values.len()));
    }
    let sql = format!(
        "{CHANNELS} WHERE c.channel_kind = $1 AND c.gone_at IS NULL AND c.created < $2{condition} \
         ORDER BY c.created DESC LIMIT $3"
    );
    (sql, values)
}

/// How many channels of a kind have each value of a member, with the head of the same moment.
pub(super) fn count_sql(member: Member) -> String {
    let column = column::of_member(member);
    format!(
        "SELECT s.head, c.{column}, count(c.channel) FROM progressd.store s \
         LEFT JOIN progressd.channels c ON c.channel_kind = $1 AND c.{column} IS NOT NULL \
         GROUP BY s.head, c.{column} ORDER BY c.{column}"
    )
}

/// Reads the rows of [`count_sql`].
pub(super) fn counted(rows: &[Row]) -> Result<Counted, DatabaseError> {
    let through = record::seq_at(rows.first().ok_or_else(DatabaseError::no_facts)?, 0)?;
    let values = rows.iter().map(|row| Ok((record::value_at::<Option<String>>(row, 1)?, record::seq_at(row, 2)?.0)));
    let values: Vec<_> = values.collect::<Result<_, DatabaseError>>()?;
    // Where there is none, the head alone is told.
    Ok(Counted { through, values: values.into_iter().filter_map(|(value, count)| Some((value?, count))).collect() })
}

/// Live channels of a kind by creation, after a seq.
pub(super) fn live_sql() -> String {
    format!(
        "{CHANNELS} WHERE c.channel_kind = $1 AND c.finished_at IS NULL AND c.gone_at IS NULL AND c.created > $2 \
         ORDER BY c.created LIMIT $3"
    )
}

/// Channels of these kinds that finished before a time, oldest finish first.
pub(super) const FINISHED: &str = "SELECT c.channel, c.last FROM progressd.channels c \
     WHERE c.finished_at < $1 AND c.gone_at IS NULL AND c.channel_kind = ANY ($3) \
     ORDER BY c.finished_at, c.created LIMIT $2";
