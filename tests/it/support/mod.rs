//! What the tests stand on: a service of its own for each, and clients for it.

mod answer;
mod app;
pub(crate) mod authority;
pub(crate) mod binary;
mod described;
mod events;
mod golden;
pub(crate) mod leaks;

pub(crate) use answer::Answer;
pub(crate) use app::{Asking, TestApp};
pub(crate) use events::{Events, first_events};
pub(crate) use golden::{golden, golden_stream};
