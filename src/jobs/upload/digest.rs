//! Digests: BLAKE3 and SHA-256 of what is on the disk, read back from there.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

use sha2::{Digest, Sha256};

use super::{Phases, TRANSFORM};
use crate::{
    jobs::{
        JobError,
        files::{IncomingFile, blocking},
    },
    task::Report,
};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// The digests of a file, in lower-case hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) blake3: String,
    pub(super) sha256: String,
}

impl Phases {
    /// Reads the file back and digests it, telling how far that is.
    pub(super) async fn digest(&self, file: &IncomingFile) -> Result<Digests, JobError> {
        let reader = file.reader().map_err(|error| self.disk_error(&error))?;
        let size = file.size().max(1) as f64;
        let phases = self.clone();
        let abandoned = Abandoned::default();
        let flag = Arc::clone(&abandoned.0);
        let work = blocking(move || {
            digests(reader, |done| {
                phases.tick(TRANSFORM, Some(done as f64 / size), Report::default());
                !flag.load(Ordering::Relaxed)
            })
        });
        let digests = self.context.unless_stopped(work).await?;
        Ok(digests.map_err(|error| self.disk_error(&error))?)
    }
}

/// Tells the reading thread to stop when the job that waits for it is gone.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Digests a file from its beginning; asks after each part, with the bytes done, whether to go on.
fn digests(mut file: File, mut go_on: impl FnMut(u64) -> bool) -> io::Result<Digests> {
    file.seek(SeekFrom::Start(0))?;
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), Sha256::new());
    let mut buffer = vec![0; READ_BYTES];
    let mut done = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let (part, _) = buffer.split_at(read);
        blake3.update(part);
        sha256.update(part);
        done += read as u64;
        if !go_on(done) {
            return Err(io::Error::other("nobody waits for the digests any more"));
        }
    }
    let sha256 = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Digests { blake3: blake3.finalize().to_hex().to_string(), sha256 })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"abc").expect("written");
        let found = digests(file, |_| true).expect("read");
        // FIPS 180-4, and the BLAKE3 reference implementation.
        assert_eq!(found.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(found.blake3, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn reading_stops_when_nobody_waits() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![7; 3 * READ_BYTES]).expect("written");
        let mut parts = 0;
        digests(file, |_| {
            parts += 1;
            false
        })
        .expect_err("stopped");
        assert_eq!(parts, 1);
    }
}
