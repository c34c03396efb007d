//! progressd: every slow task gets a URL that streams its progress.
//!
//! The modules stand in the order in which a report flows through them; `ARCHITECTURE.md` is the map.

// Composes all the others, starts them, and ends them in order.
pub mod service;

// Connections: the accept loop and its time-outs.
pub mod server;
// Requests: routes, extractors, problems, the description of the API.
mod http;

// Who makes a request, and what they may do.
pub mod access;
// How much one client may use.
pub mod limits;

// What all agree on: events, their channel, their place in the journal.
pub mod event;
// What a task is and what can happen to it; pure.
pub mod task;
// What is sent to users and remembered of them; pure.
pub mod people;
// What is published under a name; pure.
pub mod topics;
// What the nodes of a store have in common beside its log.
pub mod shared;
// The nodes that share a store; pure.
mod nodes;
// The one writer of the task table, and the handle to it.
mod tracker;
// The durable log of events, in memory or in SQLite.
pub mod journal;
// Events as bytes of Server-Sent Events.
pub mod wire;
// The fan-out of events to those who watch them.
mod channel;
// One response of Server-Sent Events.
mod stream;

// The work that the service does itself: uploads, simulations.
mod jobs;
// Which users are connected.
mod presence;

// The data directory in one archive, and back.
pub mod backup;
// The data directory into a store that nodes share.
pub mod migrate;
// The command line.
pub mod cli;
// The settings, from flags, environment variables and a file.
pub mod config;
// The stages in which the service ends.
mod shutdown;
// Log lines and metrics.
pub mod telemetry;

// The gear of tests, which no other module uses.
#[cfg(any(test, feature = "testing"))]
pub mod testing;
