//! What tests can make the journal in memory do: foreign events, lost answers, failures, held appends, and counters.

use std::sync::Arc;

use tokio::sync::watch;

use super::MemoryJournal;
use crate::{
    event::{Event, Seq},
    journal::{Group, JournalError},
};

/// What became of an append whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostAnswer {
    /// It was committed (but for groups that conflicted).
    Committed,
    /// Nothing of it was committed.
    NotCommitted,
}

/// What will go wrong, and what has been counted.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) foreign_before_next_append: Vec<Group>,
    pub(super) lost_answer: Option<LostAnswer>,
    pub(super) failure: Option<JournalError>,
    pub(super) lapse: bool,
    pub(super) fold_held: bool,
    pub(super) appends: usize,
    pub(super) groups: usize,
}

/// What tests can do to it.
impl MemoryJournal {
    /// Commits events of another node now, whatever the group expects, and returns them.
    pub fn foreign(&self, group: Group) -> Vec<Event> {
        let mut store = self.store();
        let events = store.commit(&group);
        store.fold_unless_held();
        events
    }

    /// Commits events of another node just before the next append is evaluated, so that what it expects may not hold.
    pub fn foreign_before_next_append(&self, group: Group) {
        self.store().faults.foreign_before_next_append.push(group);
    }

    /// The next append answers that the outcome of all its groups is unknown.
    pub fn lose_next_answer(&self, lost: LostAnswer) {
        self.store().faults.lost_answer = Some(lost);
    }

    /// The next append fails so, with nothing committed.
    pub fn fail_next_append(&self, error: JournalError) {
        self.store().faults.failure = Some(error);
    }

    /// The next tail answers that it has lapsed.
    pub fn lapse(&self) {
        self.store().faults.lapse = true;
    }

    /// Holds every append, before anything of it is evaluated, until the gate is dropped.
    pub fn hold_appends(&self) -> AppendGate {
        self.gate.holds.send_modify(|holds| *holds += 1);
        AppendGate { gate: Arc::clone(&self.gate) }
    }

    /// Leaves `folded_through` where it is until [`MemoryJournal::fold`].
    pub fn hold_fold(&self) {
        self.store().faults.fold_held = true;
    }

    /// Folds everything now, and again after each append.
    pub fn fold(&self) {
        let mut store = self.store();
        store.faults.fold_held = false;
        store.fold();
    }

    /// Another handle on the same store, open again after a close: a restart.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let mut store = self.store();
        store.closed = false;
        store.epochs = store.epochs.begin_after(store.head);
        Self { epochs: store.epochs.clone(), ..self.clone() }
    }

    /// How often append was called.
    pub fn appends(&self) -> usize {
        self.store().faults.appends
    }

    /// How many groups were evaluated or lost.
    pub fn groups(&self) -> usize {
        self.store().faults.groups
    }

    /// Highest seq that was trimmed from the log.
    pub fn trimmed_through(&self) -> Seq {
        self.store().trimmed_through
    }
}

/// Holds appends until it is dropped.
pub struct AppendGate {
    gate: Arc<Gate>,
}

impl AppendGate {
    /// Waits until an append stands at the gate.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn reached(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.gate.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }

    /// Lets the appends pass; the same as dropping the gate.
    pub fn release(self) {}
}

impl Drop for AppendGate {
    fn drop(&mut self) {
        self.gate.holds.send_modify(|holds| *holds -= 1);
    }
}

/// How many hold the gate, and how many appends wait at it.
#[derive(Default)]
pub(super) struct Gate {
    holds: watch::Sender<usize>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    pub(super) async fn pass(&self) {
        let mut holds = self.holds.subscribe();
        if *holds.borrow_and_update() == 0 {
            return;
        }
        let _waiting = WaitingAppend::at(self);
        // The sender is held by `self`, so waiting cannot fail.
        let _ = holds.wait_for(|holds| *holds == 0).await;
    }
}

/// Counts one append that waits, also when its future is dropped.
struct WaitingAppend<'a>(&'a Gate);

impl<'a> WaitingAppend<'a> {
    fn at(gate: &'a Gate) -> Self {
        gate.waiting.send_modify(|waiting| *waiting += 1);
        Self(gate)
    }
}

impl Drop for WaitingAppend<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
