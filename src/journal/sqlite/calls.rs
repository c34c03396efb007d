//! What a handle asks of its writer.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{sweep::Swept, trim::Outdated};
use crate::{
    event::Seq,
    journal::{Appended, Group, JournalError},
};

/// What the writer is asked to do. Its permit is a place in the queue.
pub(super) struct Call {
    pub(super) work: Work,
    pub(super) permit: OwnedSemaphorePermit,
}

pub(super) enum Work {
    Append {
        known_head: Seq,
        groups: Vec<Group>,
        answer: Reply<Appended>,
    },
    /// The head, once it is known what is on the disk.
    Head {
        answer: Reply<Seq>,
    },
    /// Whether an append would work.
    Check {
        answer: Reply<()>,
    },
    Fold {
        answer: Reply<()>,
    },
    /// Removes what may go of what was found; answers how much that is.
    Sweep {
        found: Vec<Swept>,
        answer: Reply<usize>,
    },
    /// Trims what was found.
    Trim {
        found: Outdated,
        answer: Reply<()>,
    },
    Close {
        answer: Reply<()>,
    },
    /// Something that a test does to the writer.
    #[cfg(test)]
    Test(Box<dyn FnOnce(&mut super::JournalWriter) + Send>),
}

type Reply<T> = oneshot::Sender<Result<T, JournalError>>;
