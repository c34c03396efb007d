//! What time it is by the database's clock, which all nodes share: told by each look of the follower, and carried on in
//! between by the clock of this machine that nobody sets.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tokio_postgres::Row;

use super::error::DatabaseError;
use crate::event::Timestamp;

/// The database's time, for a statement to select as its column [`TOLD`].
pub(super) const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS told_at";
/// The column.
const TOLD: &str = "told_at";

/// The database's clock, as it is known here.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    /// What time it was at some moment.
    anchor: Mutex<(Instant, Timestamp)>,
}

impl DatabaseClock {
    /// A clock of which a row tells for the first time, that was asked for at `sent`.
    pub(super) fn told(row: &Row, sent: Instant) -> Result<Self, DatabaseError> {
        Ok(Self { anchor: Mutex::new((sent, told_at(row)?)) })
    }

    pub(super) fn now(&self) -> Timestamp {
        let (moment, time) = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        time + moment.elapsed()
    }

    /// A row tells the time, and was asked for at `sent`.
    pub(super) fn learn(&self, row: &Row, sent: Instant) -> Result<(), DatabaseError> {
        let (told, moment) = (told_at(row)?, Instant::now());
        // It was told somewhere on the way: what is known is corrected only as far as it cannot be true.
        let right = self.now().clamp(told, told + (moment - sent));
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = (moment, right);
        Ok(())
    }
}

fn told_at(row: &Row) -> Result<Timestamp, DatabaseError> {
    let told = row.try_get(TOLD).map_err(|error| DatabaseError::Damaged(error.to_string()))?;
    Ok(Timestamp::from_millis(told))
}
