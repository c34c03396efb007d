//! The leases whose holders live in this process. They are asked before a lease is declared over, and told when one is
//! taken from them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

/// All living holders, by the token of their lease.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_token: Mutex<HashMap<Uuid, Holder>>,
}

#[derive(Debug)]
struct Holder {
    length: Duration,
    taken: Arc<Notify>,
    /// It is left to the next run of the service.
    is_left: bool,
}

/// Says that the holder of a lease lives, until it is dropped.
#[derive(Debug)]
pub struct LeaseGuard {
    holders: Arc<Holders>,
    token: Uuid,
    taken: Arc<Notify>,
}

impl LeaseGuard {
    pub(super) fn new(holders: Arc<Holders>, token: Uuid, length: Duration) -> Self {
        let taken = Arc::<Notify>::default();
        holders.lock().insert(token, Holder { length, taken: Arc::clone(&taken), is_left: false });
        Self { holders, token, taken }
    }

    /// Leaves the lease to the next run of the service: without the guard, too, it does not end by time in this one.
    pub fn leave(&self) {
        if let Some(holder) = self.holders.lock().get_mut(&self.token) {
            holder.is_left = true;
        }
    }

    /// Waits until the task's lease is not this one any more, or the task is to be cancelled: look at the task then.
    ///
    /// # Cancel safety
    /// What happens while nobody waits is told to the next who does.
    pub async fn taken(&self) {
        self.taken.notified().await;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut holders = self.holders.lock();
        if holders.get(&self.token).is_some_and(|holder| !holder.is_left) {
            holders.remove(&self.token);
        }
    }
}

impl Holders {
    /// For how long a living holder wants this lease at a time; `None` when it does not live here.
    pub(super) fn length(&self, token: Uuid) -> Option<Duration> {
        self.lock().get(&token).map(|holder| holder.length)
    }

    pub(super) fn notify(&self, token: Uuid) {
        if let Some(holder) = self.lock().get(&token) {
            holder.taken.notify_one();
        }
    }

    /// Tells all of them to look at their tasks.
    pub(super) fn notify_all(&self) {
        self.lock().values().for_each(|holder| holder.taken.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Holder>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
