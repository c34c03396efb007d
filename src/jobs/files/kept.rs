//! What the files of each user take: those that are kept, and those that are being received.
//!
//! It is counted in memory. After a start the files that are there are counted first, and uploads wait for that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::{config::LimitConfig, telemetry::Metrics};

/// What one user may keep.
#[derive(Clone, Copy, Debug)]
pub(in crate::jobs) struct Quota {
    files: usize,
    bytes: u64,
}

impl From<&LimitConfig> for Quota {
    fn from(config: &LimitConfig) -> Self {
        Self { files: config.max_files_per_user, bytes: config.max_file_bytes_per_user }
    }
}

/// The files of a user take all that they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// So many files.
    Files(usize),
    /// So many bytes.
    Bytes(u64),
}

/// The count. Cheap to clone.
#[derive(Clone)]
pub(in crate::jobs) struct KeptFiles(Arc<KeptParts>);

struct KeptParts {
    quota: Quota,
    metrics: Metrics,
    known: Mutex<Known>,
    is_counted: watch::Sender<bool>,
}

#[derive(Default)]
struct Known {
    files: HashMap<Uuid, KeptFile>,
    users: HashMap<Arc<str>, UserTotal>,
}

/// The file of a task.
struct KeptFile {
    user: Option<Arc<str>>,
    bytes: u64,
}

/// What a user has.
#[derive(Clone, Copy, Default)]
struct UserTotal {
    files: usize,
    bytes: u64,
}

impl KeptFiles {
    /// Nothing is counted yet.
    pub(in crate::jobs) fn new(quota: Quota, metrics: Metrics) -> Self {
        Self(Arc::new(KeptParts { quota, metrics, known: Mutex::default(), is_counted: watch::Sender::new(false) }))
    }

    /// Waits until the files of earlier runs are counted.
    pub(in crate::jobs) async fn counted(&self) {
        let mut counted = self.0.is_counted.subscribe();
        // The sender is kept as long as this.
        let _sent = counted.wait_for(|is_counted| *is_counted).await;
    }

    /// The files of earlier runs are counted.
    pub(in crate::jobs) fn set_counted(&self) {
        self.0.is_counted.send_replace(true);
    }

    /// Whether this user may keep one more file of so many bytes.
    pub(in crate::jobs) fn check(&self, user: Option<&str>, bytes: u64) -> Result<(), OverQuota> {
        let taken = user.and_then(|user| self.known().users.get(user).copied()).unwrap_or_default();
        if user.is_some() { self.allow(taken, 1, bytes) } else { Ok(()) }
    }

    /// Counts so many bytes for the file of this task, if its user may have them and they are more than before.
    pub(in crate::jobs) fn charge(&self, id: Uuid, user: Option<&str>, bytes: u64) -> Result<(), OverQuota> {
        let mut known = self.known();
        let before = known.files.get(&id).map(|file| file.bytes);
        if before.is_some_and(|before| before >= bytes) {
            return Ok(());
        }
        if let Some(user) = user {
            let taken = known.users.get(user).copied().unwrap_or_default();
            self.allow(taken, usize::from(before.is_none()), bytes - before.unwrap_or_default())?;
        }
        self.replace(&mut known, id, Some((user, bytes)));
        Ok(())
    }

    /// Counts so many bytes for the file of this task, whatever its user may have.
    pub(in crate::jobs) fn set(&self, id: Uuid, user: Option<&str>, bytes: u64) {
        self.replace(&mut self.known(), id, Some((user, bytes)));
    }

    /// The tasks whose files are counted.
    pub(in crate::jobs) fn ids(&self) -> Vec<Uuid> {
        self.known().files.keys().copied().collect()
    }

    /// The file of this task is gone.
    pub(super) fn free(&self, id: Uuid) {
        self.replace(&mut self.known(), id, None);
    }

    fn allow(&self, taken: UserTotal, files: usize, bytes: u64) -> Result<(), OverQuota> {
        let Quota { files: files_max, bytes: bytes_max } = self.0.quota;
        if taken.files + files > files_max {
            return Err(OverQuota::Files(files_max));
        }
        let is_over = bytes > 0 && taken.bytes.saturating_add(bytes) > bytes_max;
        if is_over { Err(OverQuota::Bytes(bytes_max)) } else { Ok(()) }
    }

    fn replace(&self, known: &mut Known, id: Uuid, new: Option<(Option<&str>, u64)>) {
        if let Some(KeptFile { user, bytes }) = known.files.remove(&id) {
            if let Some(user) = user
                && let Some(taken) = known.users.get_mut(&user)
            {
                *taken = UserTotal { files: taken.files - 1, bytes: taken.bytes - bytes };
                if taken.files == 0 {
                    known.users.remove(&user);
                }
            }
            self.0.metrics.files_kept.dec();
            self.0.metrics.files_kept_bytes.dec_by(gauged(bytes));
        }
        let Some((user, bytes)) = new else { return };
        let user = user.map(|user| {
            let known_as = known.users.get_key_value(user).map(|(user, _)| Arc::clone(user));
            let user = known_as.unwrap_or_else(|| user.into());
            let taken = known.users.entry(Arc::clone(&user)).or_default();
            *taken = UserTotal { files: taken.files + 1, bytes: taken.bytes + bytes };
            user
        });
        known.files.insert(id, KeptFile { user, bytes });
        self.0.metrics.files_kept.inc();
        self.0.metrics.files_kept_bytes.inc_by(gauged(bytes));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No disk has more.
fn gauged(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(kept: &KeptFiles, user: &str) -> (usize, u64) {
        kept.known().users.get(user).map_or((0, 0), |taken| (taken.files, taken.bytes))
    }

    #[test]
    fn each_user_keeps_so_much_and_what_is_gone_is_free() {
        let metrics = Metrics::new();
        let kept = KeptFiles::new(Quota { files: 2, bytes: 100 }, metrics.clone());
        let [one, other, third] = [(); 3].map(|()| Uuid::now_v7());
        let alice = Some("alice");
        assert_eq!(kept.charge(one, alice, 60), Ok(()));
        assert_eq!(kept.charge(one, alice, 40), Ok(()), "less than is counted already");
        assert_eq!(kept.check(alice, 41), Err(OverQuota::Bytes(100)));
        assert_eq!(kept.charge(other, alice, 0), Ok(()));
        assert_eq!(kept.charge(other, alice, 41), Err(OverQuota::Bytes(100)));
        assert_eq!(kept.charge(other, alice, 40), Ok(()));
        assert_eq!(
            (kept.check(alice, 0), kept.charge(third, alice, 0)),
            (Err(OverQuota::Files(2)), Err(OverQuota::Files(2)))
        );
        assert_eq!((taken(&kept, "alice"), kept.check(Some("bob"), 100)), ((2, 100), Ok(())));
        assert_eq!(kept.charge(third, None, 1 << 40), Ok(()), "files of nobody have no quota");
        assert_eq!((metrics.files_kept.get(), metrics.files_kept_bytes.get()), (3, 100 + (1 << 40)));

        kept.set(one, alice, 10);
        assert_eq!(taken(&kept, "alice"), (2, 50), "it was smaller than announced");
        [one, one, other, third].into_iter().for_each(|id| kept.free(id));
        let left = || {
            let known = kept.known();
            (known.users.len(), known.files.len())
        };
        assert_eq!(left(), (0, 0));
        assert_eq!((metrics.files_kept.get(), metrics.files_kept_bytes.get()), (0, 0));
        kept.set(one, alice, 1000);
        assert_eq!(kept.check(alice, 1), Err(OverQuota::Bytes(100)), "also where the quota has become smaller");
    }
}
