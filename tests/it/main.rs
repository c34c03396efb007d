//! What the service does, seen from outside: one binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod access;
mod architecture;
mod backup;
mod broadcasts;
mod connections;
mod crash;
mod dependencies;
mod settings;
mod shared_files;
mod shared_store;
mod simulation;
mod stores;
mod streams;
mod guard;
mod memory;
mod names;
mod jobs;
mod limits;
mod nginx;
mod openapi;
mod people;
mod people_crash;
mod power_cut;
mod problems;
mod proxies;
mod readme;
mod seeds;
mod support;
mod surroundings;
mod tasks;
mod topics;
mod uploads;
mod watching;
mod wire;
