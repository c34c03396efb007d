//! The log's right edge: which groups may be appended, and the one transaction that does it.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    edge::Edge,
    error::StoreError,
    read,
    record::{self, signed},
};
use crate::{
    event::{ChannelName, Event, Seq},
    journal::{Expect, Group, Outcome},
};

/// What of an append is to be written.
pub(super) struct AppendPlan {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) events: Vec<Event>,
}

/// Tries groups in order against the store and the groups before them.
///
/// `known` are the ids of groups after the caller's known head.
pub(super) fn evaluate(
    connection: &Connection,
    edge: &mut Edge,
    head: Seq,
    mut known: HashSet<Uuid>,
    groups: Vec<Group>,
) -> Result<AppendPlan, StoreError> {
    let mut plan = AppendPlan { outcomes: Vec::with_capacity(groups.len()), events: Vec::new() };
    let mut moved: HashMap<ChannelName, Seq> = HashMap::new();
    let mut next = head.next();
    for group in groups {
        if known.contains(&group.id) {
            plan.outcomes.push(Outcome::Committed);
            continue;
        }
        if let Some(channel) = conflict(connection, edge, &moved, &group)? {
            plan.outcomes.push(Outcome::Conflict(channel));
            continue;
        }
        known.insert(group.id);
        for draft in group.drafts {
            moved.insert(draft.channel.clone(), next);
            plan.events.push(Event { seq: next, at: group.at, group: group.id, draft });
            next = next.next();
        }
        plan.outcomes.push(Outcome::Committed);
    }
    Ok(plan)
}

fn conflict(
    connection: &Connection,
    edge: &mut Edge,
    moved: &HashMap<ChannelName, Seq>,
    group: &Group,
) -> Result<Option<ChannelName>, StoreError> {
    for (channel, expect) in &group.expects {
        let last = match moved.get(channel) {
            Some(last) => Some(*last),
            None => last(connection, edge, channel)?,
        };
        let holds = match expect {
            Expect::At(seq) => last == Some(*seq),
            Expect::Absent => last.is_none(),
        };
        if !holds {
            return Ok(Some(channel.clone()));
        }
    }
    Ok(None)
}

/// The last seq of a channel, hidden ones and tombstones too; `None` when it is not there.
pub(super) fn last(connection: &Connection, edge: &mut Edge, channel: &ChannelName) -> Result<Option<Seq>, StoreError> {
    if let Some(last) = edge.last(channel) {
        return Ok(Some(last));
    }
    // All that is not folded is remembered, so the row has the last word.
    let last = read::last_seq(connection, channel)?;
    last.into_iter().for_each(|last| edge.note_last(channel.clone(), last));
    Ok(last)
}

/// Adds rows to the log; the caller's transaction makes them durable.
pub(super) fn insert(connection: &Connection, events: &[Event]) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for event in events {
        let draft = &event.draft;
        statement.execute(params![
            signed(event.seq),
            event.at.as_millis(),
            record::class_code(draft.class),
            draft.channel.text(),
            event.group.as_bytes(),
            draft.name.as_deref(),
            &draft.data[..],
            draft.memo.as_deref(),
            draft.origin.as_deref(),
            record::event_checksum(event),
        ])?;
    }
    Ok(())
}
