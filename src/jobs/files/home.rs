//! The directories of files, and the store that each of them belongs to.
//!
//! Only the journal knows what a file belongs to, so a marker in each directory names the journal's store. A directory of
//! another store is renamed to `<name>.<store>`, and renamed back when that store is in use again. Nothing is ever deleted
//! here.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::event::check_name;

/// The file that names the store of a directory.
pub(super) const MARKER: &str = "store";

/// Opens the directory `name` of this store in `data_dir`: the current one, the one that was set aside while another store
/// was in use, or a new one. All changes are durable when this returns.
pub(super) fn enter(data_dir: &Path, name: &str, store: &str) -> io::Result<PathBuf> {
    let directory = data_dir.join(name);
    let aside = |store: &str| data_dir.join(format!("{name}.{store}"));
    match read_marker(&directory)? {
        Some(found) if found == store => return Ok(directory),
        Some(other) => {
            let aside = aside(&other);
            rename(&directory, &aside)?;
            tracing::warn!(
                files.store = other,
                "the files in {} belong to another journal than the one in use; they were moved to {} and will be \
                 moved back when that journal is in use again",
                directory.display(),
                aside.display()
            );
        }
        // An earlier version wrote no markers.
        None if directory.exists() => {
            write_marker(&directory, store)?;
            return Ok(directory);
        }
        None => {}
    }
    if aside(store).exists() {
        rename(&aside(store), &directory)?;
        tracing::info!("the files of this journal were moved back to {}", directory.display());
    } else {
        // Renamed only once it is marked, so that it is never taken for one of an earlier version.
        let new = data_dir.join(format!(".{name}"));
        // Other users of the machine may not read uploads.
        DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
        write_marker(&new, store)?;
        rename(&new, &directory)?;
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
    rename(&new, &directory.join(MARKER))
}

/// Renames a file or directory within its parent, durably. Fails if that would replace a directory that is not empty.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot move {} to {}: {error}", from.display(), to.display()))
    })?;
    to.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
