//! The data directory: made if it is missing, for one process, and watched for being taken away.
//!
//! A lock on a file goes with the file: where the directory is removed or replaced, the lock of the process that still runs
//! in the old one says nothing of the new one. So the path is taken too, as a name that the system forgets with the process;
//! and whoever writes looks whether what the paths name is what is open.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::{
    connect::connect,
    error::{OpenError, StoreError},
};

pub(super) const FILE: &str = "journal.db";
pub(super) const WAL_SUFFIX: &str = "-wal";
const LOCK: &str = "lock";

/// The data directory, for this process alone.
pub(super) struct Home {
    pub(super) place: Arc<Place>,
    /// Hold the directory and its path until they are dropped.
    _lock: File,
    _path: Option<UnixListener>,
}

impl Home {
    /// Makes the directory if it is missing, and locks it.
    pub(super) fn enter(directory: &Path) -> Result<Self, OpenError> {
        make_directory(directory)?;
        let in_use = || OpenError::InUse(directory.into());
        let path = directory.join(LOCK);
        let lock = private_file().open(&path).map_err(at(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use()),
            Err(error) => return Err(at(&path)(error.into())),
        }
        let path = match take_path(directory) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(in_use()),
            Err(error) => {
                tracing::warn!(%error, "another process that is started on a new data directory at this path is not noticed");
                None
            }
            taken => taken.map_err(at(directory))?,
        };
        let place = Arc::new(Place { file: directory.join(FILE), open: OnceLock::new() });
        Ok(Self { place, _lock: lock, _path: path })
    }
}

/// Takes the name of a path: of the directory above, whatever path leads there, and of the entry in it.
#[cfg(target_os = "linux")]
fn take_path(directory: &Path) -> io::Result<Option<UnixListener>> {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    let path = directory.canonicalize()?;
    let above = identity(path.parent().unwrap_or(&path))?;
    let entry = blake3::hash(path.file_name().unwrap_or_default().as_encoded_bytes()).to_hex();
    let name = format!("progressd:{}:{}:{}", above.0, above.1, &entry[..32]);
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?).map(Some)
}

#[cfg(not(target_os = "linux"))]
fn take_path(_: &Path) -> io::Result<Option<UnixListener>> {
    Ok(None)
}

/// Where the file is, and which files were opened there.
pub(super) struct Place {
    pub(super) file: PathBuf,
    open: OnceLock<Vec<(PathBuf, Identity)>>,
}

/// Device and inode.
type Identity = (u64, u64);

impl Place {
    /// Notes what is open; later it has to be there.
    pub(super) fn note(&self) -> Result<(), StoreError> {
        let paths = [self.file.clone(), beside(&self.file, WAL_SUFFIX), self.file.with_file_name(LOCK)];
        let found = paths.map(|path| match identity(&path) {
            Ok(identity) => Ok((path, identity)),
            Err(_) => Err(StoreError::Displaced(path)),
        });
        let found = found.into_iter().collect::<Result<_, _>>()?;
        self.open.get_or_init(|| found);
        Ok(())
    }

    /// Whether what is there is what is open.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, open) in self.open.get().into_iter().flatten() {
            if identity(path).ok() != Some(*open) {
                return Err(StoreError::Displaced(path.clone()));
            }
        }
        Ok(())
    }

    /// Opens a connection to what is open already.
    pub(super) fn connect(&self, access: OpenFlags) -> Result<Connection, StoreError> {
        self.check()?;
        connect(&self.file, access)
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The path with something added to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

pub(super) fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Makes a directory, and those above it that are missing, each for good.
fn make_directory(directory: &Path) -> Result<(), OpenError> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    directory.parent().map_or(Ok(()), make_directory)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        // Another process was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        made => made.map_err(at(directory))?,
    }
    sync_directory(directory.parent())
}

/// A new name is on the disk only when its directory has been synced.
pub(super) fn sync_directory(directory: Option<&Path>) -> Result<(), OpenError> {
    let Some(directory) = directory else { return Ok(()) };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(at(directory))
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path: path.clone(), source }
}
