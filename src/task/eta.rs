//! How fast a task goes, and when it may end.
//!
//! The rate is an exponentially weighted mean, so that it follows what happens now. The estimate of the end comes from
//! the mean over the whole attempt, which does not jump about; where the recent speed differs, the low and high bounds
//! spread towards it, and both close in as more reports come.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::Timestamp;

/// Time constant of the exponentially weighted means, in seconds.
const WINDOW_SECONDS: f64 = 10.0;
/// A first report so soon after the start tells where work began (it may have been resumed), not how fast it goes.
const BASELINE_SECONDS_MAX: f64 = 1.0;
/// No estimate before so many reports that advanced the task …
const ADVANCES_MIN: u32 = 3;
/// … nor before so much of the attempt has passed …
const ELAPSED_SECONDS_MIN: f64 = 1.0;
/// … nor before so much of the work is done (a fraction).
const FRACTION_MIN: f64 = 0.01;
/// An estimate beyond this says nothing (ten years, in seconds).
const SECONDS_MAX: f64 = 315_360_000.0;

/// When a task is expected to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Eta {
    /// The expected time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Seconds from `updatedAt` until then.
    pub seconds: u64,
    /// The lower bound of `seconds`.
    pub low: u64,
    /// The upper bound of `seconds`.
    pub high: u64,
}

/// What rate and estimate are computed from; goes with the task's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptPace {
    /// Reports of this attempt that advanced the task, but for one that told where it began.
    #[serde(rename = "n")]
    advances: u32,
    /// Where it began.
    #[serde(rename = "from", default, skip_serializing_if = "Option::is_none")]
    began: Option<Sample>,
    /// The last of them.
    #[serde(rename = "last", default, skip_serializing_if = "Option::is_none")]
    last: Option<Sample>,
    /// Fraction of the whole per second, recently.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    speed: Option<f64>,
    /// Units per second, recently.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
}

/// Where a task stood at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    #[serde(rename = "t")]
    at: Timestamp,
    #[serde(rename = "f")]
    fraction: f64,
    #[serde(rename = "c")]
    current: u64,
}

impl AttemptPace {
    /// The pace of an attempt which begins now.
    pub fn starting(at: Timestamp, current: u64) -> Self {
        let began = Some(Sample { at, fraction: 0.0, current });
        Self { began, last: began, ..Self::default() }
    }

