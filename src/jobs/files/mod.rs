//! Files on the disk: those that are being received, and those of completed uploads.
//!
//! `incoming/<task>.<attempt>` belongs to one attempt. It is removed when the attempt ends, at the latest at the next start
//! unless that resumes the attempt; where nodes share the directory, that start may be another's, and the janitor removes it.
//! `files/<task>` belongs to its task. Names on the disk are made of ids, never of the name that a client gave. A file with
//! another name was not created by the service, and is not touched.

mod home;
mod kept;

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    event::Timestamp,
    shared::{FilesAway, SharedFiles},
};
pub use kept::OverQuota;
pub(super) use kept::{KeptFiles, Quota};

/// Written bytes are pushed to the disk so often: the last push, while somebody waits for the end, stays short, and a
/// disk that fills up is noticed while the file is still being received. Nothing is promised of them before that last
/// one, [`Files::keep`].
const SYNC_BYTES: u64 = 16 * 1024 * 1024;

const INCOMING: &str = "incoming";
const SAVED: &str = "files";

/// What uploads leave free on the disk.
const RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// Where bytes go: tests let it fill up.
pub trait Disk: Send + Sync + 'static {
    /// Writes all of them, or fails.
    ///
    /// # Errors
    /// As the disk does.
    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content of a file, or the names in a directory, durable.
    ///
    /// # Errors
    /// As the disk does.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }
}

/// The disk as it is, but for what uploads leave to the store: a disk that they have filled up stops every task.
pub struct WholeDisk;

impl Disk for WholeDisk {
    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let disk = rustix::fs::fstatvfs(&*file)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < RESERVE_BYTES + bytes.len() as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all(bytes)
    }
}

/// Whose directory files are in.
#[derive(Clone, Debug)]
pub enum FilesPlace {
    /// That of the only node.
    Own {
        /// The data directory.
        data_dir: PathBuf,
        /// The name of the store.
        store: String,
    },
    /// That of all nodes of the store.
    Shared(SharedFiles),
    /// A node of a shared store has none.
    Nowhere,
}

/// The directories. Cheap to clone.
#[derive(Clone)]
pub(super) struct Files {
    place: FilesPlace,
    incoming: Arc<Path>,
    saved: Arc<Path>,
    disk: Arc<dyn Disk>,
    /// What they take.
    pub(super) kept: KeptFiles,
}

/// A file that a completed upload left.
#[derive(Debug)]
pub struct SavedFile {
    /// The file, at its beginning.
    pub file: tokio::fs::File,
    /// Its size in bytes.
    pub size: u64,
}

/// A file that is being received.
pub(super) struct IncomingFile {
    file: File,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    size: u64,
    unsynced: u64,
}

impl Files {
    /// Opens the directories, and removes what earlier runs of the only node received for tasks that are not resumed.
    pub(super) fn open(
        place: FilesPlace,
        disk: Arc<dyn Disk>,
        kept: KeptFiles,
        resumes: impl Fn(Uuid) -> bool,
    ) -> io::Result<Self> {
        let [incoming, saved] = match &place {
            FilesPlace::Own { data_dir, store } => {
                [home::enter(data_dir, INCOMING, store)?, home::enter(data_dir, SAVED, store)?]
            }
            FilesPlace::Shared(files) => {
                let paths = [INCOMING, SAVED].map(|name| files.directory().join(name));
                for path in &paths {
                    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
                }
                paths
            }
            // Nothing is looked for there.
            FilesPlace::Nowhere => <[PathBuf; 2]>::default(),
        };
        let files = Self { place, incoming: incoming.into(), saved: saved.into(), disk, kept };
        if let FilesPlace::Own { .. } = &files.place {
            for (id, attempt) in part_names(&files.incoming)? {
                let path = files.incoming_path(id, attempt);
                if !resumes(id)
                    && let Err(error) = fs::remove_file(&path)
                {
                    tracing::warn!(%error, "{} is not needed any more, but could not be removed", path.display());
                }
            }
        }
        Ok(files)
    }

    /// Whether all nodes have the same files.
    pub(super) fn are_shared(&self) -> bool {
        matches!(self.place, FilesPlace::Shared(_))
    }

    /// Whether this node has a directory of files.
    pub(super) fn are_somewhere(&self) -> bool {
        !matches!(self.place, FilesPlace::Nowhere)
    }

    /// Whether the directory can be used now.
    pub(super) async fn check(&self) -> Result<(), FilesAway> {
        match &self.place {
            FilesPlace::Own { .. } => Ok(()),
            FilesPlace::Nowhere => Err(FilesAway::NotSet),
            FilesPlace::Shared(files) => {
                let files = files.clone();
                let checked = blocking(move || Ok(files.check())).await;
                checked.unwrap_or(Err(FilesAway::NotThere))
            }
        }
    }

    /// What is received, or was, by any node: tasks and attempts, where nodes share the directory.
    pub(super) async fn shared_parts(&self) -> io::Result<Vec<(Uuid, Uuid)>> {
        let FilesPlace::Shared(_) = self.place else { return Ok(Vec::new()) };
        self.check().await?;
        let incoming = Arc::clone(&self.incoming);
        blocking(move || part_names(&incoming)).await
    }

    /// When something was last received for an attempt, if it is there.
    pub(super) async fn part_at(&self, id: Uuid, attempt: Uuid) -> io::Result<Option<Timestamp>> {
        modified_at(self.incoming_path(id, attempt)).await
    }

