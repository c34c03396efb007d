//! The gear of tests: faults for any journal, a journal in memory, a PostgreSQL server and a proxy in front of it that
//! misbehaves, and a reader of event streams.
//!
//! It is built for tests and benchmarks only (the feature `testing`), and the table in `ARCHITECTURE.md` lets no other
//! module use it. The feature adds this module and changes nothing else.

mod faults;
mod gate;
mod memory;
mod postgres;
mod postgres_cluster;
mod processes;
mod proxy;
mod sse;

pub use faults::{Faults, FaultyJournal, LookUps, LostAnswer, TestStore};
pub use gate::AppendGate;
pub use memory::{MemoryJournal, StoreInMemory};
pub use postgres::{PostgresDatabase, PostgresServer};
pub use postgres_cluster::PostgresCluster;
pub use processes::kill_with_children;
pub use proxy::{Fault, FaultProxy, Way};
pub use sse::{SseEvent, SseParser};
