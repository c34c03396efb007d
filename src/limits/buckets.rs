//! How often clients do something: a token bucket each.
//!
//! A bucket that is full again is as good as none, and is forgotten. There are never more than [`CONSUMERS_MAX`] of them:
//! who finds no room shares one bucket with all others who find none. So a client with many addresses can slow down those
//! who are new, but neither memory nor those who are known suffer.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::StateInformationMiddleware, nanos::Nanos, state::StateStore,
};
use http::HeaderValue;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::{Allowance, Consumer, Exceeded, Limit};
use crate::{config::Rate, telemetry::Metrics};

/// Clients of one limit that have a bucket of their own; about 100 bytes each.
pub(super) const CONSUMERS_MAX: usize = 65_536;
/// Each has a lock of its own.
const SHARDS: usize = 16;
/// A shard is not looked through for full buckets while it is smaller.
const SWEEP_MIN: usize = 64;

/// A bucket for each client.
pub struct Buckets {
    limit: Limit,
    rate: Rate,
    limiter: RateLimiter<Consumer, Shards, Ticks, StateInformationMiddleware>,
}

/// What is left in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Of which limit.
    pub limit: Limit,
    /// What that allows.
    pub rate: Rate,
    /// How many.
    pub count: u32,
    /// How long until there is one more.
    pub wait: Duration,
}

impl Buckets {
    /// Full buckets.
    pub fn new(limit: Limit, rate: Rate, metrics: &Metrics) -> Self {
        let clock = Ticks(Instant::now());
        let each = rate.per / rate.count.get();
        // A rate allows at most 2^32 in a second, so there is at least a fraction of a nanosecond for each.
        let quota = Quota::with_period(each.max(Duration::from_nanos(1)));
        let quota = quota.unwrap_or(Quota::per_second(rate.count)).allow_burst(rate.count);
        let shards = Shards {
            clock: clock.clone(),
            hasher: RandomState::new(),
            consumers: metrics.limit_clients(limit.setting()),
            shards: Default::default(),
        };
        Self { limit, rate, limiter: RateLimiter::new(quota, shards, clock) }
    }

    /// Takes one from the bucket of this client.
    ///
    /// # Errors
    /// When it is empty.
    pub fn take(&self, consumer: &Consumer) -> Result<Left, Exceeded> {
        match self.limiter.check_key(consumer) {
            Ok(state) => Ok(self.left(state.remaining_burst_capacity(), self.rate.per / self.rate.count.get())),
            Err(until) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                Err(Exceeded { limit: self.limit, allows: Allowance::Often(self.rate), wait: Some(wait) })
            }
        }
    }

    /// What is left of a bucket that is empty.
    pub(super) fn none_left(&self, exceeded: Exceeded) -> Option<Left> {
        exceeded.wait.map(|wait| self.left(0, wait))
    }

    fn left(&self, count: u32, wait: Duration) -> Left {
        Left { limit: self.limit, rate: self.rate, count, wait }
    }
}

impl Left {
    /// The item of `RateLimit-Policy`, and that of `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub fn fields(&self) -> Option<[HeaderValue; 2]> {
        let (name, Rate { count, per }) = (self.limit.setting(), self.rate);
        let policy = format!("\"{name}\";q={count};w={}", per.as_secs());
        let left = format!("\"{name}\";r={};t={}", self.count, whole_seconds(self.wait));
        // A name and numbers are a valid header value.
        Some([policy.try_into().ok()?, left.try_into().ok()?])
    }
}

/// A wait as headers have it: after that many seconds it is over.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The time since these buckets were made, on the clock of the runtime.
#[derive(Clone, Debug)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// The buckets: for each client when its bucket is full.
struct Shards {
    clock: Ticks,
    hasher: RandomState,
    consumers: Gauge,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    full_at: HashMap<Consumer, Nanos>,
    /// The bucket of those who find no room.
    others_full_at: Option<Nanos>,
    /// It is looked through when it has grown to this: twice what was left the last time, so that this costs little.
    sweep_at: usize,
}

impl StateStore for Shards {
    type Key = Consumer;

    fn measure_and_replace<T, F, E>(&self, consumer: &Consumer, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard_of(consumer);
        if let Some(full_at) = shard.full_at.get_mut(consumer) {
            let (told, after) = decide(Some(*full_at))?;
            *full_at = after;
            return Ok(told);
        }
        if shard.full_at.len() >= shard.sweep_at.max(SWEEP_MIN) {
            self.sweep(&mut shard);
        }
        if shard.full_at.len() >= CONSUMERS_MAX / SHARDS {
            let (told, after) = decide(shard.others_full_at)?;
            shard.others_full_at = Some(after);
            return Ok(told);
        }
        let (told, after) = decide(None)?;
        shard.full_at.insert(consumer.clone(), after);
        self.consumers.inc();
        Ok(told)
    }
}

impl Shards {
    fn shard_of(&self, consumer: &Consumer) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(consumer) as usize;
        self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the buckets that are full again.
    fn sweep(&self, shard: &mut Shard) {
        let (now, before) = (self.clock.now(), shard.full_at.len());
        shard.full_at.retain(|_, full_at| *full_at > now);
        let left = shard.full_at.len();
        shard.full_at.shrink_to(left * 2);
        shard.sweep_at = (left * 2).min(CONSUMERS_MAX / SHARDS);
        self.consumers.dec_by(i64::try_from(before - left).unwrap_or_default());
    }
}
