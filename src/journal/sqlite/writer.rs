//! The writer: the one thread that changes the file. It owns the connection, and what the log has beyond the fold.
//!
//! Appends go first. The fold runs when no call has come for a moment, and, when it is behind, a slice at a time after each
//! append ([`super::pace`]).

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    calls::{Call, Gauges, Work},
    checkpoint::{self, Checkpointer},
    connect,
    edge::{self, AppendPlan, Edge},
    error::StoreError,
    fold::{self, FoldBounds},
    open::{self, Home},
    pace::{self, FoldPace},
    pool::Pool,
    read,
    schema::{self, Facts},
    sweep::{self, Swept},
};
use crate::{
    event::{Event, Seq},
    journal::{Appended, Group, JournalError, Outcome},
};

/// After folding or reopening has failed, it is not tried again for so long, unless a call needs it.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct JournalWriter {
    // Fields are dropped in this order: the lock goes last.
    pub(super) connection: Option<Connection>,
    facts: Facts,
    head: Seq,
    edge: Edge,
    pace: FoldPace,
    bounds: FoldBounds,
    /// When these may be tried again although no call needs it.
    fold_at: Option<Instant>,
    reopen_at: Option<Instant>,
    /// Whether all must be written again when it is opened again.
    rewrite: bool,
    pool: Arc<Pool>,
    pub(super) checkpointer: Checkpointer,
    gauges: Arc<Gauges>,
    home: Home,
}

impl JournalWriter {
    /// A writer on a store of which everything is folded.
    pub(super) fn new(
        home: Home,
        (connection, facts): (Connection, Facts),
        bounds: FoldBounds,
        pool: Arc<Pool>,
        checkpointer: Checkpointer,
        gauges: Arc<Gauges>,
    ) -> Self {
        let writer = Self {
            connection: Some(connection),
            facts,
            head: facts.folded_through,
            edge: Edge::default(),
            pace: FoldPace::new(),
            bounds,
            fold_at: None,
            reopen_at: None,
            rewrite: false,
            pool,
            checkpointer,
            gauges,
            home,
        };
        writer.publish();
        writer
    }

