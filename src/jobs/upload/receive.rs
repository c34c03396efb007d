//! Receiving: from the form to the disk, some hundred kilobytes at a time.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};

use super::{Phases, Piece, RECEIVE, Received, UNIT, Upload, disk_error, title};
use crate::{
    jobs::{JobError, files::IncomingFile},
    task::{Report, TaskError},
};

/// What is written at once, if so much has come; a slow sender's bytes are written as they come.
const WRITE_BYTES: usize = 256 * 1024;

type Pieces = BoxStream<'static, Result<Piece, TaskError>>;

impl Upload {
    /// Writes the file of the form, and counts what is written.
    pub(super) async fn receive(&self, phases: &Phases, mut pieces: Pieces) -> Result<Received, JobError> {
        let context = &phases.context;
        let unit = Some(UNIT.to_owned());
        phases.begin(RECEIVE, "Receiving", Report { unit, ..Report::default() }).await?;
        let (name, announced) = match context.unless_stopped(pieces.next()).await? {
            Some(Ok(Piece::File { name, size })) => (name, size),
            Some(Err(error)) => return Err(error.into()),
            // The stream must begin with it.
            Some(Ok(Piece::Bytes(_))) | None => return Err(file_missing().into()),
        };
        let name = title::safe_name(name.as_deref());
        let total = announced.or(context.task().total);
        if let Some(size) = announced {
            self.check_size(size)?;
        }
        phases.tick(RECEIVE, None, receiving(&name, total));
        let file = context.unless_stopped(self.inner.files.begin(context.task_id(), self.token)).await?;
        let mut file = file.map_err(|error| disk_error(&error))?;
        loop {
            let chunks = context.unless_stopped(gather(&mut pieces)).await??;
            if chunks.is_empty() {
                break;
            }
            self.check_size(file.size() + total_len(&chunks))?;
            file = self.write(phases, file, chunks, total).await?;
        }
        // What was announced was a guess; what came is known.
        let size = file.size();
        phases.tick(RECEIVE, Some(1.0), Report { current: Some(size), total: Some(size), ..Report::default() });
        Ok(Received { name, file })
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
        let file = written.map_err(|error| disk_error(&error))?;
        self.inner.metrics.upload_bytes.inc_by(bytes);
        let current = file.size();
        let fraction = total.filter(|total| *total > 0).map(|total| current as f64 / total as f64);
        phases.tick(RECEIVE, fraction, Report { current: Some(current), ..Report::default() });
        Ok(file)
    }

    fn check_size(&self, size: u64) -> Result<(), TaskError> {
        let limit = self.inner.uploads.max_upload_bytes;
        if size <= limit {
            return Ok(());
        }
        let detail = format!("A file of more than {limit} bytes is not accepted.");
        Err(TaskError::new("upload_too_large", "The file is too large", 413, detail))
    }
}

/// Waits for bytes, then takes what else is there already; nothing at the end.
async fn gather(pieces: &mut Pieces) -> Result<Vec<Bytes>, TaskError> {
    let (mut chunks, mut len) = (Vec::new(), 0);
    let mut next = pieces.next().await;
    loop {
        match next {
            Some(Ok(Piece::Bytes(bytes))) => {
                len += bytes.len();
                chunks.extend(Some(bytes).filter(|bytes| !bytes.is_empty()));
            }
            // A second file in one form: the form's reader refuses it before.
            Some(Ok(Piece::File { .. })) => return Err(file_missing()),
            Some(Err(error)) => return Err(error),
            None => return Ok(chunks),
        }
        next = if chunks.is_empty() {
            pieces.next().await
        } else if len >= WRITE_BYTES {
            return Ok(chunks);
        } else {
            match pieces.next().now_or_never() {
                Some(next) => next,
                None => return Ok(chunks),
            }
        };
    }
}

fn receiving(name: &str, total: Option<u64>) -> Report {
    Report { message: Some(format!("Receiving {name}")), total, ..Report::default() }
}

fn file_missing() -> TaskError {
    TaskError::new("file_missing", "There is no file", 422, "The form has no file in a field named file.")
}

fn total_len(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}
