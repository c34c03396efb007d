//! Opening: the tables are made or upgraded under a lock, and the store tells who it is.

use tokio_postgres::{Client, Transaction};

use super::{
    address::Address,
    error::{DatabaseError, DatabaseRefused},
    life::Life,
    time::{self, DatabaseClock},
};
use crate::event::{Epoch, HistoryBounds};

/// The version of the tables and functions.
pub(super) const VERSION: i32 = 4;

/// What makes the tables of each version from those of the one before it; of the first, from nothing. The fourth has other
/// functions only.
const UPGRADES: [&str; VERSION as usize] =
    [include_str!("tables.sql"), include_str!("history_bytes.sql"), include_str!("lives.sql"), ""];

/// What makes the functions of this version.
const FUNCTIONS: &str = include_str!("append.sql");

/// A store, and what is known of it.
pub(super) struct FoundStore {
    pub(super) life: Life,
    pub(super) clock: DatabaseClock,
}

/// Makes the store what this version needs, and reads who it is.
pub(super) async fn open(address: &Address, history: HistoryBounds) -> Result<FoundStore, DatabaseRefused> {
    let opened = address.work(async |client: &mut Client| open_on(client, history).await).await;
    opened.map_err(|error| error.at_open(&address.place))
}

async fn open_on(client: &mut Client, history: HistoryBounds) -> Result<FoundStore, DatabaseError> {
    let failed = |error| DatabaseError::before_sending(&error);
    let transaction = client.transaction().await.map_err(failed)?;
    let found = upgrade(&transaction, history).await.map_err(failed)?;
    if found > VERSION {
        return Err(DatabaseError::Newer(found));
    }
    transaction.commit().await.map_err(failed)?;
    let life = Life::find(client).await?;
    let row = client.query_one(&format!("SELECT {} FROM progressd.store", time::NOW), &[]).await.map_err(failed)?;
    Ok(FoundStore { life, clock: DatabaseClock::at(time::told_at(&row)?) })
}

/// Makes what is missing, while no other node does, and answers the version that was found or made.
pub(super) async fn upgrade(
    transaction: &Transaction<'_>,
    history: HistoryBounds,
) -> Result<i32, tokio_postgres::Error> {
    let is_there = lock_and_find(transaction).await?;
    let found = is_there.unwrap_or(0);
    let from = usize::try_from(found).unwrap_or_default();
    if is_there.is_some() && found < VERSION {
        // In the order of an append: first the log's lock, then the tables.
        transaction.execute("SELECT progressd.lock_log()", &[]).await?;
    }
    for step in UPGRADES.iter().skip(from) {
        transaction.batch_execute(step).await?;
    }
    if found < VERSION {
        transaction.batch_execute(FUNCTIONS).await?;
    }
    if is_there.is_none() {
        let name = Epoch::random();
        transaction
            .execute("INSERT INTO progressd.store VALUES (1, $1, $2, 0, 0, $2, '', '')", &[&VERSION, &name.as_str()])
            .await?;
        transaction.execute("INSERT INTO progressd.checks VALUES (1, now())", &[]).await?;
    } else if found < VERSION {
        transaction.execute("UPDATE progressd.store SET version = $1", &[&VERSION]).await?;
    }
    if found <= VERSION {
        let bytes_max = i64::try_from(history.bytes()).unwrap_or(i64::MAX);
        transaction.execute("SELECT progressd.bound_histories($1)", &[&bytes_max]).await?;
    }
    Ok(found.max(VERSION))
}

/// Looks for a store, and answers its version. Until the end of the transaction nobody else makes or upgrades one.
pub(super) async fn lock_and_find(transaction: &Transaction<'_>) -> Result<Option<i32>, tokio_postgres::Error> {
    // Nodes that start together wait for each other, however long an upgrade takes.
    transaction.batch_execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").await?;
    transaction.execute("SELECT pg_advisory_xact_lock(x'70726764'::int, 2)", &[]).await?;
    let is_there = transaction.query_one("SELECT to_regclass('progressd.store') IS NOT NULL", &[]).await?;
    if !is_there.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    transaction.query_one("SELECT version FROM progressd.store", &[]).await?.try_get(0).map(Some)
}
