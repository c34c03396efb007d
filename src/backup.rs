//! `progressd backup` and `progressd restore`: the data directory in one tar archive, written while the service runs.
//!
//! The journal is copied as it is at one moment; the other files follow, which the journal knows from before that moment.
//! A file whose task was deleted meanwhile may be missing. The journal comes last in the archive, so that a restore that was
//! cut off is not taken for a store. The next start of a restored store begins a new epoch, as each start does: the cursors of
//! what was written after the backup get a reset.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail, ensure};
use tar::{Archive, Builder, EntryType, Header};
use tempfile::NamedTempFile;

use crate::journal::sqlite::{check_journal, copy_journal};

const JOURNAL: &str = "journal.db";
/// Of one process.
const LOCK: &str = "lock";

/// Writes an archive of a data directory to a file, which has its name only when it is whole and on the disk.
///
/// # Errors
/// When there is no journal, it is damaged, or the archive cannot be written.
pub fn back_up(data_dir: &Path, archive: &Path) -> anyhow::Result<()> {
    let beside = match archive.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unwritable = || format!("cannot write {}", archive.display());
    let is_inside = beside
        .canonicalize()
        .with_context(unwritable)?
        .starts_with(data_dir.canonicalize().with_context(|| format!("cannot read {}", data_dir.display()))?);
    ensure!(!is_inside, "{} is in the data directory: write the backup elsewhere", archive.display());
    let journal = NamedTempFile::new_in(beside).with_context(unwritable)?;
    copy_journal(data_dir, journal.path())?;
    let new = NamedTempFile::new_in(beside).with_context(unwritable)?;
    let mut builder = Builder::new(BufWriter::new(new.as_file()));
    add_directory(&mut builder, data_dir, Path::new(""))?;
    add_file(&mut builder, &journal.reopen()?, Path::new(JOURNAL)).with_context(unwritable)?;
    builder.into_inner().and_then(|mut writer| writer.flush()).with_context(unwritable)?;
    new.as_file().sync_all().with_context(unwritable)?;
    new.persist(archive).with_context(unwritable)?;
    sync(beside)
}

/// Adds what is in a directory, but for the journal and the lock.
fn add_directory(builder: &mut Builder<impl Write>, data_dir: &Path, name: &Path) -> anyhow::Result<()> {
    let directory = data_dir.join(name);
    let unreadable = || format!("cannot read {}", directory.display());
    let mut names = fs::read_dir(&directory)
        .and_then(|entries| entries.map(|entry| Ok(name.join(entry?.file_name()))).collect::<io::Result<Vec<_>>>())
        .with_context(unreadable)?;
    // `incoming` comes before `files`: a file that is moved between them meanwhile is found in one of the two.
    names.sort_unstable_by(|one, other| other.cmp(one));
    for name in names {
        let text = name.to_string_lossy();
        if text.starts_with(JOURNAL) || text == LOCK {
            continue;
        }
        let path = data_dir.join(&name);
        let added = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                add_directory(builder, data_dir, &name)?;
                continue;
            }
            Ok(found) if found.is_file() => File::open(&path).and_then(|file| add_file(builder, &file, &name)),
            other => other.map(drop),
        };
        match added {
            // Its task was deleted, or its upload ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            added => added.with_context(|| format!("cannot back up {}", path.display()))?,
        }
    }
    Ok(())
}

fn add_file(builder: &mut Builder<impl Write>, file: &File, name: &Path) -> io::Result<()> {
    let found = file.metadata()?;
    let size = found.len();
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(found.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
    // A file that is being received may grow meanwhile, and should it shrink, the archive stays readable.
    builder.append_data(&mut header, name, file.chain(io::repeat(0)).take(size))
}

/// Unpacks an archive into a data directory, which must be new or empty, and checks the journal.
///
/// # Errors
/// When something is in the directory, the archive is not one of these, is cut off or damaged, or there is no room.
/// Then the directory is left empty.
pub fn restore(archive: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    make_directory(data_dir)?;
    ensure!(
        fs::read_dir(data_dir)?.next().is_none(),
        "{} is not empty: move it away first, or give another --data-dir",
        data_dir.display()
    );
    let restored = unpack(file, data_dir).with_context(|| format!("cannot restore {}", archive.display()));
    if restored.is_err() {
        for entry in fs::read_dir(data_dir)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }?;
        }
    }
    restored
}

fn unpack(archive: File, data_dir: &Path) -> anyhow::Result<()> {
    let mut is_whole = false;
    for entry in Archive::new(BufReader::new(archive)).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let is_ours = entry.header().entry_type() == EntryType::Regular
            && name.components().all(|component| matches!(component, Component::Normal(_)));
        ensure!(is_ours && !is_whole, "it is not a backup of progressd: {} is in it", name.display());
        let path = data_dir.join(&name);
        path.parent().map_or(Ok(()), make_directory)?;
        let copied = private_file(&path).and_then(|mut file| {
            io::copy(&mut entry, &mut file)?;
            file.sync_all()
        });
        copied.with_context(|| format!("cannot write {}", path.display()))?;
        is_whole = name == Path::new(JOURNAL);
    }
    if !is_whole {
        bail!("it is cut off, or not a backup of progressd: it does not end with {JOURNAL}");
    }
    check_journal(&data_dir.join(JOURNAL))?;
    sync_all(data_dir)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// Makes the names in a directory and those below it durable.
fn sync_all(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        }
    }
    sync(directory)
}

fn sync(directory: &Path) -> anyhow::Result<()> {
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    synced.with_context(|| format!("cannot sync {}", directory.display()))
}
