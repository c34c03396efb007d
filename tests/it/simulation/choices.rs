//! All chance in a simulation: a generator of numbers that one seed determines.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// SplitMix64 (Steele, Lea, Flood 2014), shared by those who were given a reference.
pub(crate) struct Choices(Mutex<u64>);

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// Others for somebody else, who then does not depend on how often this one is asked.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.number())
    }

    pub(crate) fn number(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Both ends included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.number() % (most - least + 1)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    pub(crate) fn of<'a, T>(&self, all: &'a [T]) -> Option<&'a T> {
        let last = u64::try_from(all.len().checked_sub(1)?).ok()?;
        all.get(usize::try_from(self.between(0, last)).ok()?)
    }

    /// A time, in milliseconds.
    pub(crate) fn up_to(&self, most: Duration) -> Duration {
        Duration::from_millis(self.between(0, u64::try_from(most.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Waits for up to so long; often not at all.
    pub(crate) async fn pause(&self, most: Duration) {
        if self.chance(50) {
            tokio::time::sleep(self.up_to(most)).await;
        }
    }
}