    /// Works until it is closed or nobody is left to call.
    pub(super) fn run(mut self, calls: &Receiver<Call>) {
        loop {
            let call = match self.next_work() {
                None => calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(after) => calls.recv_timeout(after),
            };
            match call {
                Ok(Call { work: Work::Close { answer }, permit }) => {
                    let closed = self.close();
                    // The lock is gone before the caller is told, so that another can open the store at once.
                    drop(self);
                    let _ = answer.send(closed);
                    drop(permit);
                    return;
                }
                Ok(call) => self.serve(call),
                Err(RecvTimeoutError::Timeout) => self.work_unasked(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long to wait for a call before something is done that nobody asks for; `None` when there is nothing.
    fn next_work(&self) -> Option<Duration> {
        let rest =
            |until: Option<Instant>| until.map(|at| at.saturating_duration_since(Instant::now())).unwrap_or_default();
        if self.connection.is_none() {
            Some(rest(self.reopen_at))
        } else if self.edge.lag() > 0 {
            Some(rest(self.fold_at).max(FoldPace::time_off(self.edge.lag())))
        } else {
            self.checkpointer.has_grown().then_some(checkpoint::QUIET)
        }
    }

    fn work_unasked(&mut self) {
        match &self.connection {
            // For those who read; it is logged why.
            None => drop(self.settle()),
            Some(_) if self.edge.lag() > 0 => {
                self.fold_or_log(self.pace.slice());
                self.look_at_wal();
            }
            Some(connection) => {
                let emptied = self.checkpointer.empty(connection);
                emptied.unwrap_or_else(|error| self.distrust(&error));
            }
        }
    }

    /// Does what is asked. Answers whose caller is gone are dropped: no caller needs them.
    fn serve(&mut self, call: Call) {
        match call.work {
            Work::Append { known_head, groups, answer } => {
                let before = self.head;
                let _ = answer.send(self.append(known_head, groups));
                drop(call.permit);
                let appended = usize::try_from(self.head.0 - before.0).unwrap_or(usize::MAX);
                let may_fold = self.fold_at.is_none_or(|at| at <= Instant::now());
                if let Some(weight) = self.pace.after_append(self.edge.lag(), appended).filter(|_| may_fold) {
                    self.fold_or_log(weight);
                }
                self.look_at_wal();
            }
            Work::Head { answer } => {
                let _ = answer.send(self.settle().map(|()| self.head));
            }
            Work::Fold { answer } => {
                let _ = answer.send(self.settle().and_then(|()| self.fold_to_lag(0)));
            }
            Work::Sweep { found, answer } => {
                let _ = answer.send(self.sweep(found));
            }
            Work::Close { .. } => {}
            #[cfg(test)]
            Work::Test(act) => act(self),
        }
    }

    fn append(&mut self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        self.settle()?;
        let drafts: usize = groups.iter().map(|group| group.drafts.len()).sum();
        self.fold_to_lag(pace::LAG_MAX.saturating_sub(drafts))?;
        if known_head > self.head {
            return Err(JournalError::Damaged(format!("it ends at {}, before the known head {known_head}", self.head)));
        }
        if known_head < self.facts.trimmed_through {
            return Err(JournalError::Lapsed);
        }
        let groups_count = groups.len();
        match self.write(known_head, groups) {
            Ok(appended) => Ok(appended),
            Err(Failed::Before(error)) => {
                // The transaction has been undone. After anything but a full disk, begin anew on a fresh connection.
                if !error.is_full() {
                    self.distrust(&error);
                }
                Err(error.into())
            }
            Err(Failed::During(error)) => {
                self.distrust(&error);
                Ok(Appended { outcomes: vec![Outcome::Unknown; groups_count], events: Vec::new() })
            }
        }
    }

    fn write(&mut self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, Failed> {
        let mut events = self.missed(known_head)?;
        let known = events.iter().map(|event| event.group).collect::<HashSet<_>>();
        let Some(connection) = &mut self.connection else { return Err(Failed::Before(gone())) };
        let AppendPlan { outcomes, events: fresh } = self.edge.plan(connection, self.head, known, groups)?;
        if let Some(last) = fresh.last() {
            let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            let transaction = begun.map_err(StoreError::from)?;
            edge::insert(&transaction, &fresh)?;
            transaction.commit().map_err(|error| match StoreError::from(error) {
                error if error.is_full() => Failed::Before(error),
                error => Failed::During(error),
            })?;
            self.head = last.seq;
            self.edge.note(&fresh);
            self.publish();
            events.extend(fresh);
        }
        Ok(Appended { outcomes, events })
    }

    /// The events that the caller does not know yet.
    fn missed(&self, known_head: Seq) -> Result<Vec<Event>, StoreError> {
        if known_head == self.head {
            return Ok(Vec::new());
        }
        if known_head >= self.facts.folded_through {
            return Ok(self.edge.after(known_head).cloned().collect());
        }
        read::events_after(self.connection.as_ref().ok_or_else(gone)?, known_head, usize::MAX)
    }

    /// After an error of the disk nothing that is open can be trusted: see [`open::reopen`].
    fn distrust(&mut self, error: &StoreError) {
        tracing::error!(
            error = %error,
            sqlite.code = error.extended_code(),
            "the journal failed; it is closed and will be reopened"
        );
        self.rewrite |= error.may_hide_loss();
        self.gauges.unsettled.store(true, Ordering::Release);
        self.connection = None;
        // What a reader finds may not be on the disk.
        self.pool.pause();
    }

    /// Makes sure that there is a connection and that what is on the disk is known.
    fn settle(&mut self) -> Result<(), JournalError> {
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
                self.rewrite |= error.may_hide_loss();
                self.pool.refuse();
            }
        }
        Ok(settled?)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        let (connection, facts) = open::reopen(&self.home.file, &self.facts, self.rewrite)?;
        let head = schema::read_head(&connection, &facts)?;
        if head < self.head {
            return Err(StoreError::Damaged(format!("it ends at {head}, and {} had been committed", self.head)));
        }
        self.edge = Edge::default();
        self.edge.note(&read::events_after(&connection, facts.folded_through, usize::MAX)?);
        (self.connection, self.facts, self.head) = (Some(connection), facts, head);
        self.rewrite = false;
        self.publish();
        self.gauges.unsettled.store(false, Ordering::Release);
        tracing::info!(journal.head = head.0, "the journal was reopened");
        Ok(())
    }

    /// Folds until at most `lag` is left.
    fn fold_to_lag(&mut self, lag: usize) -> Result<(), JournalError> {
        while self.edge.lag() > lag {
            self.fold_slice(self.pace.slice())?;
        }
        Ok(())
    }

    fn fold_slice(&mut self, weight: usize) -> Result<(), StoreError> {
        let folded = self.try_fold(weight);
        self.fold_at = folded.is_err().then(|| Instant::now() + RETRY);
        if let Err(error) = &folded
            && !error.is_full()
        {
            self.distrust(error);
        }
        folded
    }

    fn try_fold(&mut self, weight: usize) -> Result<(), StoreError> {
        let connection = self.connection.as_mut().ok_or_else(gone)?;
        let began = Instant::now();
        let slice = self.edge.slice(weight);
        let transaction = connection.transaction()?;
        let facts = fold::fold(&transaction, &self.facts, self.bounds, &slice.channels, slice.through)?;
        let worked = began.elapsed();
        transaction.commit()?;
        self.pace.learn(slice.weight, worked, began.elapsed() - worked);
        let channels = slice.channels.len();
        self.facts = facts;
        self.edge.folded(channels, facts.folded_through);
        self.publish();
        Ok(())
    }

    pub(super) fn fold_or_log(&mut self, weight: usize) {
        if let Err(error) = self.fold_slice(weight) {
            tracing::error!(error = %error, "the journal could not fold its log into its tables; trying again later");
        }
    }

    fn look_at_wal(&mut self) {
        let Some(connection) = &self.connection else { return };
        let looked = self.checkpointer.look_at(connection);
        looked.unwrap_or_else(|error| self.distrust(&error));
    }

    fn sweep(&mut self, found: Vec<Swept>) -> Result<usize, JournalError> {
        self.settle()?;
        let connection = self.connection.as_mut().ok_or_else(gone)?;
        sweep::sweep(connection, &mut self.edge, found).map_err(|error| {
            if !error.is_full() {
                self.distrust(&error);
            }
            error.into()
        })
    }

    fn close(&mut self) -> Result<(), JournalError> {
        let closed = self.settle().and_then(|()| self.fold_to_lag(0));
        self.pool.close();
        closed?;
        let connection = self.connection.take().ok_or_else(gone)?;
        schema::write_facts(&connection, &Facts { closed: true, ..self.facts })?;
        connect::checkpoint(&connection)?;
        connection.close().map_err(|(_, error)| StoreError::from(error))?;
        Ok(())
    }

    fn publish(&self) {
        self.gauges.set(self.facts.folded_through, self.head);
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        // Whoever asks for the head now has to learn that nobody answers.
        self.gauges.unsettled.store(true, Ordering::Release);
        self.pool.close();
    }
}

/// When an append failed.
enum Failed {
    /// Nothing of it is on the disk.
    Before(StoreError),
    /// It may be on the disk.
    During(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Before(error)
    }
}

fn gone() -> StoreError {
    StoreError::Sqlite(rusqlite::Error::InvalidQuery)
}
