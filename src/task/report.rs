//! What a report does to a task: the fields it takes over, the progress of the whole, the end.

use uuid::Uuid;

use super::{
    intent::{Report, ReportedStatus},
    refusal::Refusal,
    state::{Entry, Status, Task, TaskError},
    transition::{Decision, Transition},
};

/// What a bar shows at most before the end: 100 means completed.
const PROGRESS_BEFORE_END_MAX: f64 = 99.9;

/// Decides what a report does.
pub(super) fn tell(mut next: Transition, report: &Report, token: Option<Uuid>) -> Result<Decision, Refusal> {
    if next.before.is_final() {
        return Err(Refusal::Final(next.before));
    }
    match (&next.entry.memo.lease, token) {
        (Some(lease), Some(token)) if lease.token == token => {}
        (Some(_), _) => return Err(Refusal::Leased),
        (None, Some(_)) => return Err(Refusal::LeaseLost),
        (None, None) => {}
    }
    check_outcome(report)?;
    if next.before == Status::Pending {
        next.start(None);
    }
    next.entry.memo.heard_at = next.now;
    next.entry.task.stalled = false;
    take_in(&mut next.entry.task, report)?;
    measure(&mut next, report);
    match report.status {
        None | Some(ReportedStatus::Processing) => {}
        Some(ReportedStatus::Completed) => {
            next.entry.task.progress = Some(100.0);
            next.entry.task.steps.iter_mut().for_each(|step| step.progress = 100.0);
            next.entry.task.result = report.result.clone();
            next.finish(Status::Completed);
        }
        Some(ReportedStatus::Error) => {
            let untold = || TaskError { detail: None, ..TaskError::new("failed", "The task failed", 500, "") };
            next.entry.task.error = Some(report.error.as_ref().map_or_else(untold, TaskError::from));
            next.finish(Status::Error);
        }
        Some(ReportedStatus::Cancelled) => next.finish(Status::Cancelled),
    }
    Ok(next.event())
}

/// A result belongs to completion, an error to failure.
fn check_outcome(report: &Report) -> Result<(), Refusal> {
    if report.result.is_some() && report.status != Some(ReportedStatus::Completed) {
        return Err(Refusal::Invalid { member: "result", reason: "is allowed only with status completed".into() });
    }
    if report.error.is_some() && report.status != Some(ReportedStatus::Error) {
        return Err(Refusal::Invalid { member: "error", reason: "is allowed only with status error".into() });
    }
    Ok(())
}

/// Takes over what the report says, but for the progress of the whole.
fn take_in(task: &mut Task, report: &Report) -> Result<(), Refusal> {
    let steps = task.steps.len();
    let reason = if steps == 0 {
        "is allowed only for a task with steps".into()
    } else {
        format!("must be from 0 to {}", steps - 1)
    };
    if report.step.is_some_and(|step| step >= steps) {
        return Err(Refusal::Invalid { member: "step", reason });
    }
    if report.step_progress.is_some() && steps == 0 {
        return Err(Refusal::Invalid { member: "stepProgress", reason });
    }
    if let Some(message) = &report.message {
        task.message = Some(message.clone()).filter(|message| !message.is_empty());
    }
    task.current = report.current.or(task.current);
    task.total = report.total.or(task.total);
    task.unit = report.unit.clone().or(task.unit.take());
    if let Some(step) = report.step.max(task.step) {
        // What is told of an earlier step than the current one comes too late to matter.
        let timely = report.step.is_none_or(|told| told == step);
        task.step = Some(step);
        task.steps.iter_mut().take(step).for_each(|earlier| earlier.progress = 100.0);
        if let (Some(progress), Some(step), true) = (report.step_progress, task.steps.get_mut(step), timely) {
            step.progress = step.progress.max(rounded(progress));
        }
    }
    Ok(())
}

/// Works out the progress of the whole, the rate and the estimate.
fn measure(next: &mut Transition, report: &Report) {
    let Entry { task, memo, .. } = &mut next.entry;
    let told = report.progress.or_else(|| match (task.current, task.total) {
        _ if !task.steps.is_empty() => {
            let weight: f64 = task.steps.iter().map(|step| step.weight).sum();
            Some(task.steps.iter().map(|step| step.weight * step.progress).sum::<f64>() / weight)
        }
        (Some(current), Some(total)) if total > 0 => Some(current as f64 / total as f64 * 100.0),
        _ => None,
    });
    if let Some(told) = told {
        // Never lower within an attempt, and 100 means completed.
        let shown = rounded(told.clamp(0.0, PROGRESS_BEFORE_END_MAX));
        task.progress = Some(task.progress.unwrap_or(0.0).max(shown));
    }
    let fraction = task.progress.unwrap_or(0.0) / 100.0;
    memo.pace.observe(next.now, fraction, task.current);
    task.rate = memo.pace.rate();
    let is_worked_on = task.status == Status::Processing;
    task.eta = if is_worked_on { memo.pace.eta(next.now, fraction) } else { None };
}

/// Two decimals are finer than any bar, and keep events short. Rounded down, but for what binary fractions take from
/// numbers of two decimals: 64.1 stays 64.1.
fn rounded(percent: f64) -> f64 {
    (percent * 100.0 + 1e-6).floor() / 100.0
}
