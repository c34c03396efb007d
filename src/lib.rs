//! progressd: every slow task gets a URL that streams its progress.
//!
//! The modules stand in the order in which a report flows through them; `ARCHITECTURE.md` is the map.

pub mod service;

pub mod server;
pub mod http;

pub mod event;
pub mod task;
pub mod people;
pub mod tracker;
pub mod journal;
pub mod wire;
pub mod channel;
pub mod stream;

pub mod jobs;
pub mod presence;

pub mod cli;
pub mod config;
pub mod shutdown;
pub mod telemetry;
