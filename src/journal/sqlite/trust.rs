//! What has to hold before anything is appended: the store is in use and in its new epoch, what is on the disk is known, and
//! it is what the paths name. Also the end, which makes all of that void.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    connect,
    edge::Edge,
    error::StoreError,
    open, read,
    schema::{self, Facts},
    writer::{JournalWriter, gone},
};
use crate::journal::JournalError;

/// After reopening has failed, it is not tried again for so long, unless a call needs it.
const RETRY: Duration = Duration::from_secs(1);
/// A commit proves for so long that the next would work.
const PROOF: Duration = Duration::from_secs(5);
/// With less room on the disk, it counts as full: what a few commits take before the log begins anew.
const ROOM_BYTES_MIN: u64 = 4 << 20;

#[derive(Default)]
pub(super) struct Trust {
    /// Whether it is noted that the store is in use, in its new epoch.
    has_begun: bool,
    /// Whether all must be written again when it is opened again.
    rewrite: bool,
    /// When something was committed, if nothing has failed since.
    pub(super) proved_at: Option<Instant>,
    /// Whether it was logged that what is open is not what the paths name.
    is_displaced: bool,
}

impl JournalWriter {
    /// Makes sure that an append can be tried.
    pub(super) fn ready_to_write(&mut self) -> Result<(), JournalError> {
        self.check_place()?;
        self.settle()?;
        let begun = self.begin();
        Ok(begun.inspect_err(|error| self.note_failure(error))?)
    }

    /// Folds what an earlier process left, and begins. Where there is no room for that, the store can be read.
    pub(super) fn take_up(&mut self) -> Result<(), StoreError> {
        let taken = self.begin().and_then(|()| self.fold_all());
        if taken.as_ref().is_err_and(StoreError::is_full) {
            tracing::error!(
                "the disk is full: what the journal has can be read, but nothing can be written until there is room"
            );
        }
        taken
    }

    /// Notes that the store is in use, in its new epoch. Cursors of that epoch are given only after it.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        if self.trust.has_begun {
            return Ok(());
        }
        let facts = Facts { closed: false, ..self.facts };
        let transaction = self.connection.as_mut().ok_or_else(gone)?.transaction()?;
        schema::write_epochs(&transaction, &self.epochs)?;
        schema::write_facts(&transaction, &facts)?;
        transaction.commit()?;
        self.facts = facts;
        self.home.place.note()?;
        self.trust.has_begun = true;
        Ok(())
    }

    /// Whether an append would work. That is proved by a commit, unless there was one a moment ago.
    pub(super) fn check(&mut self) -> Result<(), JournalError> {
        self.ready_to_write()?;
        if self.trust.proved_at.is_some_and(|at| at.elapsed() < PROOF) {
            return Ok(());
        }
        let path = &self.home.place.file;
        let disk = rustix::fs::statvfs(path).map_err(|_| StoreError::Displaced(path.clone()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES_MIN {
            return Err(JournalError::Full);
        }
        // They are what they were, but SQLite does not see that and writes.
        let proof = schema::write_epochs(self.connection.as_ref().ok_or_else(gone)?, &self.epochs);
        proof.inspect_err(|error| self.note_failure(error))?;
        self.trust.proved_at = Some(Instant::now());
        Ok(())
    }

    /// Whether the files that are open are those in the data directory.
    pub(super) fn check_place(&mut self) -> Result<(), StoreError> {
        let checked = self.home.place.check();
        match (&checked, self.trust.is_displaced) {
            (Err(error), false) => {
                tracing::error!(%error, "nothing is written until the data directory is back, or the service is started anew");
            }
            (Ok(()), true) => tracing::info!("the data directory is back"),
            _ => {}
        }
        self.trust.is_displaced = checked.is_err();
        checked
    }

    /// Something could not be written, and it was undone. After anything but a full disk, begin anew on a fresh connection.
    pub(super) fn note_failure(&mut self, error: &StoreError) {
        self.trust.proved_at = None;
        if !error.is_full() {
            self.distrust(error);
        }
    }

    /// After an error of the disk nothing that is open can be trusted: see [`open::reopen`].
    pub(super) fn distrust(&mut self, error: &StoreError) {
        tracing::error!(
            error = %error,
            sqlite.code = error.extended_code(),
            "the journal failed; it is closed and will be reopened"
        );
        self.trust.rewrite |= error.may_hide_loss();
        self.gauges.unsettled.store(true, Ordering::Release);
        self.connection = None;
        // What a reader finds may not be on the disk.
        self.pool.pause();
    }

    /// Makes sure that there is a connection and that what is on the disk is known.
    pub(super) fn settle(&mut self) -> Result<(), JournalError> {
        if self.connection.is_some() {
            return Ok(());
        }
        self.pool.pause();
        let settled = self.reopen();
        self.reopen_at = settled.is_err().then(|| Instant::now() + RETRY);
        match &settled {
            Ok(()) => self.pool.resume(),
            Err(error) => {
                tracing::error!(error = %error, "the journal could not be reopened; trying again later");
                self.trust.rewrite |= error.may_hide_loss();
                self.pool.refuse();
            }
        }
        Ok(settled?)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        let (connection, facts) = open::reopen(&self.home.place, &self.facts, self.trust.rewrite)?;
        let head = schema::read_head(&connection, &facts)?;
        if head < self.head {
            return Err(StoreError::Damaged(format!("it ends at {head}, and {} had been committed", self.head)));
        }
        self.edge = Edge::default();
        self.edge.note(&read::events_after(&connection, facts.folded_through, usize::MAX)?);
        (self.connection, self.facts, self.head) = (Some(connection), facts, head);
        self.trust.rewrite = false;
        self.publish();
        self.gauges.unsettled.store(false, Ordering::Release);
        tracing::info!(journal.head = head.0, "the journal was reopened");
        Ok(())
    }

    /// Folds what is left and closes the file.
    pub(super) fn close(&mut self) -> Result<(), JournalError> {
        let closed = self.ready_to_write().and_then(|()| self.fold_to_lag(0));
        self.pool.close();
        closed?;
        let connection = self.connection.take().ok_or_else(gone)?;
        schema::write_facts(&connection, &Facts { closed: true, ..self.facts })?;
        connect::checkpoint(&connection)?;
        connection.close().map_err(|(_, error)| StoreError::from(error))?;
        Ok(())
    }
}
