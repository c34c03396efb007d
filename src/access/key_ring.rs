//! API keys as the service knows them: the file of keys, read again whenever it was replaced.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use subtle::ConstantTimeEq;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    AccessError, Denied, Pass, Principal, Scope,
    key_file::{AccessFiles, FileStamp, KeyRecord, hash, id_of},
};
use crate::event::Timestamp;

/// How often the file is looked at while holders of keys have open streams. A request always looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How far what is written down of the last use of keys may be behind.
const LAST_USE_INTERVAL: Duration = Duration::from_secs(10);

/// All keys.
pub(super) struct KeyRing {
    files: AccessFiles,
    keys: RwLock<Keys>,
    last_uses: Mutex<LastUses>,
    used: Notify,
}

#[derive(Default)]
struct Keys {
    stamp: Option<FileStamp>,
    by_id: HashMap<String, KnownKey>,
    /// Whether there was ever one: access does not go off again.
    any: bool,
}

/// A key that is not revoked.
struct KnownKey {
    hash: String,
    scopes: Arc<[Scope]>,
    expires_at: Option<Timestamp>,
    revoked: Arc<CancellationToken>,
}

#[derive(Default)]
struct LastUses {
    by_id: BTreeMap<String, Timestamp>,
    changed: bool,
}

impl KeyRing {
    /// The keys of these files.
    pub(super) fn load(files: AccessFiles) -> Result<Self, AccessError> {
        let last_uses = LastUses { by_id: files.last_uses()?, changed: false };
        let mut keys = Keys { stamp: files.stamp(), ..Keys::default() };
        keys.follow(files.keys()?);
        Ok(Self { files, keys: RwLock::new(keys), last_uses: Mutex::new(last_uses), used: Notify::new() })
    }

    /// Whether a key was ever made.
    pub(super) fn any(&self) -> bool {
        self.current().any
    }

    /// Recognizes the holder of a key.
    pub(super) fn check(&self, key: &str, now: Timestamp) -> Result<Pass, Denied> {
        let keys = self.current();
        let known = id_of(key).and_then(|id| keys.by_id.get_key_value(id));
        let kept = known.map_or("", |(_, known)| &known.hash);
        let is_right = bool::from(hash(key).as_bytes().ct_eq(kept.as_bytes()));
        let (id, known) = known.filter(|_| is_right).ok_or(Denied::UnknownKey)?;
        if known.expires_at.is_some_and(|end| end <= now) {
            return Err(Denied::Expired);
        }
        self.note_use(id, now);
        Ok(Pass {
            principal: Principal::Program(Arc::clone(&known.scopes)),
            expires_at: known.expires_at,
            key: Some(id.clone()),
            ticket: None,
            revoked: Some(Arc::clone(&known.revoked)),
        })
    }

    /// What is cancelled when the key with this id is revoked.
    pub(super) fn revocation(&self, id: &str) -> Result<Arc<CancellationToken>, Denied> {
        let keys = self.current();
        let revoked = keys.by_id.get(id).map(|known| Arc::clone(&known.revoked)).ok_or(Denied::UnknownKey)?;
        self.used.notify_one();
        Ok(revoked)
    }

    /// Follows the file for open streams, and writes down when keys were last used. Runs for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.used.notified().await;
            let mut written = Instant::now();
            let mut is_watched = true;
            while is_watched {
                tokio::time::sleep(LOOK_INTERVAL).await;
                // Whoever has a pass holds the token of its key.
                is_watched = self.current().by_id.values().any(|key| Arc::strong_count(&key.revoked) > 1);
                if !is_watched || written.elapsed() >= LAST_USE_INTERVAL {
                    let ring = Arc::clone(&self);
                    // A panic in there is already logged, and the next round writes.
                    let _written = tokio::task::spawn_blocking(move || ring.write_last_uses()).await;
                    written = Instant::now();
                }
            }
        }
    }

    /// Writes down when keys were last used, if that has changed.
    pub(super) fn write_last_uses(&self) {
        let mut last_uses = self.last_uses();
        if !std::mem::take(&mut last_uses.changed) {
            return;
        }
        let by_id = last_uses.by_id.clone();
        drop(last_uses);
        if let Err(error) = self.files.write_last_uses(&by_id) {
            tracing::warn!(%error, "cannot save when API keys were last used");
        }
    }

    fn note_use(&self, id: &str, now: Timestamp) {
        let mut last_uses = self.last_uses();
        if last_uses.by_id.get(id).is_none_or(|last| now.since(*last) >= LAST_USE_INTERVAL) {
            last_uses.by_id.insert(id.to_owned(), now);
            last_uses.changed = true;
        }
        drop(last_uses);
        self.used.notify_one();
    }

    /// The keys of the file as it is now.
    fn current(&self) -> RwLockReadGuard<'_, Keys> {
        let stamp = self.files.stamp();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if keys.stamp == stamp {
            return keys;
        }
        drop(keys);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // A file that cannot be read revokes all keys: none may outlive its revocation.
        let records = self.files.keys().inspect_err(|error| tracing::error!(%error, "cannot read the API keys"));
        keys.stamp = stamp;
        keys.any |= records.is_err();
        keys.follow(records.unwrap_or_default());
        drop(keys);
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_uses(&self) -> MutexGuard<'_, LastUses> {
        self.last_uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// Takes over what the file says now; ends what is held by keys that are no longer in force.
    fn follow(&mut self, records: Vec<KeyRecord>) {
        self.any |= !records.is_empty();
        let mut before = std::mem::take(&mut self.by_id);
        for record in records.into_iter().filter(|record| record.revoked_at.is_none()) {
            let revoked = before.remove(&record.id).map(|known| known.revoked).unwrap_or_default();
            let KeyRecord { hash, scopes, expires_at, .. } = record;
            self.by_id.insert(record.id, KnownKey { hash, scopes: scopes.into(), expires_at, revoked });
        }
        before.values().for_each(|known| known.revoked.cancel());
    }
}
