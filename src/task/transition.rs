//! A task's next state in the making, and what becomes of it: the event that carries it, with the state itself.
//!
//! What is decided is kept: the state that was encoded into the event is the one that enters the table once the journal
//! has given the event its place. Nothing is decided here.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::{
    eta::AttemptPace,
    lease::Lease,
    row::Row,
    state::{Entry, Memo, Origin, Status, Task},
};
use crate::event::{ChannelKind, ChannelName, Class, Draft, EventName, Seq, Timestamp};

/// The name of a task's events on the wire.
const PROGRESS: &str = "progress";

/// Room for most states while they are written.
const JSON_BYTES: usize = 1024;

/// What an intent leads to, all or nothing; empty where all is as asked already.
pub type Decision = Vec<Decided>;

/// An event to be appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The event.
    pub draft: Draft,
    /// The table's row of its channel after it; `None` for channels that the table does not hold.
    pub row: Option<Row>,
}

/// A task's next state in the making.
pub(super) struct Transition {
    pub(super) before: Status,
    step_before: Option<usize>,
    pub(super) entry: Entry,
    pub(super) now: Timestamp,
}

impl Transition {
    /// From a task that is there.
    pub(super) fn of(entry: &Entry, now: Timestamp) -> Self {
        // The clock may have been set back; a task's own times never go back.
        let now = now.max(entry.task.updated_at);
        Self { before: entry.task.status, step_before: entry.task.step, entry: entry.clone(), now }
    }

    /// From nothing.
    pub(super) fn begin(task: Task, origin: Origin, now: Timestamp) -> Self {
        let entry = Entry {
            data: Bytes::new(),
            memo: Memo::new(now),
            origin: Arc::new(origin),
            created: Seq::ZERO,
            visible: Seq::ZERO,
            last: Seq::ZERO,
            task,
        };
        Self { before: Status::Pending, step_before: None, entry, now }
    }

    /// Work on this attempt begins.
    pub(super) fn start(&mut self, lease: Option<Lease>) {
        let task = &mut self.entry.task;
        task.status = Status::Processing;
        task.started_at = Some(self.now);
        if !task.steps.is_empty() {
            task.step = Some(0);
        }
        let pace = AttemptPace::starting(self.now, task.current.unwrap_or(0));
        self.entry.memo = Memo { lease, pace, ..Memo::new(self.now) };
    }

    pub(super) fn finish(&mut self, status: Status) {
        let Entry { task, memo, .. } = &mut self.entry;
        task.status = status;
        task.finished_at = Some(self.now);
        task.stalled = false;
        task.eta = None;
        memo.lease = None;
        memo.checkpoint = None;
    }

    /// The event: a tick when neither the status nor the current step changed.
    pub(super) fn event(self) -> Decision {
        let task = &self.entry.task;
        let class = if task.status.is_final() {
            Class::Final
        } else if task.status == self.before && task.step == self.step_before {
            Class::Tick
        } else {
            Class::Change
        };
        self.visible(class)
    }

    /// The event of a change that is not a report's: never a tick.
    pub(super) fn change(self) -> Decision {
        self.visible(Class::Change)
    }

    /// The task's first event.
    pub(super) fn first(self) -> Decision {
        let origin = json(&*self.entry.origin);
        let mut decided = self.visible(Class::Change);
        decided.iter_mut().for_each(|decided| decided.draft.origin = Some(origin.clone()));
        decided
    }

    fn visible(mut self, class: Class) -> Decision {
        self.entry.task.updated_at = self.now;
        self.entry.data = json(&self.entry.task);
        let data = self.entry.data.clone();
        self.decided(Some(PROGRESS.into()), class, data)
    }

    /// An event of which nobody is told: only the memo has changed.
    pub(super) fn hidden(self) -> Decision {
        self.decided(None, Class::Hidden, Bytes::new())
    }

    fn decided(self, name: Option<EventName>, class: Class, data: Bytes) -> Decision {
        let memo = Some(json(&self.entry.memo));
        let draft = Draft { channel: self.entry.channel(), name, class, data, memo, origin: None };
        vec![Decided { draft, row: Some(Row::Task(Arc::new(self.entry))) }]
    }
}

/// A channel is forgotten.
pub fn tombstone(channel: ChannelName) -> Decided {
    let row = matches!(channel.kind(), ChannelKind::Task | ChannelKind::Key).then_some(Row::Gone);
    Decided { draft: empty(channel), row }
}

/// A task is forgotten. Its memo says what it was to nodes where it has left memory, so that their counts and lists follow.
pub(super) fn task_tombstone(entry: &Entry) -> Decided {
    let mut decided = tombstone(entry.channel());
    let task = Task { message: None, steps: Vec::new(), result: None, error: None, ..entry.task.clone() };
    decided.draft.memo = Some(json(&task));
    decided
}

fn empty(channel: ChannelName) -> Draft {
    Draft { channel, name: None, class: Class::Tombstone, data: Bytes::new(), memo: None, origin: None }
}

fn json<T: Serialize>(value: &T) -> Bytes {
    let mut json = Vec::with_capacity(JSON_BYTES);
    // The types written here have no maps with other keys than strings, so they always have a JSON text.
    let written = serde_json::to_writer(&mut json, value);
    // It is kept for as long as its task lives, so it takes no more room than it needs.
    if written.is_ok() { Bytes::copy_from_slice(&json) } else { Bytes::new() }
}
