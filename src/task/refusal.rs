//! Why something that is asked of a task is refused.

use super::state::Status;

/// Why an intent is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such task.
    #[error("no such task")]
    NotFound,
    /// A newer version may have written it.
    #[error("this version cannot read the task")]
    Unreadable,
    /// It is there no more.
    #[error("the task has been deleted")]
    Gone,
    /// A final status is final.
    #[error("the task has ended with status {0}")]
    Final(Status),
    /// Only the holder of its lease may do that.
    #[error("the task is leased to another worker")]
    Leased,
    /// The lease was another attempt's, or has ended.
    #[error("the lease on the task has ended")]
    LeaseLost,
    /// Somebody has taken it already.
    #[error("the task is not pending")]
    NotPending,
    /// Only finished tasks can be forgotten.
    #[error("the task is not finished")]
    NotFinished,
    /// The id or idempotency key was used with another request.
    #[error("this id or idempotency key was used with a different request")]
    Mismatch,
    /// There are as many tasks as are allowed that have not ended.
    #[error("too many tasks that have not ended")]
    TooManyTasks {
        /// The setting.
        setting: &'static str,
        /// Its value.
        most: usize,
    },
    /// A member does not fit this task.
    #[error("{member} {reason}")]
    Invalid {
        /// Its name on the wire.
        member: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}
