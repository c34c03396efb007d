//! progressd: every slow task gets a URL that streams its progress.
//!
//! The modules stand in the order in which a report flows through them; `ARCHITECTURE.md` is the map.

pub mod channel;
pub mod event;
pub mod journal;
pub mod server;
pub mod task;
pub mod wire;

pub mod cli;
pub mod config;
pub mod shutdown;
pub mod telemetry;
