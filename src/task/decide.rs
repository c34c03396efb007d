//! The one place where it is decided what an intent does to a task; what a report does is in [`super::report`].

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::{
    eta::Pace,
    intent::{Intent, NewTask},
    report,
    state::{Entry, KeyMemo, Lease, Memo, Origin, Status, Step, Task, TaskError},
};
use crate::event::{ChannelName, Class, Draft, Timestamp};

/// The name of a task's events on the wire.
const PROGRESS: &str = "progress";

/// The settings that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// A task that is worked on and of which nothing was heard for so long has stalled.
    pub stalled_after: Duration,
}

/// What an intent leads to: nothing, where all is as asked already.
pub type Decision = Vec<Draft>;

/// Why an intent is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such task.
    #[error("there is no such task")]
    NotFound,
    /// It is there no more.
    #[error("the task has been deleted")]
    Gone,
    /// A final status is final.
    #[error("the task is {0} already")]
    Final(Status),
    /// Only the holder of its lease may do that.
    #[error("the task is leased to another worker")]
    Leased,
    /// The lease was another attempt's, or has ended.
    #[error("the lease on the task has ended")]
    LeaseLost,
    /// Somebody has taken it already.
    #[error("the task is not pending")]
    NotPending,
    /// Only finished tasks can be forgotten.
    #[error("the task is not finished")]
    NotFinished,
    /// The id or idempotency key was used with another request.
    #[error("this id or idempotency key was used with another request")]
    Mismatch,
    /// A member does not fit this task.
    #[error("{member} {reason}")]
    Invalid {
        /// Its name on the wire.
        member: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Decides what `intent` does to the task `id`, whose state is `entry`.
///
/// # Errors
/// When the state of the task does not allow it.
pub fn decide(
    id: Uuid,
    entry: Option<&Entry>,
    intent: &Intent,
    now: Timestamp,
    policy: &Policy,
) -> Result<Decision, Refusal> {
    if let Intent::Create { new, key, lease } = intent {
        return match entry {
            None => Ok(create(id, new, *key, lease.as_ref(), now)),
            Some(entry) if entry.origin.digest == new.digest() => Ok(Vec::new()),
            Some(_) => Err(Refusal::Mismatch),
        };
    }
    let entry = entry.ok_or(Refusal::NotFound)?;
    let change = Change::of(entry, now);
    match intent {
        Intent::Create { .. } => Ok(Vec::new()),
        Intent::Claim(lease) => claim(change, lease),
        Intent::Release { token } => release(change, *token),
        Intent::TakeOver { token, lease } => take_over(change, *token, lease),
        Intent::Renew { token, lease } => renew(change, *token, *lease),
        Intent::Report { report, token } => report::tell(change, report, *token),
        Intent::Checkpoint { report, token, checkpoint } => {
            let memo = Memo { checkpoint: Some(checkpoint.clone()), ..change.memo };
            report::tell(Change { memo, ..change }, report, Some(*token))
        }
        Intent::Cancel => cancel(change),
        Intent::Abandon { holder, token } => Ok(match &entry.memo.lease {
            Some(lease) if lease.holder == *holder && token.is_none_or(|token| token == lease.token) => lose(change),
            _ => Vec::new(),
        }),
        Intent::Due => Ok(due(change, policy)),
        Intent::Delete if entry.task.status.is_final() => Ok(vec![tombstone(entry.channel())]),
        Intent::Delete => Err(Refusal::NotFinished),
    }
}

impl Entry {
    /// When time alone will change this task: then [`Intent::Due`] is to be decided.
    pub fn due(&self, policy: &Policy) -> Option<Timestamp> {
        let lease_ends = self.memo.lease.as_ref().map(|lease| lease.expires_at);
        let silence_tells = match self.task.status {
            Status::Processing => !self.task.stalled,
            Status::Cancelling => lease_ends.is_none(),
            _ => false,
        };
        let silence_ends = silence_tells.then(|| self.memo.heard_at + policy.stalled_after);
        lease_ends.into_iter().chain(silence_ends).min()
    }
}

/// A task's next state in the making.
pub(super) struct Change {
    pub(super) before: Status,
    step_before: Option<usize>,
    pub(super) task: Task,
    pub(super) memo: Memo,
    pub(super) now: Timestamp,
}

impl Change {
    fn of(entry: &Entry, now: Timestamp) -> Self {
        // The clock may have been set back; a task's own times never go back.
        let now = now.max(entry.task.updated_at);
        Self {
            before: entry.task.status,
            step_before: entry.task.step,
            task: entry.task.clone(),
            memo: entry.memo.clone(),
            now,
        }
    }

    /// Work on this attempt begins.
    pub(super) fn start(&mut self, lease: Option<Lease>) {
        self.task.status = Status::Processing;
        self.task.started_at = Some(self.now);
        if !self.task.steps.is_empty() {
            self.task.step = Some(0);
        }
        let pace = Pace::starting(self.now, self.task.current.unwrap_or(0));
        self.memo = Memo { lease, pace, ..Memo::new(self.now) };
    }

    pub(super) fn finish(&mut self, status: Status) {
        self.task.status = status;
        self.task.finished_at = Some(self.now);
        self.task.stalled = false;
        self.task.eta = None;
        self.memo.lease = None;
        self.memo.checkpoint = None;
    }

    /// The event: a tick when neither the status nor the current step changed.
    pub(super) fn event(mut self) -> Decision {
        self.task.updated_at = self.now;
        let class = if self.task.status.is_final() {
            Class::Final
        } else if self.task.status == self.before && self.task.step == self.step_before {
            Class::Tick
        } else {
            Class::Change
        };
        vec![self.draft(class)]
    }

    /// The event of a change that is not a report's: never a tick.
    fn change_event(mut self) -> Decision {
        self.task.updated_at = self.now;
        vec![self.draft(Class::Change)]
    }

    fn draft(&self, class: Class) -> Draft {
        Draft {
            channel: ChannelName::task(self.task.task_id),
            name: Some(PROGRESS.into()),
            class,
            data: json(&self.task),
            memo: Some(json(&self.memo)),
            origin: None,
        }
    }

    fn hidden(&self) -> Draft {
        Draft { name: None, data: Bytes::new(), ..self.draft(Class::Hidden) }
    }
}

fn json<T: Serialize>(value: &T) -> Bytes {
    // The types written here have no maps with other keys than strings, so they always have a JSON text.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn create(id: Uuid, new: &NewTask, key: Option<Uuid>, lease: Option<&Lease>, now: Timestamp) -> Decision {
    let steps: Vec<_> = new.steps.iter().map(|step| (step.name.clone(), step.weight)).collect();
    let task = Task {
        task_id: id,
        kind: new.kind.clone().unwrap_or_else(|| "task".into()),
        title: new.title.clone(),
        user_id: new.user_id.clone(),
        queue: new.queue.clone().unwrap_or_else(|| "default".into()),
        status: Status::Pending,
        progress: (!steps.is_empty() || new.total.is_some()).then_some(0.0),
        message: None,
        current: None,
        total: new.total,
        unit: new.unit.clone(),
        step: None,
        steps: steps.into_iter().map(|(name, weight)| Step { name, weight, progress: 0.0 }).collect(),
        rate: None,
        eta: None,
        stalled: false,
        attempt: 1,
        max_attempts: new.max_attempts.unwrap_or(1),
        created_at: now,
        started_at: None,
        updated_at: now,
        finished_at: None,
        result: None,
        error: None,
    };
    let memo = Memo::new(now);
    let mut change = Change { before: Status::Pending, step_before: None, task, memo, now };
    if new.start == Some(true) || lease.is_some() {
        change.start(lease.cloned());
    }
    let origin = Origin { input: new.input.clone(), metadata: new.metadata.clone(), digest: new.digest() };
    let first = Draft { origin: Some(json(&origin)), ..change.draft(Class::Change) };
    let key_event = key.map(|key| Draft {
        channel: ChannelName::key(key),
        name: None,
        class: Class::Hidden,
        data: Bytes::new(),
        memo: Some(json(&KeyMemo { task_id: id })),
        origin: None,
    });
    std::iter::once(first).chain(key_event).collect()
}

fn claim(mut change: Change, lease: &Lease) -> Result<Decision, Refusal> {
    match change.before {
        Status::Pending => {
            change.start(Some(lease.clone()));
            Ok(change.event())
        }
        status if status.is_final() => Err(Refusal::Final(status)),
        _ => Err(Refusal::NotPending),
    }
}

/// Undoes a claim, where nothing has come of it.
fn release(change: Change, token: Uuid) -> Result<Decision, Refusal> {
    if change.memo.lease.as_ref().is_none_or(|lease| lease.token != token) {
        return Err(Refusal::LeaseLost);
    }
    let has_advanced = change.task.progress.is_some_and(|progress| progress > 0.0);
    if change.before == Status::Cancelling || has_advanced {
        return Ok(lose(change));
    }
    let attempt = change.task.attempt;
    Ok(wait_again(change, attempt))
}

fn take_over(mut change: Change, token: Uuid, lease: &Lease) -> Result<Decision, Refusal> {
    if change.memo.lease.as_ref().is_none_or(|lease| lease.token != token) {
        return Err(Refusal::LeaseLost);
    }
    change.memo.lease = Some(lease.clone());
    change.memo.heard_at = change.now;
    Ok(vec![change.hidden()])
}

fn renew(mut change: Change, token: Uuid, length: Duration) -> Result<Decision, Refusal> {
    let now = change.now;
    let lease = change.memo.lease.as_mut().filter(|lease| lease.token == token).ok_or(Refusal::LeaseLost)?;
    // Journaled only past half the lease, so that a renewal costs two events per length at most.
    if lease.expires_at.since(now) > length / 2 {
        return Ok(Vec::new());
    }
    lease.expires_at = now + length;
    Ok(vec![change.hidden()])
}

fn cancel(mut change: Change) -> Result<Decision, Refusal> {
    match change.before {
        Status::Pending => {
            change.finish(Status::Cancelled);
            Ok(change.event())
        }
        Status::Processing => {
            change.task.status = Status::Cancelling;
            // Silence is counted from here, so that the worker has time to hear of it.
            change.memo.heard_at = change.now;
            change.task.stalled = false;
            change.task.eta = None;
            Ok(change.event())
        }
        Status::Cancelling | Status::Cancelled => Ok(Vec::new()),
        status => Err(Refusal::Final(status)),
    }
}

/// Whoever worked on it is gone: it is tried again, or has failed.
fn lose(mut change: Change) -> Decision {
    if change.before == Status::Cancelling {
        change.finish(Status::Cancelled);
    } else if change.task.attempt < change.task.max_attempts {
        let next_attempt = change.task.attempt + 1;
        return wait_again(change, next_attempt);
    } else {
        change.task.error = Some(TaskError::new(
            "worker_lost",
            "The worker was lost",
            500,
            format!("Attempt {} of {} ended without a word.", change.task.attempt, change.task.max_attempts),
        ));
        change.finish(Status::Error);
    }
    change.event()
}

/// The task is pending, as if nothing had been done yet.
fn wait_again(mut change: Change, attempt: u32) -> Decision {
    let known = !change.task.steps.is_empty() || change.task.total.is_some();
    change.task = Task {
        status: Status::Pending,
        attempt,
        progress: known.then_some(0.0),
        message: None,
        current: None,
        step: None,
        rate: None,
        eta: None,
        stalled: false,
        started_at: None,
        ..change.task
    };
    change.task.steps.iter_mut().for_each(|step| step.progress = 0.0);
    change.memo = Memo::new(change.now);
    change.event()
}

fn due(mut change: Change, policy: &Policy) -> Decision {
    if change.memo.lease.as_ref().is_some_and(|lease| lease.expires_at <= change.now) {
        return lose(change);
    }
    if change.memo.heard_at + policy.stalled_after > change.now {
        return Vec::new();
    }
    match change.before {
        Status::Processing if !change.task.stalled => {
            change.task.stalled = true;
            change.task.eta = None;
            change.change_event()
        }
        Status::Cancelling if change.memo.lease.is_none() => {
            change.finish(Status::Cancelled);
            change.event()
        }
        _ => Vec::new(),
    }
}

fn tombstone(channel: ChannelName) -> Draft {
    Draft { channel, name: None, class: Class::Tombstone, data: Bytes::new(), memo: None, origin: None }
}
