//! What time it is, for decisions.

use tokio::time::Instant;

use crate::event::Timestamp;

/// A clock that tests can hold.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Option<(Instant, Timestamp)>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { anchor: None }
    }

    /// A clock that goes with the runtime's own, from this moment: paused and advanced with it.
    pub fn runtime() -> Self {
        Self { anchor: Some((Instant::now(), Timestamp::now())) }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.anchor.map_or_else(Timestamp::now, |(started, at)| at + started.elapsed())
    }
}
