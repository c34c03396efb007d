//! Releases held ticks when their time comes: one timer for all channels.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::Channel;

#[derive(Debug, Default)]
pub(super) struct Pacer {
    held: Mutex<HeldTicks>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct HeldTicks {
    /// By the time of release; the number tells apart what is due at the same time.
    channels: BTreeMap<(Instant, u64), Weak<Channel>>,
    next_number: u64,
}

impl Pacer {
    /// Notes that a channel's held tick is to be released.
    pub(super) fn hold(&self, due: Instant, channel: &Arc<Channel>) {
        let mut held = self.lock();
        let key = (due, held.next_number);
        held.next_number += 1;
        held.channels.insert(key, Arc::downgrade(channel));
        if held.channels.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.sooner.notify_one();
        }
    }

    /// Runs for ever.
    ///
    /// # Cancel safety
    /// Nothing is released any more once it is dropped; it can be run again.
    pub(super) async fn run(&self, interval: Duration) {
        loop {
            let first = self.lock().channels.first_key_value().map(|((due, _), _)| *due);
            match first {
                Some(due) if due <= Instant::now() => self.release_first(interval),
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }

    fn release_first(&self, interval: Duration) {
        let first = self.lock().channels.pop_first();
        let channel = first.and_then(|(_, channel)| channel.upgrade());
        if let Some(channel) = channel
            && let Some(due) = channel.release(interval)
        {
            self.hold(due, &channel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HeldTicks> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
