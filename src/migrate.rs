//! `progressd migrate`: moves a data directory into a PostgreSQL store, with its name, seqs and epochs, so that the cursors and
//! ETags of clients stay good. The database takes all or nothing, and what was copied of files is not copied again: a move
//! that was cut off is begun anew. The data directory stays as it is.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    access::{AccessFiles, SharedAccess},
    journal::{
        postgres::{MoveProgress, import},
        sqlite::SqliteExport,
    },
    shared::{SharedFacts, SharedFiles},
};

/// The directories of files, in a data directory as in one that nodes share.
const DIRECTORIES: [&str; 2] = ["incoming", "files"];
/// In each of them, the file that names its store.
const MARKER: &str = "store";

/// Moves everything; `told` hears how far it is. Answers what was done, for whoever started it.
///
/// # Errors
/// When a process uses the data directory, its store is damaged, the database has a store or refuses, or files cannot be
/// copied. Then nothing is in the database.
pub async fn migrate(
    from: &Path,
    url: &str,
    files_dir: Option<&Path>,
    told: MoveProgress<'_>,
) -> anyhow::Result<String> {
    let source = SqliteExport::open(from).await?;
    let store = source.epochs().store();
    let files = files_of(from, store.as_str())?;
    let mut copied = 0;
    let copy = |told: MoveProgress<'_>| -> anyhow::Result<()> {
        let Some(directory) = files_dir else { return Ok(()) };
        SharedFiles::mark(store.as_str(), directory)?;
        for name in DIRECTORIES {
            make_directory(&directory.join(name))?;
        }
        for file in &files {
            copy_file(&from.join(file), &directory.join(file))
                .with_context(|| format!("cannot copy {} to {}", from.join(file).display(), directory.display()))?;
            copied += 1;
            told("files", copied);
        }
        for name in DIRECTORIES {
            File::open(directory.join(name)).and_then(|opened| opened.sync_all())?;
        }
        Ok(())
    };
    let facts = SharedAccess::facts_of(&AccessFiles::of(from))?;
    let groups = facts.into_iter().map(|(name, content)| SharedFacts::group(&name, content));
    import(url, &source, groups.collect::<Result<_, _>>()?, copy, told).await?;
    let [events, channels, history, _] = source.counts()?;
    let head = source.head();
    let mut done = format!(
        "moved the store {store} through seq {head}: {channels} channels with {history} events in their histories, and a log of \
         {events} events\n"
    );
    done += &match files_dir {
        Some(directory) => format!("copied {copied} files to {}\n", directory.display()),
        None if files.is_empty() => String::new(),
        None => format!(
            "{} files were not copied: put the directories incoming and files of {} into the directory that all nodes are \
             given with --files-dir\n",
            files.len(),
            from.display()
        ),
    };
    done += &format!(
        "From now on start nodes with --store and this database, and nothing on {}: it is as it was, and what is written there \
         is not in the database\n",
        from.display()
    );
    Ok(done)
}

/// The files of this store, as paths in its data directory.
fn files_of(from: &Path, store: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in DIRECTORIES {
        let directory = from.join(name);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
        };
        let marker = fs::read_to_string(directory.join(MARKER)).unwrap_or_else(|_| store.to_owned());
        ensure!(
            marker.trim_end() == store,
            "the files in {} belong to another store: start and stop progressd on {} once, which puts its own in place",
            directory.display(),
            from.display()
        );
        for entry in entries {
            let entry = entry?;
            let is_ours = entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().ends_with(MARKER);
            files.extend(is_ours.then(|| Path::new(name).join(entry.file_name())));
        }
    }
    Ok(files)
}

/// Copies a file durably, unless an earlier try has.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::metadata(from)?;
    if fs::metadata(to).is_ok_and(|there| there.len() == found.len()) {
        return Ok(());
    }
    let new = to.with_extension("new");
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    // A file that no task is known of is kept by its age.
    copy.set_modified(found.modified()?)?;
    copy.sync_all()?;
    fs::rename(new, to)
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}
