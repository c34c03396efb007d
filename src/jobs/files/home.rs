//! The directories of files, and the store that each of them belongs to.
//!
//! Files mean nothing without the journal that knows their tasks, so each directory names the store of that journal in a
//! file of its own. The directory of another store is set aside whole, under that store's name, and comes back with it.
//! Nothing is deleted here, and it is not known here what the files are.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::event::check_name;

/// The file that names the store.
pub(super) const MARKER: &str = "store";

/// The directory `name` of this store in `data_dir`: the one that is there, the one that was set aside while another
/// store was used, or a new one. What is made or moved survives a power cut.
pub(super) fn enter(data_dir: &Path, name: &str, store: &str) -> io::Result<PathBuf> {
    let directory = data_dir.join(name);
    let aside = |store: &str| data_dir.join(format!("{name}.{store}"));
    match read_marker(&directory)? {
        Some(found) if found == store => return Ok(directory),
        Some(other) => {
            let aside = aside(&other);
            put(&directory, &aside)?;
            tracing::warn!(
                files.store = other,
                "the files in {} belong to another journal than the one in use; they are kept in {} and come back \
                 when that journal does",
                directory.display(),
                aside.display()
            );
        }
        // It is from before directories named their store.
        None if directory.exists() => {
            write_marker(&directory, store)?;
            return Ok(directory);
        }
        None => {}
    }
    if aside(store).exists() {
        put(&aside(store), &directory)?;
        tracing::info!("the files of this journal are back in {}", directory.display());
    } else {
        // Marked before it has its name, so that it is never taken for one from before.
        let new = data_dir.join(format!(".{name}"));
        // For the service alone: what is uploaded is nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
        write_marker(&new, store)?;
        put(&new, &directory)?;
    }
    Ok(directory)
}

fn read_marker(directory: &Path) -> io::Result<Option<String>> {
    let marker = directory.join(MARKER);
    let store = match fs::read_to_string(&marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let store = store.trim_end();
    // It becomes part of a path.
    check_name(store).map_err(|_| io::Error::other(format!("{} does not name a store", marker.display())))?;
    Ok(Some(store.to_owned()))
}

fn write_marker(directory: &Path, store: &str) -> io::Result<()> {
    let new = directory.join(format!(".{MARKER}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{store}")?;
    file.sync_all()?;
    put(&new, &directory.join(MARKER))
}

/// Renames a file or directory within its parent, for good. No directory that holds anything is replaced.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot move {} to {}: {error}", from.display(), to.display()))
    })?;
    to.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
