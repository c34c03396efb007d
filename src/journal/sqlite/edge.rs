//! The log's right edge: the events that are not folded, where channels end, which groups may be appended, and the rows
//! that an append adds.
//!
//! It belongs to the writer. The fold takes a channel at a time, with all that has come for it: so rows can be ahead of
//! `folded_through`, which follows the channel that has waited longest.

use std::collections::{HashMap, HashSet, VecDeque};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    error::StoreError,
    read,
    record::{self, signed},
};
use crate::{
    event::{ChannelName, Class, Event, Seq},
    journal::{Expect, Group, Outcome},
};

/// Channels of which the last seq is remembered although all of them is folded.
const LASTS_MAX: usize = 65_536;
/// Bytes that weigh as much as a row.
const ROW_BYTES: usize = 4_096;

#[derive(Default)]
pub(super) struct Edge {
    /// Every event after `folded_through`, in seq order.
    events: VecDeque<Event>,
    /// What these weigh.
    lag: usize,
    /// Channels with events that are not in their rows, each with the first of these, in their order.
    waiting: VecDeque<(Seq, ChannelName)>,
    /// The seqs of these events.
    unfolded: HashMap<ChannelName, Vec<Seq>>,
    /// The last seqs of some channels that are in their rows.
    lasts: HashMap<ChannelName, Seq>,
}

/// Channels to fold, each with all its events that are not in its row.
pub(super) struct Slice<'a> {
    pub(super) channels: Vec<(&'a ChannelName, Vec<&'a Event>)>,
    /// All at or before it is in the rows once these are folded.
    pub(super) through: Seq,
    pub(super) weight: usize,
}

/// What of an append is to be written.
pub(super) struct AppendPlan {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) events: Vec<Event>,
}

