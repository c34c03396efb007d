//! How much of something clients hold at once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Allowance, Consumer, Exceeded, Limit};

/// The slots of each client. Only those who hold one are known, so there are never more than what is held in all.
pub struct Slots {
    limit: Limit,
    most: usize,
    taken: Arc<Taken>,
}

/// A place that is taken until it is dropped.
pub struct Slot {
    consumer: Consumer,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken(Mutex<HashMap<Consumer, usize>>);

impl Slots {
    /// So many for each client.
    pub fn new(limit: Limit, most: usize) -> Self {
        Self { limit, most, taken: Arc::default() }
    }

    /// A place for this client.
    ///
    /// # Errors
    /// When it has as many as it may have.
    pub fn take(&self, consumer: Consumer) -> Result<Slot, Exceeded> {
        let mut taken = self.taken.lock();
        let count = taken.entry(consumer.clone()).or_default();
        if *count >= self.most {
            let allows = Allowance::AtOnce(self.most);
            return Err(Exceeded { limit: self.limit, allows, wait: None });
        }
        *count += 1;
        drop(taken);
        Ok(Slot { consumer, taken: Arc::clone(&self.taken) })
    }

    /// How many clients hold something.
    #[cfg(test)]
    pub(super) fn consumers(&self) -> usize {
        self.taken.lock().len()
    }
}

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<Consumer, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.consumer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.consumer);
            }
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.consumer).finish()
    }
}
