//! Which life of the store this is: its epochs, kept up to date with each new connection.
//!
//! A life ends when a standby is promoted or the store is restored elsewhere: what was committed last may be lost then, so
//! seqs are given again. Connections break with it, so it is enough to look when one is made. An append names the epoch in
//! which its caller has loaded what they know: so nothing is decided upon what was lost.

use tokio_postgres::{Client, Row};

use super::{error::DatabaseError, record};
use crate::event::{Epoch, Epochs, Seq};

/// The store's name and its epochs, oldest first; a row each.
const EPOCHS: &str = "SELECT s.name, e.first, e.name FROM progressd.store s LEFT JOIN progressd.epochs e ON true \
     ORDER BY e.first";

/// Where the server says that a commit need not reach the disk, it is told otherwise.
pub(super) const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

pub(super) struct Life {
    pub(super) epochs: Epochs,
}

impl Life {
    /// Reads which it is.
    pub(super) async fn find(client: &Client) -> Result<Self, DatabaseError> {
        enter(client).await?;
        Ok(Self { epochs: read(client).await? })
    }

    /// Lets a new connection in: the store must be the one that is known, in whichever life.
    pub(super) async fn enter(&self, client: &Client) -> Result<(), DatabaseError> {
        if enter(client).await? == self.epoch() {
            return Ok(());
        }
        let epochs = read(client).await?;
        if epochs.store() != self.epochs.store() {
            let (found, known) = (epochs.store(), self.epochs.store());
            return Err(DatabaseError::Damaged(format!("it is another store, {found} and not {known}")));
        }
        tracing::warn!("the store has begun another life: it was restored, or a standby was promoted");
        self.epochs.learn(&epochs);
        Ok(())
    }

    /// The epoch of what is appended now.
    pub(super) fn epoch(&self) -> Epoch {
        self.epochs.of(Seq(u64::MAX))
    }

    /// Knows what the rows of [`Life::question`] say.
    pub(super) fn learn(&self, rows: &[Row]) -> Result<(), DatabaseError> {
        self.epochs.learn(&epochs(rows)?);
        Ok(())
    }

    /// The statement that reads the epochs.
    pub(super) fn question() -> &'static str {
        EPOCHS
    }
}

async fn enter(client: &Client) -> Result<Epoch, DatabaseError> {
    client.batch_execute(DURABLE).await.map_err(|error| DatabaseError::before_sending(&error))?;
    let new_epoch = Epoch::random();
    let entered = client.query_one("SELECT progressd.enter($1)", &[&new_epoch.as_str()]).await;
    let row = entered.map_err(|error| DatabaseError::before_sending(&error))?;
    record::parsed(&row, 0)
}

async fn read(client: &Client) -> Result<Epochs, DatabaseError> {
    let rows = client.query(EPOCHS, &[]).await.map_err(|error| DatabaseError::before_sending(&error))?;
    epochs(&rows)
}

fn epochs(rows: &[Row]) -> Result<Epochs, DatabaseError> {
    let row = rows.first().ok_or_else(|| DatabaseError::Damaged("its row of facts is missing".into()))?;
    let store = record::parsed(row, 0)?;
    let begun = rows.iter().map(|row| Ok((record::seq(row, 1)?, record::parsed(row, 2)?)));
    let begun = begun.collect::<Result<Vec<_>, DatabaseError>>()?;
    // As many as an embedded store keeps.
    let begun = begun[begun.len().saturating_sub(Epochs::KEPT_MAX)..].to_vec();
    Epochs::new(store, begun).ok_or_else(|| DatabaseError::Damaged("its epochs do not rise".into()))
}
