//! The right to report on a task.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::Timestamp;

/// What the holder of a lease begins with that is a node: a character that no name has.
const NODE_HOLDER: &str = "node:";

/// A time-limited right to report on one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it: the jobs of a node, or a worker by its name.
    pub holder: String,
    /// Proves it in a report.
    pub token: Uuid,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

impl Lease {
    /// The node whose job holds it, where nodes share the store.
    pub fn node(&self) -> Option<&str> {
        self.holder.strip_prefix(NODE_HOLDER)
    }

    /// The holder of the leases of the jobs of a node. No worker has such a name.
    pub fn holder_on(node: &str) -> String {
        format!("{NODE_HOLDER}{node}")
    }
}
