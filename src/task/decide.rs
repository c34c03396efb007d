//! The one place where it is decided what an intent does to a task; what a report does is in [`super::report`].

use std::time::Duration;

use uuid::Uuid;

use super::{
    intent::{Intent, NewTask},
    key::taken_by_task,
    lease::Lease,
    refusal::Refusal,
    report,
    state::{Entry, Memo, Origin, Status, Step, Task, TaskError},
    transition::{Decision, Transition, task_tombstone, tombstone},
};
use crate::{
    config::{LimitConfig, TaskConfig},
    event::{ChannelName, Timestamp},
};

/// The settings that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// A task that is worked on and of which nothing was heard for so long has stalled.
    pub stalled_after: Duration,
    /// A task that has been pending for so long ends with an error.
    pub pending_max: Duration,
    /// Tasks that have not ended.
    pub live_tasks_max: usize,
    /// Bytes of their `input` and `metadata`.
    pub live_bytes_max: usize,
    /// Tasks of one user that have not ended.
    pub live_tasks_per_user_max: usize,
}

impl Policy {
    /// What the settings say.
    pub fn new(config: &TaskConfig, limits: &LimitConfig) -> Self {
        Self {
            stalled_after: config.stalled_after,
            pending_max: config.max_pending_age,
            live_tasks_max: config.max_live_tasks,
            live_bytes_max: config.max_live_bytes,
            live_tasks_per_user_max: limits.max_live_tasks_per_user,
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Policy {
    /// With bounds that tests of other things do not meet.
    pub const WIDE: Self = Self {
        stalled_after: Duration::from_secs(30),
        pending_max: Duration::from_secs(30 * 86_400),
        live_tasks_max: 1_000_000,
        live_bytes_max: 1 << 30,
        live_tasks_per_user_max: 1_000_000,
    };
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
    let mut next = Transition::of(entry, now);
    match intent {
        Intent::Create { .. } => Ok(Vec::new()),
        Intent::Claim(lease) => claim(next, lease),
        Intent::Release { token } => release(next, *token),
        Intent::TakeOver { token, lease } => take_over(next, *token, lease),
        Intent::Renew { token, lease } => renew(next, *token, *lease),
        Intent::Report { report, token } => report::tell(next, report, *token),
        Intent::Checkpoint { report, token, checkpoint } => {
            next.entry.memo.checkpoint = Some(checkpoint.clone());
            report::tell(next, report, Some(*token))
        }
        Intent::Cancel => cancel(next),
        Intent::Abandon { holder, token } => Ok(match &entry.memo.lease {
            Some(lease) if lease.holder == *holder && token.is_none_or(|token| token == lease.token) => lose(next),
            _ => Vec::new(),
        }),
        Intent::Due => Ok(due(next, policy)),
        Intent::Delete if entry.task.status.is_final() => Ok(forget(entry)),
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
        let expires = (self.task.status == Status::Pending).then(|| self.memo.heard_at + policy.pending_max);
        lease_ends.into_iter().chain(silence_ends).chain(expires).min()
    }
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
    let origin = Origin { input: new.input.clone(), metadata: new.metadata.clone(), digest: new.digest(), key };
    let mut next = Transition::begin(task, origin, now);
    if new.start == Some(true) || lease.is_some() {
        next.start(lease.cloned());
    }
    let mut decision = next.first();
    decision.extend(key.map(|key| taken_by_task(key, id)));
    decision
}

/// The idempotency key goes with its task: until both are swept, the same request is told that its task is gone.
fn forget(entry: &Entry) -> Decision {
    let key = entry.origin.key.map(|key| tombstone(ChannelName::key(key)));
    std::iter::once(task_tombstone(entry)).chain(key).collect()
}

fn claim(mut next: Transition, lease: &Lease) -> Result<Decision, Refusal> {
    match next.before {
        Status::Pending => {
            next.start(Some(lease.clone()));
            Ok(next.event())
        }
        status if status.is_final() => Err(Refusal::Final(status)),
        _ => Err(Refusal::NotPending),
    }
}

/// Undoes a claim, where nothing has come of it.
fn release(next: Transition, token: Uuid) -> Result<Decision, Refusal> {
    if next.entry.memo.lease.as_ref().is_none_or(|lease| lease.token != token) {
        return Err(Refusal::LeaseLost);
    }
    let has_advanced = next.entry.task.progress.is_some_and(|progress| progress > 0.0);
    if next.before == Status::Cancelling || has_advanced {
        return Ok(lose(next));
    }
    let attempt = next.entry.task.attempt;
    Ok(wait_again(next, attempt))
}

fn take_over(mut next: Transition, token: Uuid, lease: &Lease) -> Result<Decision, Refusal> {
    if next.entry.memo.lease.as_ref().is_none_or(|lease| lease.token != token) {
        return Err(Refusal::LeaseLost);
    }
    next.entry.memo.lease = Some(lease.clone());
    next.entry.memo.heard_at = next.now;
    Ok(next.hidden())
}

fn renew(mut next: Transition, token: Uuid, length: Duration) -> Result<Decision, Refusal> {
    let now = next.now;
    let lease = next.entry.memo.lease.as_mut().filter(|lease| lease.token == token).ok_or(Refusal::LeaseLost)?;
    // Journaled only past half the lease, so that a renewal costs two events per length at most.
    if lease.expires_at.since(now) > length / 2 {
        return Ok(Vec::new());
    }
    lease.expires_at = now + length;
    Ok(next.hidden())
}

fn cancel(mut next: Transition) -> Result<Decision, Refusal> {
    match next.before {
        Status::Pending => {
            next.finish(Status::Cancelled);
            Ok(next.event())
        }
        Status::Processing => {
            next.entry.task.status = Status::Cancelling;
            // Silence is counted from here, so that the worker has time to hear of it.
            next.entry.memo.heard_at = next.now;
            next.entry.task.stalled = false;
            next.entry.task.eta = None;
            Ok(next.event())
        }
        Status::Cancelling | Status::Cancelled => Ok(Vec::new()),
        status => Err(Refusal::Final(status)),
    }
}

/// Whoever worked on it is gone: it is tried again, or has failed.
fn lose(mut next: Transition) -> Decision {
    if next.before == Status::Cancelling {
        next.finish(Status::Cancelled);
        return next.event();
    }
    let Task { attempt, max_attempts, .. } = next.entry.task;
    if attempt < max_attempts {
        return wait_again(next, attempt + 1);
    }
    let detail = format!("The worker stopped without reporting the end of attempt {attempt} of {max_attempts}.");
    next.entry.task.error = Some(TaskError::new("worker_lost", "The worker stopped responding", 500, detail));
    next.finish(Status::Error);
    next.event()
}

/// The task is pending, as if nothing had been done yet.
fn wait_again(mut next: Transition, attempt: u32) -> Decision {
    let Entry { task, memo, .. } = &mut next.entry;
    let known = !task.steps.is_empty() || task.total.is_some();
    *task = Task {
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
        ..task.clone()
    };
    task.steps.iter_mut().for_each(|step| step.progress = 0.0);
    *memo = Memo::new(next.now);
    next.event()
}

fn due(mut next: Transition, policy: &Policy) -> Decision {
    if next.entry.memo.lease.as_ref().is_some_and(|lease| lease.expires_at <= next.now) {
        return lose(next);
    }
    let silent_max = if next.before == Status::Pending { policy.pending_max } else { policy.stalled_after };
    if next.entry.memo.heard_at + silent_max > next.now {
        return Vec::new();
    }
    match next.before {
        Status::Pending => {
            let detail = format!(
                "Nobody started the task within {}, the limit of --max-pending-age.",
                humantime::format_duration(policy.pending_max)
            );
            next.entry.task.error = Some(TaskError::new("expired", "The task was pending for too long", 504, detail));
            next.finish(Status::Error);
            next.event()
        }
        Status::Processing if !next.entry.task.stalled => {
            next.entry.task.stalled = true;
            next.entry.task.eta = None;
            next.change()
        }
        Status::Cancelling if next.entry.memo.lease.is_none() => {
            next.finish(Status::Cancelled);
            next.event()
        }
        _ => Vec::new(),
    }
}
