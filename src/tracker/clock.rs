//! What time it is, for decisions, and when that is not to be believed at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{event::Timestamp, journal::Journal};

/// A clock that tests can hold. Cheap to clone.
#[derive(Clone)]
pub struct Clock {
    /// Whose time counts, if it has a clock of its own.
    journal: Option<Arc<dyn Journal>>,
    anchor: Option<(Instant, Timestamp)>,
    /// How far it was set forward, in milliseconds.
    stepped_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { journal: None, anchor: None, stepped_ms: Arc::default() }
    }

    /// A clock that goes with the runtime's own, from this moment: paused and advanced with it.
    pub fn runtime() -> Self {
        Self { anchor: Some((Instant::now(), Timestamp::now())), ..Self::system() }
    }

    /// A clock that shows the time of this journal. Only where the journal has no clock of its own, it is this one.
    pub(super) fn of(self, journal: Arc<dyn Journal>) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// Sets it, and all its clones, forward or back, as an operator or a time server may set the system's.
    pub fn step(&self, by_ms: i64) {
        self.stepped_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        if let Some(time) = self.journal.as_ref().and_then(|journal| journal.time()) {
            return time;
        }
        let now = self.anchor.map_or_else(Timestamp::now, |(started, at)| at + started.elapsed());
        Timestamp::from_millis(now.as_millis().saturating_add(self.stepped_ms.load(Ordering::Relaxed)))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// Notices when the clock was set forward: when it has gone further than the time that has passed.
#[derive(Debug)]
pub(super) struct JumpWatch {
    clock: Clock,
    last: (Instant, Timestamp),
}

impl JumpWatch {
    /// Less than this is no jump: clocks are corrected all the time.
    const TOLERANCE: Duration = Duration::from_secs(2);

    pub(super) fn new(clock: Clock) -> Self {
        let last = (Instant::now(), clock.now());
        Self { clock, last }
    }

    /// How far the clock has jumped forward since this was last asked.
    pub(super) fn look(&mut self) -> Option<Duration> {
        let (instant, time) = (Instant::now(), self.clock.now());
        let (instant_before, time_before) = std::mem::replace(&mut self.last, (instant, time));
        let jump = time.since(time_before).checked_sub(instant - instant_before)?;
        (jump > Self::TOLERANCE).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_that_passes_is_no_jump_and_a_step_forward_is_one_once() {
        let clock = Clock::runtime();
        let mut jumps = JumpWatch::new(clock.clone());
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(jumps.look(), None);
        clock.step(3_600_000);
        assert_eq!(jumps.look(), Some(Duration::from_secs(3_600)));
        assert_eq!(jumps.look(), None);
        clock.step(-3_600_000);
        assert_eq!(jumps.look(), None);
        clock.step(1_000);
        assert_eq!(jumps.look(), None);
    }
}
