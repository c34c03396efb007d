//! Events and channels as rows, each with a checksum that is compared whenever the row is read.

use std::borrow::Cow;

use bytes::Bytes;
use rusqlite::{Row, types::ValueRef};
use uuid::Uuid;

use super::error::StoreError;
use crate::{
    event::{ChannelName, Class, Draft, Event, HistorySize, Seq, Timestamp},
    journal::{Members, Stored, column},
};

pub(super) use crate::journal::column::signed;

/// Columns of `events`, in the order in which [`event`] reads them.
pub(super) const EVENT_COLUMNS: &str = "seq, at, class, channel, grouped, name, data, memo, origin, checksum";

/// Columns of `history`, in the order in which [`kept_event`] reads them.
pub(super) const HISTORY_COLUMNS: &str = "seq, channel, at, class, grouped, name, data, checksum";

/// Columns of `channels`, in the order in which [`Record::read`] reads them.
pub(super) const CHANNEL_COLUMNS: &str = "created, channel, last, last_at, floor, lasting, bytes, tick, finished_at, gone, \
     status, kind, user_id, queue, visible, visible_at, visible_class, visible_grouped, visible_name, data, memo, checksum";

/// A channel's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What readers get; its `origin` stands in a table of its own and is absent until it is loaded.
    pub(super) stored: Stored,
    /// When its last event was decided.
    pub(super) last_at: Timestamp,
    /// How much its history has above the floor.
    pub(super) size: HistorySize,
    /// The one tick in its history, or zero; a tick that is the last visible event stands in the row only.
    pub(super) tick: Seq,
    /// The members of the visible state.
    pub(super) members: Members,
}

impl Record {
    /// Reads and verifies a row of [`CHANNEL_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let record = Self::unverified(row)?;
        record.verify(row, record.checksum())?;
        Ok(record)
    }

    /// Compares the checksum in its row with what it must be.
    pub(super) fn verify(&self, row: &Row<'_>, computed: i64) -> Result<(), StoreError> {
        verify(row.get(21)?, computed, || format!("channel {}", self.stored.channel))
    }

    /// Reads a row of [`CHANNEL_COLUMNS`].
    pub(super) fn unverified(row: &Row<'_>) -> Result<Self, StoreError> {
        let created = seq_at(row, 0)?;
        let channel = channel_at(row, 1)?;
        let visible = match row.get_ref(14)? {
            ValueRef::Null => None,
            _ => Some(Event {
                seq: seq_at(row, 14)?,
                at: Timestamp::from_millis(row.get(15)?),
                group: group_at(row, 17)?,
                draft: Draft {
                    channel: ChannelName::clone(&channel),
                    name: name_at(row, 18)?,
                    class: class_at(row, 16)?,
                    data: bytes_at(row, 19)?.unwrap_or_default(),
                    memo: None,
                    origin: None,
                },
            }),
        };
        Ok(Self {
            stored: Stored {
                channel,
                created,
                last: seq_at(row, 2)?,
                floor: seq_at(row, 4)?,
                visible,
                memo: bytes_at(row, 20)?,
                origin: None,
                finished_at: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
                gone: row.get(9)?,
            },
            last_at: Timestamp::from_millis(row.get(3)?),
            size: HistorySize { events: seq_at(row, 5)?.0, bytes: seq_at(row, 6)?.0 },
            tick: seq_at(row, 7)?,
            members: Members { status: row.get(10)?, kind: row.get(11)?, user_id: row.get(12)?, queue: row.get(13)? },
        })
    }

    pub(super) fn checksum(&self) -> i64 {
        self.checked().seq(Seq(self.size.bytes)).finish()
    }

    /// What the checksum is of, but for the bytes of its history: all that there was up to version 2.
    pub(super) fn checked(&self) -> Checksum {
        let stored = &self.stored;
        let mut sum = Checksum::new()
            .seq(stored.created)
            .bytes(stored.channel.text().as_bytes())
            .seq(stored.last)
            .number(self.last_at.as_millis())
            .seq(stored.floor)
            .seq(Seq(self.size.events))
            .seq(self.tick)
            .optional(stored.finished_at.map(|at| at.as_millis().to_le_bytes()).as_ref().map(|bytes| &bytes[..]))
            .number(i64::from(stored.gone));
        for member in [&self.members.status, &self.members.kind, &self.members.user_id, &self.members.queue] {
            sum = sum.optional(member.as_ref().map(String::as_bytes));
        }
        if let Some(event) = &stored.visible {
            sum = sum.number(kept_checksum(stored.created, event));
        }
        sum.optional(stored.memo.as_deref())
    }
}

