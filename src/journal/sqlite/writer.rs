//! The writer: the one thread that changes the file. It owns the connection, and what the log has beyond the fold.
//!
//! Appends go first. The fold runs when no call has come for a moment, and, when it is behind, a slice at a time after each
//! append ([`super::fold_pace`]).

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    calls::{Call, Work},
    checkpoint::{self, Checkpointer},
    edge::{self, AppendPlan, Edge},
    error::StoreError,
    fold::{self, FoldBounds},
    fold_pace::{self, FoldPace},
    home::Home,
    open::Opened,
    pool::Pool,
    read,
    schema::{self, Facts},
    sweep::{self, Swept},
    trim::{self, Outdated},
    trust::Trust,
};
use crate::{
    event::{Epochs, Event, Seq},
    journal::{Appended, Group, JournalError, Outcome},
};

/// After folding or reopening has failed, it is not tried again for so long, unless a call needs it.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct JournalWriter {
    // Fields are dropped in this order: the lock goes last.
    pub(super) connection: Option<Connection>,
    pub(super) facts: Facts,
    pub(super) epochs: Epochs,
    pub(super) head: Seq,
    pub(super) edge: Edge,
    pace: FoldPace,
    bounds: FoldBounds,
    /// When these may be tried again although no call needs it.
    pub(super) fold_at: Option<Instant>,
    /// Whether it was logged that folding fails.
    is_fold_failing: bool,
    pub(super) reopen_at: Option<Instant>,
    /// What holds of the store; see [`super::trust`].
    pub(super) trust: Trust,
    pub(super) pool: Arc<Pool>,
    pub(super) checkpointer: Checkpointer,
    pub(super) gauges: Arc<Gauges>,
    pub(super) home: Home,
}

impl JournalWriter {
    /// A writer on a store that was just opened.
    pub(super) fn new(
        home: Home,
        opened: Opened,
        bounds: FoldBounds,
        pool: Arc<Pool>,
        checkpointer: Checkpointer,
        gauges: Arc<Gauges>,
    ) -> Result<Self, StoreError> {
        let Opened { connection, facts, epochs } = opened;
        let head = schema::read_head(&connection, &facts)?;
        let mut edge = Edge::default();
        edge.note(&read::events_after(&connection, facts.folded_through, usize::MAX)?);
        let writer = Self {
            connection: Some(connection),
            facts,
            epochs: epochs.begin_after(head),
            head,
            edge,
            pace: FoldPace::new(),
            bounds,
            fold_at: None,
            is_fold_failing: false,
            reopen_at: None,
            trust: Trust::default(),
            pool,
            checkpointer,
            gauges,
            home,
        };
        writer.publish();
        Ok(writer)
    }