impl Edge {
    /// Tries groups in order against the store and the groups before them.
    ///
    /// `known` are the ids of groups after the caller's known head.
    pub(super) fn plan(
        &mut self,
        connection: &Connection,
        head: Seq,
        mut known: HashSet<Uuid>,
        groups: Vec<Group>,
    ) -> Result<AppendPlan, StoreError> {
        let drafts = groups.iter().map(|group| group.drafts.len()).sum();
        let mut plan = AppendPlan { outcomes: Vec::with_capacity(groups.len()), events: Vec::with_capacity(drafts) };
        let mut moved = HashMap::with_capacity(drafts);
        known.reserve(groups.len());
        let mut next = head.next();
        for group in groups {
            if known.contains(&group.id) {
                plan.outcomes.push(Outcome::Committed);
                continue;
            }
            if let Some(channel) = self.conflict(connection, &moved, &group)? {
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
        &mut self,
        connection: &Connection,
        moved: &HashMap<ChannelName, Seq>,
        group: &Group,
    ) -> Result<Option<ChannelName>, StoreError> {
        for (channel, expect) in &group.expects {
            let last = match moved.get(channel) {
                Some(last) => Some(*last),
                None => self.last(connection, channel)?,
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
    pub(super) fn last(&mut self, connection: &Connection, channel: &ChannelName) -> Result<Option<Seq>, StoreError> {
        if let Some(last) = self.known_last(channel) {
            return Ok(Some(last));
        }
        // All that is not folded is remembered, so the row has the last word.
        let last = read::last_seq(connection, channel)?;
        last.into_iter().for_each(|last| self.note_last(channel.clone(), last));
        Ok(last)
    }

    /// Takes in what was committed.
    pub(super) fn note(&mut self, events: &[Event]) {
        for event in events {
            self.lag += weight(event);
            self.events.push_back(event.clone());
            match self.unfolded.get_mut(event.channel()) {
                Some(seqs) => seqs.push(event.seq),
                None => {
                    self.unfolded.insert(event.channel().clone(), vec![event.seq]);
                    self.waiting.push_back((event.seq, event.channel().clone()));
                }
            }
        }
    }

    /// How far the fold is behind, in events, of which a big one counts as many.
    pub(super) fn lag(&self) -> usize {
        self.lag
    }

    /// Every event after a seq that is not before `folded_through`.
    pub(super) fn after(&self, seq: Seq) -> impl Iterator<Item = &Event> {
        self.events.iter().skip(self.events.partition_point(|event| event.seq <= seq))
    }

    /// The last seq of a channel, where it is remembered; a channel that is not may be there all the same.
    fn known_last(&self, channel: &ChannelName) -> Option<Seq> {
        let unfolded = self.unfolded.get(channel).and_then(|seqs| seqs.last());
        unfolded.or_else(|| self.lasts.get(channel)).copied()
    }

    /// Remembers what the row says.
    fn note_last(&mut self, channel: ChannelName, last: Seq) {
        if self.lasts.len() >= LASTS_MAX {
            self.lasts.clear();
        }
        self.lasts.insert(channel, last);
    }

    /// A folded channel is not there any more.
    pub(super) fn forget_last(&mut self, channel: &ChannelName) {
        self.lasts.remove(channel);
    }

    /// The channels that have waited longest, at least one and then as many as are not heavier in all than that.
    pub(super) fn slice(&self, weight_max: usize) -> Slice<'_> {
        let mut slice = Slice { channels: Vec::new(), through: self.head(), weight: 0 };
        for (first, channel) in &self.waiting {
            if slice.weight >= weight_max {
                slice.through = Seq(first.0 - 1);
                break;
            }
            let seqs = self.unfolded.get(channel).map_or(&[][..], Vec::as_slice);
            let events: Vec<&Event> = seqs.iter().filter_map(|seq| self.event(*seq)).collect();
            // Of ticks only the last is written, with the row.
            let written = events.iter().filter(|event| event.class() != Class::Tick).map(|event| weight(event));
            slice.weight += 1 + written.sum::<usize>();
            slice.channels.push((channel, events));
        }
        slice
    }

    /// So many channels that have waited longest are folded, and all at or before a seq.
    pub(super) fn folded(&mut self, channels: usize, through: Seq) {
        for _ in 0..channels {
            let Some((_, channel)) = self.waiting.pop_front() else { break };
            if let Some(last) = self.unfolded.remove(&channel).and_then(|seqs| seqs.last().copied()) {
                self.note_last(channel, last);
            }
        }
        while let Some(event) = self.events.front().filter(|event| event.seq <= through) {
            self.lag -= weight(event);
            self.events.pop_front();
        }
    }

    fn head(&self) -> Seq {
        self.events.back().map_or(Seq::ZERO, |event| event.seq)
    }

    fn event(&self, seq: Seq) -> Option<&Event> {
        // There is no gap.
        let first = self.events.front()?.seq;
        self.events.get(usize::try_from(seq.0 - first.0).ok()?)
    }
}

/// Adds rows to the log; the caller's transaction makes them durable.
pub(super) fn insert(connection: &Connection, events: &[Event]) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for event in events {
        let draft = &event.draft;
        let channel = draft.channel.text();
        statement.execute(params![
            signed(event.seq),
            event.at.as_millis(),
            record::class_code(draft.class),
            channel,
            event.group.as_bytes(),
            draft.name.as_deref(),
            &draft.data[..],
            draft.memo.as_deref(),
            draft.origin.as_deref(),
            record::event_checksum(event, &channel),
        ])?;
    }
    Ok(())
}

/// What it is to write an event: one for its row, and more for a big one.
pub(super) fn weight(event: &Event) -> usize {
    let draft = &event.draft;
    let bytes =
        draft.data.len() + [&draft.memo, &draft.origin].into_iter().flatten().map(|part| part.len()).sum::<usize>();
    1 + bytes / ROW_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::event::{Draft, Timestamp};

    fn channel(number: u128) -> ChannelName {
        ChannelName::task(Uuid::from_u128(number))
    }

    fn edge(channels: &[u128]) -> Edge {
        let draft = |number| Draft {
            channel: channel(number),
            name: None,
            class: Class::Change,
            data: Bytes::new(),
            memo: None,
            origin: None,
        };
        let event = |(seq, number): (u64, &u128)| Event {
            seq: Seq(seq),
            at: Timestamp::default(),
            group: Uuid::nil(),
            draft: draft(*number),
        };
        let mut edge = Edge::default();
        edge.note(&(11..).zip(channels).map(event).collect::<Vec<_>>());
        edge
    }

    /// Folds a slice, and tells what was in it and what is left.
    fn fold(edge: &mut Edge, weight: usize) -> (Vec<Vec<u64>>, u64, usize) {
        let slice = edge.slice(weight);
        let seqs = |(_, events): &(_, Vec<&Event>)| events.iter().map(|event| event.seq.0).collect();
        let (channels, through) = (slice.channels.iter().map(seqs).collect::<Vec<_>>(), slice.through);
        edge.folded(channels.len(), through);
        (channels, through.0, edge.lag())
    }

    #[test]
    fn a_slice_takes_whole_channels_and_the_log_follows_the_one_that_waits() {
        let mut edge = edge(&[1, 2, 1, 3, 1, 2]);
        assert_eq!((edge.known_last(&channel(1)), edge.known_last(&channel(4))), (Some(Seq(15)), None));
        assert_eq!(fold(&mut edge, 1), (vec![vec![11, 13, 15]], 11, 5));
        assert_eq!(edge.after(Seq(12)).map(|event| event.seq.0).collect::<Vec<_>>(), [13, 14, 15, 16]);
        assert_eq!(edge.known_last(&channel(1)), Some(Seq(15)));
        assert_eq!(fold(&mut edge, 4), (vec![vec![12, 16], vec![14]], 16, 0));
        edge.forget_last(&channel(1));
        assert_eq!((edge.known_last(&channel(1)), edge.known_last(&channel(2))), (None, Some(Seq(16))));
    }
}
