//! The directory of files that all nodes of a store share.
//!
//! It proves itself by a marker: a file that names the store and the directory. The first node makes both, the marker in the
//! directory and a fact in the store that says which directory it is. So a node on which the directory is not mounted, or
//! another one is, does not take what it finds there for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::SharedFacts;
use crate::journal::JournalError;

/// The file that proves the directory.
const MARKER: &str = "store";
/// The fact that names it.
const FACT: &str = "files";

/// The directory, which was proved. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedFiles(Arc<SharedFilesParts>);

#[derive(Debug)]
struct SharedFilesParts {
    directory: PathBuf,
    marker: String,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SharedFilesError {
    /// It is another store's.
    #[error("the directory {} has the files of another store ({found}): set --files-dir to that of this store ({store})", .directory.display())]
    OtherStore {
        /// The directory.
        directory: PathBuf,
        /// The store that its marker names.
        found: String,
        /// The store in use.
        store: String,
    },
    /// It is not the one that the other nodes use.
    #[error(
        "{} is not the directory that the nodes of this store share: {problem}. Is it mounted? If it is to be that \
         directory, with all files, write this line to the file {}: {marker}",
        .directory.display(), .directory.join(MARKER).display()
    )]
    NotShared {
        /// The directory.
        directory: PathBuf,
        /// How it differs.
        problem: &'static str,
        /// The marker that it would have.
        marker: String,
    },
    /// It cannot be read or written.
    #[error("cannot use {}, the directory of files: {source}", .directory.display())]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The store does not say which it is.
    #[error(transparent)]
    Store(#[from] JournalError),
}

/// Why files cannot be used at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesAway {
    /// No directory is set.
    #[error("this node has no directory of files that it shares with the others: set --files-dir")]
    NotSet,
    /// What is there is not the directory any more.
    #[error("the directory of --files-dir is not there, or not the one that the nodes share: mount it")]
    NotThere,
}

impl From<FilesAway> for io::Error {
    fn from(away: FilesAway) -> Self {
        Self::other(away)
    }
}

impl FilesAway {
    /// Whether that is why something failed.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl SharedFiles {
    /// Proves that this is the directory of the store, or makes it that if the store has none.
    ///
    /// # Errors
    /// When it is another, or cannot be used.
    pub async fn prove(facts: &SharedFacts, store: &str, directory: &Path) -> Result<Self, SharedFilesError> {
        let known = read_fact(facts).await?;
        let (path, wanted) = (directory.to_owned(), known.as_ref().map(|known| marker_of(store, known)));
        let new = new_marker(store);
        let found = tokio::task::spawn_blocking(move || match wanted {
            Some(_) => read_marker(&path),
            None => make_marker(&path, &new).map(Some),
        });
        let unusable = |source| SharedFilesError::Unusable { directory: directory.into(), source };
        let found = found.await.map_err(|error| unusable(io::Error::other(error)))?.map_err(unusable)?;
        found.as_deref().map_or(Ok(()), |found| check_store(directory, found, store))?;
        let mut known = known;
        if known.is_none() {
            let id = found.as_deref().and_then(|found| found.split_once(' ')).map_or("", |(_, id)| id).to_owned();
            let is_first = facts.write(FACT, None, id.clone().into_bytes()).await?;
            // Another node may have made another directory meanwhile.
            known = if is_first { Some(id) } else { read_fact(facts).await? };
        }
        let marker = marker_of(store, &known.unwrap_or_default());
        let problem = match found {
            Some(found) if found == marker => {
                return Ok(Self(Arc::new(SharedFilesParts { directory: directory.into(), marker })));
            }
            Some(_) => "it is another one",
            None => "it has no marker",
        };
        Err(SharedFilesError::NotShared { directory: directory.into(), problem, marker })
    }

    /// Marks a directory as that of a store which nobody uses yet: the first node takes it.
    ///
    /// # Errors
    /// When it is another store's, or cannot be written.
    pub fn mark(store: &str, directory: &Path) -> Result<(), SharedFilesError> {
        let unusable = |source| SharedFilesError::Unusable { directory: directory.into(), source };
        let marker = make_marker(directory, &new_marker(store)).map_err(unusable)?;
        check_store(directory, &marker, store)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Whether it is still the directory. Waits for the disk.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<(), FilesAway> {
        match read_marker(&self.0.directory) {
            Ok(Some(marker)) if marker == self.0.marker => Ok(()),
            _ => Err(FilesAway::NotThere),
        }
    }
}

async fn read_fact(facts: &SharedFacts) -> Result<Option<String>, JournalError> {
    Ok(facts.read(FACT).await?.map(|fact| String::from_utf8_lossy(&fact.content).into_owned()))
}

fn check_store(directory: &Path, marker: &str, store: &str) -> Result<(), SharedFilesError> {
    let found = marker.split(' ').next().unwrap_or_default();
    if found == store {
        return Ok(());
    }
    let (found, store) = (found.to_owned(), store.to_owned());
    Err(SharedFilesError::OtherStore { directory: directory.into(), found, store })
}

fn new_marker(store: &str) -> String {
    marker_of(store, &Uuid::new_v4().simple().to_string())
}

/// What the marker of a directory with this id says.
fn marker_of(store: &str, id: &str) -> String {
    format!("{store} {id}")
}

fn read_marker(directory: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(directory.join(MARKER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read?.trim_end().to_owned())),
    }
}

/// Makes the marker unless there is one, durably; answers what it says.
fn make_marker(directory: &Path, marker: &str) -> io::Result<String> {
    if let Some(found) = read_marker(directory)? {
        return Ok(found);
    }
    // Whole before it has its name; and of two nodes, one makes it.
    let new = directory.join(format!(".{MARKER}.{}", Uuid::new_v4().simple()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    writeln!(file, "{marker}")?;
    file.sync_all()?;
    let linked = fs::hard_link(&new, directory.join(MARKER));
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => File::open(directory)?.sync_all()?,
    }
    Ok(read_marker(directory)?.unwrap_or_default())
}
