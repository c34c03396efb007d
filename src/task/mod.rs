//! The task table: pure. No tokio, no I/O, no clock; time comes in as an argument.
//!
//! `decide(id, entry, intent, now, policy)` answers which events an intent leads to, each with the state after it, or why
//! it is refused. Once the journal has given the events their places, those same states enter the [`Table`]; events
//! that others decided are read instead ([`Table::apply`]). Both ways lead to the same table: everything a task is, is a
//! function of its events. It must not know how events are stored, nor who watches.

mod decide;
mod eta;
mod intent;
mod key;
mod lease;
mod payload;
mod refusal;
mod report;
mod row;
mod state;
mod table;
mod transition;

pub use decide::{Policy, decide};
pub use intent::{Intent, LIST_LIMIT_MAX, NewTask, PAYLOAD_BYTES_MAX, Report, ReportedError, ReportedStatus, StepSpec};
pub use key::{EventKey, Keyed, key_digest};
pub use lease::Lease;
pub use payload::Payload;
pub use refusal::Refusal;
pub use row::Row;
pub use state::{Entry, InvalidEvent, Memo, Status, Task, TaskError};
pub use table::{Load, Table};
pub use transition::{Decided, Decision, tombstone};

#[cfg(test)]
mod tests;
