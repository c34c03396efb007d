//! The gear of tests: a journal in memory that can be made to fail, a PostgreSQL server, and a reader of event streams.
//!
//! It is built for tests and benchmarks only (the feature `testing`), and the table in `ARCHITECTURE.md` lets no other
//! module use it. The feature adds this module and changes nothing else.

mod memory;
mod postgres;
mod sse;

pub use memory::{AppendGate, LostAnswer, MemoryJournal};
pub use postgres::{PostgresDatabase, PostgresServer};
pub use sse::{SseEvent, SseParser};
