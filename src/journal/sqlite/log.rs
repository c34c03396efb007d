//! The log's right edge: which groups may be appended, and the one transaction that does it.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    error::StoreError,
    read,
    record::{self, signed},
};
use crate::{
    event::{ChannelName, Event, Seq},
    journal::{Expect, Group, Outcome},
};

/// Channels whose last seq is kept in memory, at least while their events are not folded.
const LASTS_MAX: usize = 65_536;

/// The last seq of channels that were appended to or asked for; `None` for channels that are not there.
#[derive(Default)]
pub(super) struct Lasts(HashMap<ChannelName, Option<Seq>>);

impl Lasts {
    pub(super) fn get(&mut self, connection: &Connection, channel: &ChannelName) -> Result<Option<Seq>, StoreError> {
        if let Some(last) = self.0.get(channel) {
            return Ok(*last);
        }
        // All that is not folded is in the map, so the row has the last word.
        let last = read::last_seq(connection, channel)?;
        self.0.insert(channel.clone(), last);
        Ok(last)
    }

    /// Notes what was committed, and forgets what the rows can tell when there is too much.
    pub(super) fn note(&mut self, events: &[Event], folded_through: Seq) {
        for event in events {
            match self.0.get_mut(event.channel()) {
                Some(last) => *last = Some(event.seq),
                None => drop(self.0.insert(event.channel().clone(), Some(event.seq))),
            }
        }
        if self.0.len() > LASTS_MAX {
            self.0.retain(|_, last| last.is_some_and(|last| last > folded_through));
        }
    }

    pub(super) fn forget(&mut self, channel: &ChannelName) {
        self.0.remove(channel);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What of an append is to be written.
pub(super) struct Batch {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) events: Vec<Event>,
}

/// Tries groups in order against the store and the groups before them.
///
/// `known` are the ids of groups after the caller's known head.
pub(super) fn evaluate(
    connection: &Connection,
    lasts: &mut Lasts,
    head: Seq,
    mut known: HashSet<Uuid>,
    groups: Vec<Group>,
) -> Result<Batch, StoreError> {
    let mut batch = Batch { outcomes: Vec::with_capacity(groups.len()), events: Vec::new() };
    let mut moved: HashMap<ChannelName, Seq> = HashMap::new();
    let mut next = head.next();
    for group in groups {
        if known.contains(&group.id) {
            batch.outcomes.push(Outcome::Committed);
            continue;
        }
        if let Some(channel) = conflict(connection, lasts, &moved, &group)? {
            batch.outcomes.push(Outcome::Conflict(channel));
            continue;
        }
        known.insert(group.id);
        for draft in group.drafts {
            moved.insert(draft.channel.clone(), next);
            batch.events.push(Event { seq: next, at: group.at, group: group.id, draft });
            next = next.next();
        }
        batch.outcomes.push(Outcome::Committed);
    }
    Ok(batch)
}

fn conflict(
    connection: &Connection,
    lasts: &mut Lasts,
    moved: &HashMap<ChannelName, Seq>,
    group: &Group,
) -> Result<Option<ChannelName>, StoreError> {
    for (channel, expect) in &group.expects {
        let last = match moved.get(channel) {
            Some(last) => Some(*last),
            None => lasts.get(connection, channel)?,
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
