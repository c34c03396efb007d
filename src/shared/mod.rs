//! What the nodes of a store have in common beside its log: facts that all of them know, and the directory of files.
//!
//! An embedded store has one node, which keeps the same in its data directory. This must not know what a fact says.

mod facts;
mod files;

pub use facts::{Fact, SharedFacts};
pub use files::{FilesAway, SharedFiles, SharedFilesError};

#[cfg(test)]
mod tests;
