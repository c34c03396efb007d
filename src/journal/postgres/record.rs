//! Events and channels as rows. Pages have their checksums from PostgreSQL (`initdb --data-checksums`), rows have none.

use std::{borrow::Cow, str::FromStr};

use bytes::Bytes;
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::error::DatabaseError;
use crate::{
    event::{ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::{Stored, column},
};

pub(super) use crate::journal::column::signed;

/// What [`stored`] reads, in its order.
pub(super) const CHANNELS: &str = "SELECT c.created, c.channel, c.last, c.floor, c.finished_at, \
     c.gone_at IS NOT NULL, c.visible, c.visible_at, c.visible_class, c.visible_grouped, c.visible_name, c.data, c.memo, \
     o.origin FROM progressd.channels c LEFT JOIN progressd.origins o ON o.channel = c.created";

/// Reads a row of [`CHANNELS`].
pub(super) fn stored(row: &Row) -> Result<Stored, DatabaseError> {
    let channel = channel_at(row, 1)?;
    let visible = match value_at::<Option<i64>>(row, 6)? {
        None => None,
        Some(_) => Some(Event {
            seq: seq_at(row, 6)?,
            at: Timestamp::from_millis(value_at(row, 7)?),
            group: value_at::<Uuid>(row, 9)?,
            draft: framed(
                channel.clone(),
                class_at(row, 8)?,
                name_at(row, 10)?,
                bytes_at(row, 11)?.unwrap_or_default(),
            ),
        }),
    };
    Ok(Stored {
        created: seq_at(row, 0)?,
        last: seq_at(row, 2)?,
        floor: seq_at(row, 3)?,
        visible,
        memo: bytes_at(row, 12)?,
        origin: bytes_at(row, 13)?,
        finished_at: value_at::<Option<i64>>(row, 4)?.map(Timestamp::from_millis),
        gone: value_at(row, 5)?,
        channel,
    })
}

/// Reads a row that has the columns of `events` after so many others.
pub(super) fn event(row: &Row, first: usize) -> Result<Event, DatabaseError> {
    let channel = channel_at(row, first + 3)?;
    let data = bytes_at(row, first + 6)?.unwrap_or_default();
    let framed = framed(channel, class_at(row, first + 2)?, name_at(row, first + 5)?, data);
    Ok(Event {
        seq: seq_at(row, first)?,
        at: Timestamp::from_millis(value_at(row, first + 1)?),
        group: value_at(row, first + 4)?,
        draft: Draft { memo: bytes_at(row, first + 7)?, origin: bytes_at(row, first + 8)?, ..framed },
    })
}

/// Reads an event of a channel's history: seq, at, class, grouped, name, data, after so many other columns.
pub(super) fn kept_event(row: &Row, first: usize, channel: &ChannelName) -> Result<Event, DatabaseError> {
    let data = bytes_at(row, first + 5)?.unwrap_or_default();
    Ok(Event {
        seq: seq_at(row, first)?,
        at: Timestamp::from_millis(value_at(row, first + 1)?),
        group: value_at(row, first + 3)?,
        draft: framed(channel.clone(), class_at(row, first + 2)?, name_at(row, first + 4)?, data),
    })
}

fn framed(channel: ChannelName, class: Class, name: Option<Cow<'static, str>>, data: Bytes) -> Draft {
    Draft { channel, name, class, data, memo: None, origin: None }
}

/// The value in a column.
pub(super) fn value_at<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, DatabaseError> {
    row.try_get(place).map_err(|error| DatabaseError::Damaged(error.to_string()))
}

/// The seq in a column.
pub(super) fn seq_at(row: &Row, place: usize) -> Result<Seq, DatabaseError> {
    Ok(column::seq(value_at(row, place)?)?)
}

/// What the text in a column stands for.
pub(super) fn parsed_at<T: FromStr>(row: &Row, place: usize) -> Result<T, DatabaseError> {
    let text: &str = value_at(row, place)?;
    text.parse().map_err(|_| DatabaseError::Damaged(format!("{text:?} is not a name")))
}

/// The channel with the name in a column.
pub(super) fn channel_at(row: &Row, place: usize) -> Result<ChannelName, DatabaseError> {
    Ok(column::channel(value_at(row, place)?)?)
}

fn bytes_at(row: &Row, place: usize) -> Result<Option<Bytes>, DatabaseError> {
    Ok(value_at::<Option<&[u8]>>(row, place)?.map(Bytes::copy_from_slice))
}

fn name_at(row: &Row, place: usize) -> Result<Option<Cow<'static, str>>, DatabaseError> {
    Ok(value_at::<Option<String>>(row, place)?.map(Cow::Owned))
}

fn class_at(row: &Row, place: usize) -> Result<Class, DatabaseError> {
    Ok(column::class(value_at::<i16>(row, place)?.into())?)
}
