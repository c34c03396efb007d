//! Which life of the store this is: its epochs, kept up to date with each new connection, and what is known of them.
//!
//! A life ends when the server starts, when a standby is promoted, and when the store ends before what was heard of it: it may
//! be an older copy then, what was committed last may be lost, and seqs are given again. Connections break with it, so it is
//! enough to look when one is made. An append names the epoch in which its caller has loaded what they know: so nothing
//! is decided upon what was lost. Where the new life has all that is known here, the caller goes on in it.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio_postgres::{Client, Row};

use super::{
    error::DatabaseError,
    record::{self, signed},
};
use crate::event::{Epoch, Epochs, Seq};

/// The store's name, its epochs, oldest first, and its head; a row each epoch.
const EPOCHS: &str = "SELECT s.name, e.first, e.name, s.head FROM progressd.store s LEFT JOIN progressd.epochs e ON true \
     ORDER BY e.first";

/// Where the server says that a commit need not reach the disk, it is told otherwise.
pub(super) const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

pub(super) struct Life {
    pub(super) epochs: Epochs,
    adopted: Mutex<AdoptedLife>,
    /// The highest seq of which whoever appends may know, in the life that they have adopted.
    head: AtomicU64,
    /// The head that was named last.
    named: AtomicU64,
}

/// The life in which whoever appends has loaded what they know.
struct AdoptedLife {
    epoch: Epoch,
    /// The epochs as they were then.
    epochs: Epochs,
}

impl Life {
    /// Reads which it is, with the head of the store.
    pub(super) async fn find(client: &Client) -> Result<Self, DatabaseError> {
        enter(client, None).await?;
        let (epochs, head) = read(client).await?;
        let epoch = epochs.of(Seq(u64::MAX));
        let adopted = Mutex::new(AdoptedLife { epoch, epochs: as_of(&epochs, epoch) });
        Ok(Self { epochs, adopted, head: AtomicU64::new(head.0), named: AtomicU64::new(head.0) })
    }

    /// Lets a new connection in: the store must be the one that is known, in whichever life.
    pub(super) async fn enter(&self, client: &Client) -> Result<(), DatabaseError> {
        let known = (self.adopted(), self.head());
        if enter(client, Some(known)).await? == self.epoch() {
            return Ok(());
        }
        let (epochs, _) = read(client).await?;
        if epochs.store() != self.epochs.store() {
            let (found, known) = (epochs.store(), self.epochs.store());
            return Err(DatabaseError::Damaged(format!("it is another store, {found} and not {known}")));
        }
        tracing::warn!(
            "the store has begun another life: its server was started, it was restored, or a standby was promoted"
        );
        self.epochs.learn(&epochs);
        Ok(())
    }

    /// The epoch in which whoever appends has loaded what they know.
    pub(super) fn adopted(&self) -> Epoch {
        self.lock_adopted().epoch
    }

    /// What they know is of this epoch from now on.
    pub(super) fn adopt(&self, epoch: Epoch) {
        let mut adopted = self.lock_adopted();
        *adopted = AdoptedLife { epoch, epochs: as_of(&self.epochs, epoch) };
        self.head.store(self.named.load(Ordering::Acquire), Ordering::Release);
    }

    /// Goes on in the latest life, if it has all that was ever known here: then nothing is to be loaded anew.
    pub(super) fn go_on(&self) -> bool {
        let mut adopted = self.lock_adopted();
        let has_all = self.epochs.know(adopted.epochs.cursor(self.head()));
        if has_all {
            let epoch = self.epoch();
            *adopted = AdoptedLife { epoch, epochs: as_of(&self.epochs, epoch) };
        }
        has_all
    }

    /// The highest seq of the adopted life that any answer has named.
    pub(super) fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// An answer in the adopted life has named this seq: all through it is in the rows.
    pub(super) fn note_head(&self, head: Seq) {
        self.head.fetch_max(head.0, Ordering::AcqRel);
    }

    /// The store was asked for its head, in whichever life.
    pub(super) fn name_head(&self, head: Seq) {
        self.named.store(head.0, Ordering::Release);
    }

    fn lock_adopted(&self) -> MutexGuard<'_, AdoptedLife> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Epochs as they were when this one was the last; those of the store alone if it is none of them any more.
fn as_of(epochs: &Epochs, last: Epoch) -> Epochs {
    let begun = epochs.begun();
    let through = begun.iter().rposition(|(_, epoch)| *epoch == last).map_or(0, |place| place + 1);
    // They rise as those do.
    Epochs::new(epochs.store(), begun[..through].to_vec()).unwrap_or_else(|| epochs.store().into())
}

async fn enter(client: &Client, known: Option<(Epoch, Seq)>) -> Result<Epoch, DatabaseError> {
    client.batch_execute(DURABLE).await.map_err(|error| DatabaseError::before_sending(&error))?;
    let new_epoch = Epoch::random();
    let (epoch, head) = (known.map(|(epoch, _)| epoch.to_string()), known.map_or(0, |(_, head)| signed(head)));
    let entered = client.query_one("SELECT progressd.enter($1, $2, $3)", &[&new_epoch.as_str(), &epoch, &head]).await;
    let row = entered.map_err(|error| DatabaseError::before_sending(&error))?;
    record::parsed_at(&row, 0)
}

async fn read(client: &Client) -> Result<(Epochs, Seq), DatabaseError> {
    let rows = client.query(EPOCHS, &[]).await.map_err(|error| DatabaseError::before_sending(&error))?;
    let row = rows.first().ok_or_else(DatabaseError::no_facts)?;
    Ok((epochs(&rows)?, record::seq_at(row, 3)?))
}

fn epochs(rows: &[Row]) -> Result<Epochs, DatabaseError> {
    let row = rows.first().ok_or_else(DatabaseError::no_facts)?;
    let store = record::parsed_at(row, 0)?;
    let begun = rows.iter().map(|row| Ok((record::seq_at(row, 1)?, record::parsed_at(row, 2)?)));
    let begun = begun.collect::<Result<Vec<_>, DatabaseError>>()?;
    // As many as an embedded store keeps.
    let begun = begun[begun.len().saturating_sub(Epochs::KEPT_MAX)..].to_vec();
    Epochs::new(store, begun).ok_or_else(|| DatabaseError::Damaged("its epochs do not rise".into()))
}
