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
    /// The keys of these files.
    pub(super) fn load(files: AccessFiles) -> Result<Self, AccessError> {
        let last_uses = LastUses { by_id: files.last_uses()?, changed: false };
        let mut keys = Keys { stamp: files.stamp(), ..Keys::default() };
        keys.follow(files.keys()?);
        Ok(Self { files, keys: RwLock::new(keys), last_uses: Mutex::new(last_uses), used: Notify::new() })
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
        loop {
            self.used.notified().await;
            let mut written = Instant::now();
            let mut is_watched = true;
            while is_watched {
                tokio::time::sleep(LOOK_INTERVAL).await;
                is_watched = self.current().is_watched();
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