    /// Works until it is closed or nobody is left to call.
    pub(super) fn run(mut self, calls: &Receiver<Call>) {
        loop {
            match calls.recv_timeout(self.next_work()) {
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

    /// How long to wait for a call before something is done that nobody asks for.
    pub(super) fn next_work(&self) -> Duration {
        let rest =
            |until: Option<Instant>| until.map(|at| at.saturating_duration_since(Instant::now())).unwrap_or_default();
        if self.connection.is_none() {
            rest(self.reopen_at)
        } else if self.edge.lag() > 0 {
            rest(self.fold_at).max(FoldPace::time_off(self.edge.lag()))
        } else {
            checkpoint::QUIET
        }
    }

    pub(super) fn work_unasked(&mut self) {
        // Where it is not what is open, that is logged, and nothing is written.
        let is_in_place = self.check_place().is_ok();
        match &self.connection {
            // For those who read; it is logged why.
            None => drop(self.settle()),
            Some(_) if !is_in_place => self.fold_at = Some(Instant::now() + RETRY),
            Some(_) if self.edge.lag() > 0 => {
                self.fold_or_log(self.pace.slice());
                self.look_at_wal();
            }
            Some(connection) => {
                if self.checkpointer.has_grown() {
                    let emptied = self.checkpointer.empty(connection);
                    emptied.unwrap_or_else(|error| self.distrust(&error));
                }
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
            Work::Check { answer } => {
                let _ = answer.send(self.check());
            }
            Work::Fold { answer } => {
                let _ = answer.send(self.ready_to_write().and_then(|()| self.fold_to_lag(0)));
            }
            Work::Sweep { found, answer } => {
                let _ = answer.send(self.sweep(found));
            }
            Work::Trim { found, answer } => {
                let _ = answer.send(self.trim(&found));
            }
            Work::Close { .. } => {}
            #[cfg(test)]
            Work::Test(act) => act(self),
        }
    }

    fn append(&mut self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        self.ready_to_write()?;
        let drafts: usize = groups.iter().map(|group| group.drafts.len()).sum();
        self.fold_to_lag(fold_pace::LAG_MAX.saturating_sub(drafts))?;
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
                self.note_failure(&error);
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
            self.trust.proved_at = Some(Instant::now());
            self.edge.note(&fresh);
            self.checkpointer.note(fresh.iter().map(edge::weight).sum());
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

    /// Folds all that is left.
    pub(super) fn fold_all(&mut self) -> Result<(), StoreError> {
        while self.edge.lag() > 0 {
            self.try_fold(self.pace.slice())?;
        }
        Ok(())
    }

    /// Folds until at most `lag` is left.
    pub(super) fn fold_to_lag(&mut self, lag: usize) -> Result<(), JournalError> {
        while self.edge.lag() > lag {
            self.fold_slice(self.pace.slice())?;
        }
        Ok(())
    }

    fn fold_slice(&mut self, weight: usize) -> Result<(), StoreError> {
        let folded = self.try_fold(weight);
        self.fold_at = folded.is_err().then(|| Instant::now() + RETRY);
        folded.inspect_err(|error| self.note_failure(error))
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
        self.checkpointer.note(slice.weight);
        let channels = slice.channels.len();
        self.facts = facts;
        self.edge.folded(channels, facts.folded_through);
        self.publish();
        Ok(())
    }

    pub(super) fn fold_or_log(&mut self, weight: usize) {
        let folded = self.fold_slice(weight);
        match (&folded, self.is_fold_failing) {
            (Err(error), false) => {
                tracing::error!(error = %error, "the journal cannot fold its log into its tables; trying again each second");
            }
            (Ok(()), true) => tracing::info!("the journal folds its log into its tables again"),
            _ => {}
        }
        self.is_fold_failing = folded.is_err();
    }

    fn look_at_wal(&mut self) {
        let Some(connection) = &self.connection else { return };
        let looked = self.checkpointer.look_at(connection);
        looked.unwrap_or_else(|error| self.distrust(&error));
    }

    fn sweep(&mut self, found: Vec<Swept>) -> Result<usize, JournalError> {
        self.ready_to_write()?;
        let connection = self.connection.as_mut().ok_or_else(gone)?;
        let swept = sweep::sweep(connection, &mut self.edge, found);
        Ok(swept.inspect_err(|error| self.note_failure(error))?)
    }

    fn trim(&mut self, found: &Outdated) -> Result<(), JournalError> {
        self.ready_to_write()?;
        let connection = self.connection.as_mut().ok_or_else(gone)?;
        let trimmed = trim::trim(connection, found);
        Ok(trimmed.inspect_err(|error| self.note_failure(error))?)
    }

    pub(super) fn publish(&self) {
        self.gauges.set(self.facts.folded_through, self.head);
    }
}

/// What others may read of the writer without asking it.
#[derive(Default)]
pub(super) struct Gauges {
    head: AtomicU64,
    folded_through: AtomicU64,
    /// Whether it is not known what is on the disk, so that `head` may be too low.
    pub(super) unsettled: AtomicBool,
}

impl Gauges {
    pub(super) fn set(&self, folded_through: Seq, head: Seq) {
        self.folded_through.store(folded_through.0, Ordering::Release);
        self.head.store(head.0, Ordering::Release);
    }

    pub(super) fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    pub(super) fn folded_through(&self) -> Seq {
        Seq(self.folded_through.load(Ordering::Acquire))
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

pub(super) fn gone() -> StoreError {
    StoreError::Sqlite(rusqlite::Error::InvalidQuery)
}