    /// Takes in where the task stands: `fraction` of the whole (0–1) and units done.
    pub fn observe(&mut self, now: Timestamp, fraction: f64, current: Option<u64>) {
        let sample = Sample { at: now, fraction, current: current.unwrap_or(0) };
        let current = sample.current;
        let (Some(began), Some(last)) = (self.began, self.last) else {
            (self.began, self.last) = (Some(sample), Some(sample));
            return;
        };
        let advanced = fraction > last.fraction || current > last.current;
        let seconds = now.since(last.at).as_secs_f64();
        // Two reports within one millisecond count as one: the later is measured against the sample before both.
        if !advanced || seconds <= 0.0 {
            return;
        }
        if self.advances == 0 && began == last && began.fraction == 0.0 && seconds < BASELINE_SECONDS_MAX {
            (self.began, self.last) = (Some(sample), Some(sample));
            self.advances = 1;
            return;
        }
        let weight = 1.0 - (-seconds / WINDOW_SECONDS).exp();
        let blend = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old + weight * (new - old)));
        self.speed = blend(self.speed, (fraction - last.fraction).max(0.0) / seconds);
        if current >= last.current {
            self.rate = blend(self.rate, (current - last.current) as f64 / seconds);
        }
        self.advances = self.advances.saturating_add(1);
        self.last = Some(sample);
    }

    /// Units a second, rounded to three decimals.
    pub fn rate(&self) -> Option<f64> {
        self.rate.filter(|rate| rate.is_finite() && *rate > 0.0).map(|rate| (rate * 1000.0).round() / 1000.0)
    }

    /// When the task may end, seen from `now`, at `fraction` of the whole; `None` without ground for it.
    pub fn eta(&self, now: Timestamp, fraction: f64) -> Option<Eta> {
        let began = self.began?;
        let elapsed = now.since(began.at).as_secs_f64();
        let done = fraction - began.fraction;
        let grounded = self.advances >= ADVANCES_MIN && elapsed >= ELAPSED_SECONDS_MIN && done >= FRACTION_MIN;
        if !grounded || fraction >= 1.0 {
            return None;
        }
        let left = 1.0 - fraction;
        let mean = elapsed * left / done;
        let recent = self.speed.filter(|speed| *speed > 0.0).map_or(mean, |speed| left / speed);
        let doubt = 1.0 / f64::from(self.advances);
        let low = mean.min(recent) * (1.0 - doubt);
        let high = (mean.max(recent) * (1.0 + doubt)).min(SECONDS_MAX);
        if mean > SECONDS_MAX {
            return None;
        }
        Some(Eta {
            at: now + std::time::Duration::from_secs_f64(mean),
            seconds: mean.round() as u64,
            low: low.floor() as u64,
            high: high.ceil() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(count: i64) -> Timestamp {
        Timestamp::from_millis(count * 1000)
    }

    #[test]
    fn a_steady_task_is_told_its_true_end() {
        let mut pace = AttemptPace::starting(seconds(0), 0);
        for second in 1..=20 {
            pace.observe(seconds(second), second as f64 / 100.0, Some(second as u64 * 7));
        }
        let eta = pace.eta(seconds(20), 0.2).expect("there is ground");
        assert_eq!((eta.seconds, eta.at), (80, seconds(100)));
        assert!(eta.low < 80 && eta.high > 80, "{eta:?}");
        assert_eq!(pace.rate(), Some(7.0));
    }

    #[test]
    fn bounds_spread_towards_the_recent_speed_and_close_in_with_reports() {
        let mut pace = AttemptPace::starting(seconds(0), 0);
        let mut fraction = 0.0;
        for second in 1..=60 {
            fraction += if second <= 30 { 0.01 } else { 0.001 };
            pace.observe(seconds(second), fraction, None);
        }
        let eta = pace.eta(seconds(60), fraction).expect("there is ground");
        assert!(eta.high > 3 * eta.seconds, "the slow end must show in the upper bound: {eta:?}");
    }

    #[test]
    fn resumed_work_is_measured_from_where_it_began() {
        let mut pace = AttemptPace::starting(seconds(0), 0);
        pace.observe(Timestamp::from_millis(3), 0.5, Some(15_000));
        for second in 1..=10 {
            pace.observe(seconds(second), 0.5 + second as f64 / 100.0, Some(15_000 + second as u64 * 300));
        }
        let eta = pace.eta(seconds(10), 0.6).expect("there is ground");
        assert!((39..=41).contains(&eta.seconds), "{eta:?}");
        assert!(pace.rate().is_some_and(|rate| (299.0..=302.0).contains(&rate)), "{:?}", pace.rate());
    }

    #[test]
    fn no_estimate_without_ground() {
        let mut pace = AttemptPace::starting(seconds(0), 0);
        assert_eq!(pace.eta(seconds(5), 0.5), None, "no report");
        for step in 1..=4 {
            pace.observe(Timestamp::from_millis(step * 10), step as f64 / 10.0, None);
        }
        assert_eq!(pace.eta(Timestamp::from_millis(40), 0.4), None, "too early");
        assert!(pace.eta(seconds(2), 0.4).is_some());
        assert_eq!(pace.eta(seconds(2), 0.101), None, "too little");
    }

    #[test]
    fn the_rate_follows_what_happens_now_within_the_window() {
        let mut pace = AttemptPace::starting(seconds(0), 0);
        pace.observe(seconds(10), 0.1, Some(100));
        pace.observe(seconds(20), 0.3, Some(300));
        // After one time constant, so much of the change is taken in: 1 - 1/e.
        assert_eq!(pace.rate(), Some(16.321));
    }

    #[test]
    fn an_end_that_is_years_away_is_not_told() {
        let mut pace = AttemptPace::starting(seconds(0), 0);
        for step in 1..=3 {
            pace.observe(seconds(step * 1_200_000), step as f64 / 200.0, None);
        }
        assert_eq!(pace.eta(seconds(3_600_000), 0.011), None, "ten years");
        assert!(pace.eta(seconds(3_600_000), 0.015).is_some());
    }

    proptest! {
        #[test]
        fn bounds_hold_the_estimate_and_nothing_overflows(
            reports in prop::collection::vec((0i64..1_000_000_000, 0.0f64..=1.0, any::<u64>()), 0..40)
        ) {
            let mut pace = AttemptPace::starting(Timestamp::from_millis(0), 0);
            let (mut now, mut fraction) = (0, 0.0f64);
            for (step, to, current) in reports {
                now += step;
                fraction = fraction.max(to);
                pace.observe(Timestamp::from_millis(now), fraction, Some(current));
            }
            if let Some(eta) = pace.eta(Timestamp::from_millis(now), fraction) {
                prop_assert!(eta.low <= eta.seconds && eta.seconds <= eta.high.max(eta.seconds));
            }
            prop_assert!(pace.rate().is_none_or(f64::is_finite));
        }
    }
}
