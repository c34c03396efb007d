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
    /// A clock that shows this time now.
    pub(super) fn at(told: Timestamp) -> Self {
        Self { anchor: Mutex::new((Instant::now(), told)) }
    }

    pub(super) fn now(&self) -> Timestamp {
        let (moment, time) = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        time + moment.elapsed()
    }

    /// The database has told this time, and was asked for it at `sent`.
    pub(super) fn learn(&self, told: Timestamp, sent: Instant) {
        let moment = Instant::now();
        // It was told somewhere on the way: what is known is corrected only as far as it cannot be true.
        let right = self.now().clamp(told, told + (moment - sent));
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = (moment, right);
    }
}

/// The time that a row tells.
pub(super) fn told_at(row: &Row) -> Result<Timestamp, DatabaseError> {
    let told = row.try_get(TOLD).map_err(|error| DatabaseError::Damaged(error.to_string()))?;
    Ok(Timestamp::from_millis(told))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_by_itself_and_is_corrected_only_as_far_as_it_is_wrong() {
        let at = Timestamp::from_millis;
        let clock = DatabaseClock::at(at(1_000));
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clock.now(), at(1_100));
        // Told at once, or at the last moment: both may be true.
        clock.learn(at(1_000), sent);
        clock.learn(at(1_100), sent);
        assert_eq!(clock.now(), at(1_100));
        clock.learn(at(3_600_000), sent);
        assert_eq!(clock.now(), at(3_600_000));
        clock.learn(at(1_000), sent);
        assert_eq!(clock.now(), at(1_100));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), at(2_100));
    }
}