    /// Begins a file for one attempt at a task.
    pub(super) async fn begin(&self, id: Uuid, attempt: Uuid) -> io::Result<IncomingFile> {
        self.check().await?;
        let (path, disk) = (self.incoming_path(id, attempt), Arc::clone(&self.disk));
        blocking(move || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            Ok(IncomingFile { file, path, disk, size: 0, unsynced: 0 })
        })
        .await
    }

    /// Makes a received file durable: a later run of the service finds it with [`Files::find`].
    pub(super) async fn keep(&self, incoming: IncomingFile) -> io::Result<IncomingFile> {
        let directory = Arc::clone(&self.incoming);
        blocking(move || {
            incoming.disk.sync(&incoming.file)?;
            incoming.disk.sync(&File::open(directory)?)?;
            Ok(incoming)
        })
        .await
    }

    /// The file that an attempt has kept, even if it is saved already.
    pub(super) async fn find(&self, id: Uuid, attempt: Uuid) -> io::Result<IncomingFile> {
        self.check().await?;
        let (places, disk) = ([self.incoming_path(id, attempt), self.saved_path(id)], Arc::clone(&self.disk));
        blocking(move || {
            let mut found = Err(io::ErrorKind::NotFound.into());
            for path in places {
                match File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => {
                        found = other.map(|file| (file, path));
                        break;
                    }
                }
            }
            let (file, path) = found?;
            let size = file.metadata()?.len();
            Ok(IncomingFile { file, path, disk, size, unsynced: 0 })
        })
        .await
    }

    /// Makes a kept file the file of its task, durably. A file that is saved already stays as it is.
    pub(super) async fn save(&self, id: Uuid, incoming: IncomingFile) -> io::Result<()> {
        self.check().await?;
        let (target, directory) = (self.saved_path(id), Arc::clone(&self.saved));
        blocking(move || {
            match fs::rename(&incoming.path, &target) {
                // Another node did so, which was taken for dead when it had begun to.
                Err(error) if error.kind() == io::ErrorKind::NotFound && has_size(&target, incoming.size) => {}
                renamed => renamed?,
            }
            incoming.disk.sync(&File::open(directory)?)
        })
        .await
    }

    /// Removes what an attempt had received, if it is there.
    pub(super) async fn discard(&self, id: Uuid, attempt: Uuid) -> io::Result<()> {
        remove(self.incoming_path(id, attempt)).await?;
        self.kept.free(id);
        Ok(())
    }

    /// Opens a task's file, if it is there.
    pub(super) async fn open_saved(&self, id: Uuid) -> io::Result<Option<SavedFile>> {
        self.check().await?;
        let file = match tokio::fs::File::open(self.saved_path(id)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let size = file.metadata().await?.len();
        Ok(Some(SavedFile { file, size }))
    }

    /// Removes a task's file, if it is there.
    pub(super) async fn remove_saved(&self, id: Uuid) -> io::Result<()> {
        remove(self.saved_path(id)).await?;
        self.kept.free(id);
        Ok(())
    }

    /// Counts a file of an earlier run of the service.
    pub(super) async fn count_saved(&self, id: Uuid, user: Option<&str>) -> io::Result<()> {
        let size = async || match tokio::fs::metadata(self.saved_path(id)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => metadata.map(|metadata| Some(metadata.len())),
        };
        let Some(bytes) = size().await? else { return Ok(()) };
        self.kept.set(id, user, bytes);
        // It may have been removed, and freed, in between.
        if size().await?.is_none() {
            self.kept.free(id);
        }
        Ok(())
    }

    /// When a task's file was last written to, if it is there.
    pub(super) async fn saved_at(&self, id: Uuid) -> io::Result<Option<Timestamp>> {
        modified_at(self.saved_path(id)).await
    }

    /// The tasks that have a file.
    pub(super) async fn saved(&self) -> io::Result<Vec<Uuid>> {
        self.check().await?;
        let saved = Arc::clone(&self.saved);
        blocking(move || {
            let mut ids = Vec::new();
            for entry in fs::read_dir(saved)? {
                ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok()));
            }
            Ok(ids)
        })
        .await
    }

    fn incoming_path(&self, id: Uuid, attempt: Uuid) -> PathBuf {
        self.incoming.join(format!("{id}.{attempt}"))
    }

    fn saved_path(&self, id: Uuid) -> PathBuf {
        self.saved.join(id.to_string())
    }
}

fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() == size)
}

impl IncomingFile {
    /// Adds bytes to the end. The file is gone with an error.
    pub(super) async fn write(mut self, chunks: Vec<Bytes>) -> io::Result<Self> {
        blocking(move || {
            for chunk in &chunks {
                self.disk.write_all(&mut self.file, chunk)?;
                self.size += chunk.len() as u64;
                self.unsynced += chunk.len() as u64;
            }
            if self.unsynced >= SYNC_BYTES {
                self.file.sync_data()?;
                self.unsynced = 0;
            }
            Ok(self)
        })
        .await
    }

    /// How many bytes have been written.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The file to read from, wherever its reader last was.
    pub(super) fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// The tasks and attempts for which files in `incoming` were received.
fn part_names(incoming: &Path) -> io::Result<Vec<(Uuid, Uuid)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(incoming)? {
        names.extend(received_for(&entry?.file_name()));
    }
    Ok(names)
}

fn received_for(name: &OsStr) -> Option<(Uuid, Uuid)> {
    let (id, attempt) = name.to_str()?.split_once('.')?;
    Some((id.parse().ok()?, attempt.parse().ok()?))
}

async fn modified_at(path: PathBuf) -> io::Result<Option<Timestamp>> {
    let modified = match tokio::fs::metadata(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?.modified()?,
    };
    let since_1970 = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Some(Timestamp::default() + since_1970))
}

async fn remove(path: PathBuf) -> io::Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Runs what waits for the disk on a thread for that.
pub(super) async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(io::Error::other(error)),
        },
    }
}
