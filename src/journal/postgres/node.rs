//! Which node this is: a name in its data directory, so that it finds again what it held before it ended.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::error::DatabaseRefused;
use crate::event::check_name;

/// The file with the name.
const FILE: &str = "node";

/// A node of a shared store. While this lives, no other process is the same node.
#[derive(Debug)]
pub struct Node {
    name: String,
    // The lock goes with it.
    _file: File,
}

impl Node {
    /// The node of this data directory, which is made if it is missing; blocks for a moment.
    ///
    /// # Errors
    /// When another process is this node, or the directory cannot be used.
    pub fn enter(directory: &Path) -> Result<Self, DatabaseRefused> {
        let path = directory.join(FILE);
        Self::open(directory, &path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => DatabaseRefused::NodeInUse(directory.into()),
            _ => DatabaseRefused::Directory { path, source },
        })
    }

    fn open(directory: &Path, path: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let options = OpenOptions::new().read(true).write(true).create(true).mode(0o600).clone();
        let mut file = options.open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut name = String::new();
        file.read_to_string(&mut name)?;
        let mut name = name.trim_end().to_owned();
        if name.is_empty() {
            name = format!("node-{}", Uuid::new_v4().simple());
            writeln!(file, "{name}")?;
            file.sync_all()?;
        }
        check_name(&name).map_err(|_| io::Error::other("it has no name of a node in it"))?;
        Ok(Self { name, _file: file })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name_and_is_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::enter(directory.path()).unwrap();
        let name = node.name().to_owned();
        let second = Node::enter(directory.path()).unwrap_err();
        assert!(matches!(second, DatabaseRefused::NodeInUse(_)), "{second}");
        drop(node);
        assert_eq!(Node::enter(directory.path()).unwrap().name(), name);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Node::enter(other.path()).unwrap().name(), name);
    }
}
