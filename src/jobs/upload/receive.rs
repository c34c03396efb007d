//! Receiving: from the form to the disk, some hundred kilobytes at a time.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::Fuse};
use uuid::Uuid;

use super::{Form, Phases, Piece, RECEIVE, ReceiveError, Upload, file_name};
use crate::{
    jobs::{JobError, files::IncomingFile},
    task::{Report, TaskError},
};

/// What is written at once, if so much has come; a slow sender's bytes are written as they come.
const WRITE_BYTES: usize = 256 * 1024;

impl Upload {
    /// Writes the file of the form, durably, and reports how many bytes are written. Returns the name of the file, made
    /// safe, and the file.
    pub(super) async fn receive(
        &self,
        phases: &Phases,
        attempt: Uuid,
        form: Form,
    ) -> Result<(String, IncomingFile), JobError> {
        let mut form = form.fuse();
        let context = &phases.context;
        phases.begin(RECEIVE, "Receiving".into()).await?;
        let (name, announced) = match context.unless_stopped(form.next()).await? {
            Some(Ok(Piece::File { name, size })) => (name, size),
            Some(Err(error)) => return Err(error.into()),
            // The stream must begin with it.
            Some(Ok(Piece::Bytes(_))) | None => return Err(phases.error(&ReceiveError::NoFile).into()),
        };
        let name = file_name::safe_name(name.as_deref());
        let total = announced.or(context.task().total);
        context.unless_stopped(self.files.kept.counted()).await?;
        self.check_size(phases, announced.unwrap_or_default())?;
        phases.tick(RECEIVE, None, receiving(&name, total));
        let file = context.unless_stopped(self.files.begin(context.task_id(), attempt)).await?;
        let mut file = file.map_err(|error| phases.disk_error(&error))?;
        loop {
            let chunks = context.unless_stopped(gather(&mut form, phases)).await??;
            if chunks.is_empty() {
                break;
            }
            self.check_size(phases, file.size() + total_len(&chunks))?;
            file = self.write(phases, file, chunks, total).await?;
        }
        let kept = context.unless_stopped(self.files.keep(file)).await?.map_err(|error| phases.disk_error(&error))?;
        // The announced size was a guess.
        self.files.kept.set(context.task_id(), context.task().user_id.as_deref(), kept.size());
        Ok((name, kept))
    }

    async fn write(
        &self,
        phases: &Phases,
        file: IncomingFile,
        chunks: Vec<Bytes>,
        total: Option<u64>,
    ) -> Result<IncomingFile, JobError> {
        let bytes = total_len(&chunks);
        let written = phases.context.unless_stopped(file.write(chunks)).await?;
        let file = written.map_err(|error| phases.disk_error(&error))?;
        self.metrics.upload_bytes.inc_by(bytes);
        let current = file.size();
        let fraction = total.filter(|total| *total > 0).map(|total| current as f64 / total as f64);
        phases.tick(RECEIVE, fraction, Report { current: Some(current), ..Report::default() });
        Ok(file)
    }

    /// Whether the file may have so many bytes; then they are counted as its user's.
    fn check_size(&self, phases: &Phases, size: u64) -> Result<(), TaskError> {
        let limit = self.config.max_upload_bytes;
        if size > limit {
            return Err(phases.error(&ReceiveError::TooLarge(limit)));
        }
        let task = phases.context.task();
        let charged = self.files.kept.charge(task.task_id, task.user_id.as_deref(), size);
        charged.map_err(|over| phases.error(&ReceiveError::OverQuota(over)))
    }
}

/// Waits for bytes, then takes what else is there already; nothing at the end.
async fn gather(form: &mut Fuse<Form>, phases: &Phases) -> Result<Vec<Bytes>, TaskError> {
    let (mut chunks, mut len) = (Vec::new(), 0);
    let mut next = form.next().await;
    loop {
        match next {
            Some(Ok(Piece::Bytes(bytes))) => {
                len += bytes.len();
                chunks.extend(Some(bytes).filter(|bytes| !bytes.is_empty()));
            }
            // A second file in one form: the form's reader refuses it before.
            Some(Ok(Piece::File { .. })) => return Err(phases.error(&ReceiveError::NoFile)),
            Some(Err(error)) => return Err(error),
            None => return Ok(chunks),
        }
        next = if chunks.is_empty() {
            form.next().await
        } else if len >= WRITE_BYTES {
            return Ok(chunks);
        } else {
            match form.next().now_or_never() {
                Some(next) => next,
                None => return Ok(chunks),
            }
        };
    }
}

fn receiving(name: &str, total: Option<u64>) -> Report {
    Report { message: Some(format!("Receiving {name}")), total, ..Report::default() }
}

fn total_len(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}
