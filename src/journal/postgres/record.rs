//! Events and channels as rows. Pages have their checksums from PostgreSQL (`initdb --data-checksums`), rows have none.

use std::{borrow::Cow, str::FromStr};

use bytes::Bytes;
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::error::DatabaseError;
use crate::{
    event::{ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::Stored,
};

/// What [`stored`] reads, in its order.
pub(super) const CHANNELS: &str = "SELECT c.created, c.channel, c.last, c.floor, c.finished_at, \
     c.gone_at IS NOT NULL, c.visible, c.visible_at, c.visible_class, c.visible_grouped, c.visible_name, c.data, c.memo, \
     o.origin FROM progressd.channels c LEFT JOIN progressd.origins o ON o.channel = c.created";

/// Reads a row of [`CHANNELS`].
pub(super) fn stored(row: &Row) -> Result<Stored, DatabaseError> {
    let channel = channel(row, 1)?;
    let visible = match at::<Option<i64>>(row, 6)? {
        None => None,
        Some(_) => Some(Event {
            seq: seq(row, 6)?,
            at: Timestamp::from_millis(at(row, 7)?),
            group: at::<Uuid>(row, 9)?,
            draft: framed(channel.clone(), class(row, 8)?, name(row, 10)?, bytes(row, 11)?.unwrap_or_default()),
        }),
    };
    Ok(Stored {
        created: seq(row, 0)?,
        last: seq(row, 2)?,
        floor: seq(row, 3)?,
        visible,
        memo: bytes(row, 12)?,
        origin: bytes(row, 13)?,
        finished_at: at::<Option<i64>>(row, 4)?.map(Timestamp::from_millis),
        gone: at(row, 5)?,
        channel,
    })
}

/// Reads a row that has the columns of `events` after so many others.
pub(super) fn event(row: &Row, first: usize) -> Result<Event, DatabaseError> {
    let channel = channel(row, first + 3)?;
    let data = bytes(row, first + 6)?.unwrap_or_default();
    let framed = framed(channel, class(row, first + 2)?, name(row, first + 5)?, data);
    Ok(Event {
        seq: seq(row, first)?,
        at: Timestamp::from_millis(at(row, first + 1)?),
        group: at(row, first + 4)?,
        draft: Draft { memo: bytes(row, first + 7)?, origin: bytes(row, first + 8)?, ..framed },
    })
}

/// Reads an event of a channel's history: seq, at, class, grouped, name, data, after so many other columns.
pub(super) fn kept_event(row: &Row, first: usize, channel: &ChannelName) -> Result<Event, DatabaseError> {
    let data = bytes(row, first + 5)?.unwrap_or_default();
    Ok(Event {
        seq: seq(row, first)?,
        at: Timestamp::from_millis(at(row, first + 1)?),
        group: at(row, first + 3)?,
        draft: framed(channel.clone(), class(row, first + 2)?, name(row, first + 4)?, data),
    })
}

fn framed(channel: ChannelName, class: Class, name: Option<Cow<'static, str>>, data: Bytes) -> Draft {
    Draft { channel, name, class, data, memo: None, origin: None }
}

/// A seq as PostgreSQL's signed integer. Seqs count up from one, so they never reach the sign.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// The value in a column.
pub(super) fn at<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, DatabaseError> {
    row.try_get(column).map_err(|error| DatabaseError::Damaged(error.to_string()))
}

/// The seq in a column.
pub(super) fn seq(row: &Row, column: usize) -> Result<Seq, DatabaseError> {
    let signed: i64 = at(row, column)?;
    u64::try_from(signed).map(Seq).map_err(|_| DatabaseError::Damaged(format!("{signed} is not a seq")))
}

/// What the text in a column stands for.
pub(super) fn parsed<T: FromStr>(row: &Row, column: usize) -> Result<T, DatabaseError> {
    let text: &str = at(row, column)?;
    text.parse().map_err(|_| DatabaseError::Damaged(format!("{text:?} is not a name")))
}

/// The channel with the name in a column.
pub(super) fn channel(row: &Row, column: usize) -> Result<ChannelName, DatabaseError> {
    let text: &str = at(row, column)?;
    ChannelName::stored(text).map_err(|_| DatabaseError::Damaged(format!("{text:?} is not a channel")))
}

fn bytes(row: &Row, column: usize) -> Result<Option<Bytes>, DatabaseError> {
    Ok(at::<Option<&[u8]>>(row, column)?.map(Bytes::copy_from_slice))
}

fn name(row: &Row, column: usize) -> Result<Option<Cow<'static, str>>, DatabaseError> {
    Ok(at::<Option<String>>(row, column)?.map(Cow::Owned))
}

fn class(row: &Row, column: usize) -> Result<Class, DatabaseError> {
    let code: i16 = at(row, column)?;
    Class::from_code(code.into()).ok_or_else(|| DatabaseError::Damaged(format!("{code} is not a class of events")))
}
