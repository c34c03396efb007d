//! A setting as it was given: its name, its text, and where the text stands.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// One setting as it was given.
#[derive(Clone)]
pub(super) struct Given {
    /// The flag without its dashes.
    pub(super) flag: String,
    pub(super) text: OsString,
    pub(super) source: Source,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} = {:?}", self.flag, self.source, self.text)
    }
}

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `--name`
    Flag(String),
    /// The environment variable of that name.
    Variable(String),
    /// A line of the settings file.
    File { path: PathBuf, line: usize },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "(flag --{name})"),
            Self::Variable(name) => write!(f, "(environment variable {name})"),
            Self::File { path, line } => write!(f, "(settings file {}, line {line})", path.display()),
        }
    }
}
