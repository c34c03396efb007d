//! What passes between a handle and its writer: calls one way, a few numbers the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// What others may read of the writer without asking it.
#[derive(Default)]
pub(super) struct Gauges {
    head: AtomicU64,
    folded_through: AtomicU64,
    /// Whether it is not known what is on the disk, so that `head` may be too low.
    pub(super) unsettled: AtomicBool,
}

impl Gauges {
    pub(super) fn set(&self, folded_through: Seq, head: Seq) {
        self.folded_through.store(folded_through.0, Ordering::Release);
        self.head.store(head.0, Ordering::Release);
    }

    pub(super) fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    pub(super) fn folded_through(&self) -> Seq {
        Seq(self.folded_through.load(Ordering::Acquire))
    }
}