/// Reads and verifies a row of [`EVENT_COLUMNS`].
pub(super) fn event(row: &Row<'_>) -> Result<Event, StoreError> {
    let seq = seq_at(row, 0)?;
    let event = Event {
        seq,
        at: Timestamp::from_millis(row.get(1)?),
        group: group_at(row, 4)?,
        draft: Draft {
            channel: channel_at(row, 3)?,
            name: name_at(row, 5)?,
            class: class_at(row, 2)?,
            data: bytes_at(row, 6)?.unwrap_or_default(),
            memo: bytes_at(row, 7)?,
            origin: bytes_at(row, 8)?,
        },
    };
    verify(row.get(9)?, event_checksum(&event, text_at(row, 3)?), || format!("event {seq}"))?;
    Ok(event)
}

/// Reads and verifies a row of [`HISTORY_COLUMNS`] of the channel that is given.
pub(super) fn kept_event(row: &Row<'_>, channel: &ChannelName) -> Result<Event, StoreError> {
    let seq = seq_at(row, 0)?;
    let event = Event {
        seq,
        at: Timestamp::from_millis(row.get(2)?),
        group: group_at(row, 4)?,
        draft: Draft {
            channel: channel.clone(),
            name: name_at(row, 5)?,
            class: class_at(row, 3)?,
            data: bytes_at(row, 6)?.unwrap_or_default(),
            memo: None,
            origin: None,
        },
    };
    verify(row.get(7)?, kept_checksum(seq_at(row, 1)?, &event), || format!("event {seq} of {channel}"))?;
    Ok(event)
}

/// The checksum of a row of `events`; `channel` is the text of its channel's name.
pub(super) fn event_checksum(event: &Event, channel: &str) -> i64 {
    envelope(Checksum::new().bytes(channel.as_bytes()), event)
        .optional(event.draft.memo.as_deref())
        .optional(event.draft.origin.as_deref())
        .finish()
}

/// The checksum of a row of `history`.
pub(super) fn kept_checksum(channel: Seq, event: &Event) -> i64 {
    envelope(Checksum::new().seq(channel), event).finish()
}

/// The checksum of a row of `origins`.
pub(super) fn origin_checksum(channel: Seq, origin: &[u8]) -> i64 {
    Checksum::new().seq(channel).bytes(origin).finish()
}

fn envelope(sum: Checksum, event: &Event) -> Checksum {
    sum.seq(event.seq)
        .number(event.at.as_millis())
        .number(i64::from(event.class().code()))
        .bytes(event.group.as_bytes())
        .optional(event.draft.name.as_ref().map(|name| name.as_bytes()))
        .bytes(&event.draft.data)
}

/// Half of a BLAKE3 hash: a row that was changed by accident passes once in 2⁶⁴ times.
///
/// What is hashed is gathered first: the hash of small parts one by one takes longer than that of all at once.
pub(super) struct Checksum(Vec<u8>);

impl Checksum {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(1024))
    }

    pub(super) fn number(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(super) fn seq(self, seq: Seq) -> Self {
        self.number(signed(seq))
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        // The length goes first, so that no two rows run together into the same bytes.
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.number(1).bytes(bytes),
            None => self.number(0),
        }
    }

    pub(super) fn finish(self) -> i64 {
        let hash = blake3::hash(&self.0);
        hash.as_bytes().iter().take(8).fold(0, |sum, byte| (sum << 8) | i64::from(*byte))
    }
}

/// Compares a stored checksum with the one worked out.
pub(super) fn verify(stored: i64, computed: i64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if stored == computed { Ok(()) } else { Err(StoreError::Damaged(format!("the checksum of {} is wrong", what()))) }
}

/// The seq in a column.
pub(super) fn seq_at(row: &Row<'_>, place: usize) -> Result<Seq, StoreError> {
    Ok(column::seq(row.get(place)?)?)
}

/// The bytes in a column, if any.
pub(super) fn bytes_at(row: &Row<'_>, column: usize) -> Result<Option<Bytes>, StoreError> {
    Ok(row.get::<_, Option<Vec<u8>>>(column)?.map(Bytes::from))
}

fn class_at(row: &Row<'_>, place: usize) -> Result<Class, StoreError> {
    Ok(column::class(row.get(place)?)?)
}

/// The channel with the name in a column.
pub(super) fn channel_at(row: &Row<'_>, place: usize) -> Result<ChannelName, StoreError> {
    Ok(column::channel(text_at(row, place)?)?)
}

fn group_at(row: &Row<'_>, column: usize) -> Result<Uuid, StoreError> {
    Ok(Uuid::from_bytes(row.get(column)?))
}

fn text_at<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column)?.as_str().map_err(|error| StoreError::Damaged(error.to_string()))
}

fn name_at(row: &Row<'_>, column: usize) -> Result<Option<Cow<'static, str>>, StoreError> {
    Ok(row.get::<_, Option<String>>(column)?.map(Cow::Owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_that_of_all_parts_in_a_row() {
        let long = vec![7; 3_000];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&5_i64.to_le_bytes()).update(&1_i64.to_le_bytes());
        hasher.update(&3_000_u64.to_le_bytes()).update(&long).update(&0_i64.to_le_bytes());
        let expected = i64::from_be_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap());
        assert_eq!(Checksum::new().seq(Seq(5)).optional(Some(&long)).optional(None).finish(), expected);
    }
}
