//! How an upload tells where it stands, and what failed.

use std::io;

use super::{JobContext, JobError, ReceiveError, SAVE, STEPS, UNIT, UploadWords};
use crate::{
    shared::FilesAway,
    task::{Report, TaskError},
};

/// How an upload tells where it stands: in the steps of its task, or where that declares others, in a share of the whole.
#[derive(Clone)]
pub(super) struct Phases {
    pub(super) context: JobContext,
    pub(super) words: UploadWords,
    pub(super) has_steps: bool,
}

impl Phases {
    /// The task's error.
    pub(super) fn error(&self, error: &ReceiveError) -> TaskError {
        (self.words.error)(error)
    }

    /// The task's error when the disk fails; how it failed is only logged.
    pub(super) fn disk_error(&self, error: &io::Error) -> TaskError {
        tracing::error!(%error, task = %self.context.task_id(), "cannot store an uploaded file");
        if let Some(away) = FilesAway::of(error) {
            return self.error(&ReceiveError::Away(away));
        }
        self.error(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                &ReceiveError::DiskFull
            }
            _ => &ReceiveError::DiskFailed,
        })
    }

    /// Begins a step.
    pub(super) async fn begin(&self, step: usize, message: String) -> Result<(), JobError> {
        let report = Report { message: Some(message), unit: Some(UNIT.into()), ..Report::default() };
        self.context.report(self.at(step, Some(0.0), report)).await
    }

    /// Tells how far a step is, 0–1.
    pub(super) fn tick(&self, step: usize, fraction: Option<f64>, report: Report) {
        self.context.tick(self.at(step, fraction, report));
    }

    pub(super) fn at(&self, step: usize, fraction: Option<f64>, report: Report) -> Report {
        let fraction = fraction.map(|fraction| fraction.clamp(0.0, 1.0));
        if self.has_steps {
            let step_progress = fraction.map(|fraction| fraction * 100.0);
            return Report { step: Some(step), step_progress, ..report };
        }
        let weight = |range: &[(&str, f64)]| range.iter().map(|(_, weight)| weight).sum::<f64>();
        let (before, from) = STEPS.split_at(step.min(SAVE));
        let share = |fraction: f64| (weight(before) + weight(&from[..1]) * fraction) / weight(&STEPS) * 100.0;
        Report { progress: fraction.map(share), ..report }
    }
}
