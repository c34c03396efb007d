//! How much of the log is folded at a time, so that an append never waits long for the fold, nor stalls at its bound.
//!
//! It owns what it learns of the disk's speed, and knows nothing of what is folded. Work is measured in weight, about
//! one for each row that is written.

use std::time::Duration;

/// Up to this lag only time off is used; then a slice follows each append.
///
/// It and the slices are small in tests, so that these meet what is between two slices.
const LAG_EASY: usize = if cfg!(test) { 16 } else { 1_024 };
/// The fold may be so far behind; then appends wait for it.
pub(super) const LAG_MAX: usize = 16_384;
/// With nothing to do for so long, the fold takes what is left.
pub(super) const QUIET: Duration = Duration::from_millis(50);
/// A slice is to take so long, or as long as its commit where the disk is slow.
const SLICE: Duration = Duration::from_millis(2);
/// The least and the most weight of a slice.
const SLICE_WEIGHT: (usize, usize) = if cfg!(test) { (2, 4) } else { (128, 2_048) };

pub(super) struct FoldPace {
    slice_weight: usize,
}

impl FoldPace {
    pub(super) fn new() -> Self {
        Self { slice_weight: SLICE_WEIGHT.0 }
    }

    /// The weight of a slice that is folded in time off.
    pub(super) fn slice(&self) -> usize {
        self.slice_weight
    }

    /// How long nothing may come before the next slice is folded.
    pub(super) fn time_off(lag: usize) -> Duration {
        if lag < LAG_EASY { QUIET } else { Duration::ZERO }
    }

    /// The weight to fold after an append of so many events; none while the lag is easy.
    ///
    /// The further behind, the more: at half of the bound it is more than was appended, so that the bound is not met.
    pub(super) fn after_append(&self, lag: usize, appended: usize) -> Option<usize> {
        let share = |weight: usize| weight.saturating_mul(lag) / (LAG_MAX / 2);
        (lag >= LAG_EASY).then(|| self.slice_weight.max(share(4 * appended)))
    }

    /// Learns how long a slice took.
    pub(super) fn learn(&mut self, weight: usize, worked: Duration, committed: Duration) {
        let (target, worked) = (SLICE.max(committed).as_nanos(), worked.as_nanos().max(1));
        let fitting = usize::try_from(weight as u128 * target / worked).unwrap_or(usize::MAX);
        self.slice_weight = fitting.clamp(SLICE_WEIGHT.0, SLICE_WEIGHT.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_not_met_however_much_comes() {
        // An event of a new channel weighs two: its row and its history.
        for appended in [1, 64, 1_024, 4_000] {
            let pace = FoldPace::new();
            let (mut lag, mut most) = (0, 0);
            for _ in 0..10_000 {
                lag += appended;
                lag -= pace.after_append(lag, appended).map_or(0, |weight| (weight / 2).min(lag));
                most = lag.max(most);
            }
            assert!(most + appended < LAG_MAX, "{appended} at a time: {most} behind");
        }
    }

    #[test]
    fn a_slice_takes_as_long_as_its_commit_but_not_less_than_its_time() {
        let learned = |committed| {
            let mut pace = FoldPace { slice_weight: 3 };
            pace.learn(3, SLICE, committed);
            pace.slice()
        };
        assert_eq!(learned(SLICE / 2), 3);
        assert_eq!(learned(SLICE), 3);
        assert_eq!(learned(SLICE * 2), SLICE_WEIGHT.1);
        let mut pace = FoldPace::new();
        pace.learn(3, SLICE * 2, Duration::ZERO);
        assert_eq!(pace.slice(), SLICE_WEIGHT.0);
        pace.learn(3, Duration::ZERO, Duration::ZERO);
        assert_eq!(pace.slice(), SLICE_WEIGHT.1);
    }
}
