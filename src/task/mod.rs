//! The task table: pure. No tokio, no I/O, no clock; time comes in as an argument.
//!
//! `decide(entry, intent, now, policy)` answers which events an intent leads to, or why it is refused; [`Table::apply`]
//! makes the table follow an event. Everything a task is, is a function of its events: replaying the journal gives the
//! same table. It must not know how events are stored, nor who watches.

mod decide;
mod eta;
mod intent;
mod payload;
mod report;
mod state;
mod table;

pub use decide::{Decision, Policy, Refusal, decide};
pub use eta::{Eta, Pace};
pub use intent::{
    Intent, LIST_LIMIT_MAX, MESSAGE_BYTES_MAX, NewTask, PAYLOAD_BYTES_MAX, Report, ReportedError, ReportedStatus,
    STEPS_MAX, StepSpec, TITLE_BYTES_MAX, key_digest,
};
pub use payload::Payload;
pub use state::{Entry, InvalidEvent, KeyMemo, Lease, Memo, Origin, Status, Step, Task, TaskError};
pub use table::Table;

#[cfg(test)]
mod laws;
