//! API keys as the service knows them: the file of keys, read again whenever it was replaced; or those of the store that nodes
//! share, read again whenever it tells of a change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use subtle::ConstantTimeEq;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    AccessError, AccessPlace, Denied, Pass, Principal, Scope,
    key_file::{FileStamp, KeyRecord, hash, id_of},
    shared_access::SharedAccess,
};
use crate::event::{Seq, Timestamp};

/// How often the file is looked at while holders of keys have open streams. A request always looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How far what is written down of the last use of keys may be behind.
const LAST_USE_INTERVAL: Duration = Duration::from_secs(10);

/// The same where nodes share it: there it is an event of the store.
const SHARED_LAST_USE_INTERVAL: Duration = Duration::from_secs(60);

/// All keys.
pub(super) struct KeyRing {
    place: AccessPlace,
    keys: RwLock<Keys>,
    last_uses: Mutex<LastUses>,
    used: Notify,
}

#[derive(Default)]
struct Keys {
    stamp: Option<FileStamp>,
    seq: Option<Seq>,
    by_id: HashMap<String, KnownKey>,
    /// Cancelled when there is the first one: access does not go off again.
    first: Arc<CancellationToken>,
}

/// A key that is not revoked.
struct KnownKey {
    name: Arc<str>,
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
    /// The keys of this place.
    pub(super) async fn load(place: AccessPlace) -> Result<Self, AccessError> {
        let mut keys = Keys::default();
        let by_id = match &place {
            AccessPlace::Files(files) => {
                keys.stamp = files.stamp();
                keys.follow(files.keys()?);
                files.last_uses()?
            }
            AccessPlace::Store(store) => {
                let read = store.read_keys().await?;
                keys.seq = read.seq;
                keys.follow(read.records);
                BTreeMap::new()
            }
        };
        let last_uses = Mutex::new(LastUses { by_id, changed: false });
        Ok(Self { place, keys: RwLock::new(keys), last_uses, used: Notify::new() })
    }

    /// Takes over what the store says now.
    pub(super) async fn follow_store(&self, store: &SharedAccess) -> Result<(), AccessError> {
        let read = store.read_keys_or_none().await?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.seq != read.seq {
            keys.seq = read.seq;
            keys.follow(read.records);
        }
        Ok(())
    }

    /// What is cancelled when the first key is made; `None` if one was.
    pub(super) fn none_yet(&self) -> Option<Arc<CancellationToken>> {
        let keys = self.current();
        (!keys.first.is_cancelled()).then(|| Arc::clone(&keys.first))
    }

    /// From now on changes of the file are noticed within [`LOOK_INTERVAL`], as long as somebody holds what they cancel.
    pub(super) fn follow_file(&self) {
        self.used.notify_one();
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
            name: Some(Arc::clone(&known.name)),
            key: Some(id.clone()),
            ticket: None,
            revoked: Some(Arc::clone(&known.revoked)),
            session: None,
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
        while let AccessPlace::Store(_) = self.place {
            self.used.notified().await;
            tokio::time::sleep(SHARED_LAST_USE_INTERVAL).await;
            self.write_last_uses().await;
        }
        loop {
            self.used.notified().await;
            let mut written = Instant::now();
            let mut is_watched = true;
            while is_watched {
                tokio::time::sleep(LOOK_INTERVAL).await;
                is_watched = self.current().is_watched();
                if !is_watched || written.elapsed() >= LAST_USE_INTERVAL {
                    self.write_last_uses().await;
                    written = Instant::now();
                }
            }
        }
    }

    /// Writes down when keys were last used, if that has changed.
    pub(super) async fn write_last_uses(&self) {
        let by_id = {
            let mut last_uses = self.last_uses();
            if !std::mem::take(&mut last_uses.changed) {
                return;
            }
            last_uses.by_id.clone()
        };
        let written = match self.place.clone() {
            AccessPlace::Files(files) => {
                // A panic in there is already logged, and the next round writes.
                let written = tokio::task::spawn_blocking(move || files.write_last_uses(&by_id)).await;
                written.unwrap_or(Ok(())).map(|()| true)
            }
            AccessPlace::Store(store) => store.write_last_uses(&by_id).await,
        };
        let is_written = written.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot save when API keys were last used");
            false
        });
        if !is_written {
            self.last_uses().changed = true;
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

    /// The keys of the file as it is now, or those that the store was last heard to have.
    fn current(&self) -> RwLockReadGuard<'_, Keys> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let AccessPlace::Files(files) = &self.place else { return keys };
        let stamp = files.stamp();
        if keys.stamp == stamp {
            return keys;
        }
        drop(keys);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // A file that cannot be read revokes all keys: none may outlive its revocation.
        let records = files.keys().inspect_err(|error| tracing::error!(%error, "cannot read the API keys"));
        keys.stamp = stamp;
        if records.is_err() {
            keys.first.cancel();
        }
        keys.follow(records.unwrap_or_default());
        drop(keys);
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_uses(&self) -> MutexGuard<'_, LastUses> {
        self.last_uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// Whether anybody has a pass: they hold the token of their key, or that of the first.
    fn is_watched(&self) -> bool {
        let mut tokens = self.by_id.values().map(|key| &key.revoked).chain([&self.first]);
        tokens.any(|token| Arc::strong_count(token) > 1)
    }

    /// Takes over what the file says now; ends what is held by keys that are no longer in force.
    fn follow(&mut self, records: Vec<KeyRecord>) {
        if !records.is_empty() {
            self.first.cancel();
        }
        let mut before = std::mem::take(&mut self.by_id);
        for record in records.into_iter().filter(|record| record.revoked_at.is_none()) {
            let revoked = before.remove(&record.id).map(|known| known.revoked).unwrap_or_default();
            let KeyRecord { id, name, hash, scopes, expires_at, .. } = record;
            let known = KnownKey { name: name.into(), hash, scopes: scopes.into(), expires_at, revoked };
            self.by_id.insert(id, known);
        }
        before.values().for_each(|known| known.revoked.cancel());
    }
}
