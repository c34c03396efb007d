//! Sessions: a token or an API key in a cookie, so that a page need not keep it.
//!
//! The cookie holds the credential itself, which is checked anew with each request: it never allows more than that. It is
//! sealed with the secret of this service (AES-256-GCM), so that what is taken from a browser is a token nowhere, and a
//! session can be ended while its token stays valid. Owns which sessions were ended; each is forgotten when it would have
//! expired.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    AccessError, AccessPlace, Denied,
    shared_access::{SharedAccess, session_of},
};
use crate::{
    event::{Seq, Timestamp},
    shared::Fact,
};

/// How long a session lasts whose credential has no end.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest value of a cookie: browsers drop a cookie of more than 4096 bytes, its name included, without a word.
pub(super) const COOKIE_BYTES_MAX: usize = 4000;
/// Most ended sessions that are remembered; of more, those are forgotten first that would have expired first.
const ENDED_MAX: usize = 10_000;
/// Most of them that are removed from the store at once: the event of that brings the nodes to the next.
const FORGOTTEN_AT_ONCE: usize = 256;

/// Seals and opens cookies.
pub(super) struct Sessions {
    seal: RandomizedNonceKey,
    place: AccessPlace,
    ended: RwLock<EndedSessions>,
    /// Where nodes share the store: what it has of them, and up to where it was read.
    facts: Mutex<(Vec<(Fact, Timestamp)>, Seq)>,
    /// Tells streams that another session has ended.
    changes: watch::Sender<()>,
    /// Held by whoever writes the file.
    writing: Mutex<()>,
}

/// The ids of ended sessions, and when they would have expired.
type EndedSessions = BTreeMap<String, Timestamp>;

/// What a cookie holds.
pub(super) struct CookieContent {
    pub(super) id: String,
    pub(super) credential: String,
    pub(super) until: Timestamp,
}

impl Sessions {
    /// Those of the service with this secret.
    pub(super) async fn load(place: AccessPlace, secret: &str) -> Result<Self, AccessError> {
        let key = Sha256::digest(format!("cookies of sessions\n{secret}"));
        let unusable = |_| AccessError { path: "the secret".into(), reason: "it cannot seal cookies".into() };
        let seal = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(unusable)?;
        let ended = match &place {
            AccessPlace::Files(files) => files.ended_sessions()?,
            AccessPlace::Store(_) => EndedSessions::new(),
        };
        let (ended, changes, writing) = (RwLock::new(ended), watch::Sender::default(), Mutex::default());
        let sessions = Self { seal, place, ended, facts: Mutex::default(), changes, writing };
        if let AccessPlace::Store(store) = &sessions.place {
            sessions.follow_store(store).await?;
        }
        Ok(sessions)
    }

    /// Takes over what the store says more than before, and forgets what is over there and here. All nodes do, and
    /// whoever is first removes it.
    pub(super) async fn follow_store(&self, store: &SharedAccess) -> Result<(), AccessError> {
        let (after, now) = (self.facts().1, store.now());
        let (more, last) = store.ended_sessions(after).await?;
        {
            let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
            ended.extend(more.iter().map(|(fact, until)| (session_of(fact).to_owned(), *until)));
            forget_expired(&mut ended, now);
        }
        if !more.is_empty() {
            self.changes.send_replace(());
        }
        let forgotten: Vec<_> = {
            let mut facts = self.facts();
            facts.0.extend(more);
            facts.1 = last;
            facts.0.sort_unstable_by_key(|(_, until)| *until);
            let over = facts.0.len().saturating_sub(ENDED_MAX);
            let first = facts.0.partition_point(|(_, until)| *until <= now).max(over).min(FORGOTTEN_AT_ONCE);
            facts.0.drain(..first).map(|(fact, _)| fact).collect()
        };
        if !forgotten.is_empty()
            && let Err(error) = store.forget_sessions(&forgotten).await
        {
            tracing::debug!(%error, "sessions that are over could not be removed from the store");
        }
        Ok(())
    }

    fn facts(&self) -> MutexGuard<'_, (Vec<(Fact, Timestamp)>, Seq)> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a cookie for this credential, and when it ends. `None` if it would be too long.
    pub(super) fn seal(
        &self,
        credential: &str,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<(String, Timestamp)> {
        let until = expires_at.unwrap_or(now + LIFETIME);
        let mut sealed = format!("{} {credential}", until.as_millis()).into_bytes();
        let nonce = self.seal.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        let cookie = URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &sealed].concat());
        (cookie.len() <= COOKIE_BYTES_MAX).then_some((cookie, until))
    }

    /// What is in a cookie of a session that goes on, or why it is not believed.
    pub(super) fn open(&self, cookie: &str, now: Timestamp) -> Result<CookieContent, Denied> {
        let opened = self.opened(cookie).ok_or(Denied::WrongSession)?;
        if opened.until <= now {
            return Err(Denied::Expired);
        }
        if self.has_ended(&opened.id) { Err(Denied::SessionEnded) } else { Ok(opened) }
    }

    fn opened(&self, cookie: &str) -> Option<CookieContent> {
        let mut bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let id = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.seal.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        let (until, credential) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let until = Timestamp::from_millis(until.parse().ok()?);
        Some(CookieContent { id, credential: credential.to_owned(), until })
    }

    /// Ends the session of this cookie, if it is one that goes on.
    pub(super) async fn end(self: &Arc<Self>, cookie: &str, now: Timestamp) -> Result<(), AccessError> {
        let Ok(CookieContent { id, until, .. }) = self.open(cookie, now) else { return Ok(()) };
        let AccessPlace::Store(store) = &self.place else {
            let sessions = Arc::clone(self);
            let written = tokio::task::spawn_blocking(move || sessions.end_in_files(id, until, now)).await;
            return written
                .unwrap_or_else(|error| Err(AccessError { path: "sessions".into(), reason: error.to_string() }));
        };
        let ended = store.end_session(&id, until).await;
        self.note_ended(id, until, now);
        ended
    }

    fn end_in_files(&self, id: String, until: Timestamp, now: Timestamp) -> Result<(), AccessError> {
        self.note_ended(id, until, now);
        let AccessPlace::Files(files) = &self.place else { return Ok(()) };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner).clone();
        files.write_ended_sessions(&ended)
    }

    fn note_ended(&self, id: String, until: Timestamp, now: Timestamp) {
        {
            let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
            ended.insert(id, until);
            forget_expired(&mut ended, now);
        }
        self.changes.send_replace(());
    }

    /// Completes when this session is ended.
    pub(super) async fn ended(&self, id: &str) {
        let mut changes = self.changes.subscribe();
        while !self.has_ended(id) && changes.changed().await.is_ok() {}
    }

    fn has_ended(&self, id: &str) -> bool {
        self.ended.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }
}

/// Forgets sessions that would have expired by now, and of those beyond the bound the ones that would expire first.
fn forget_expired(ended: &mut EndedSessions, now: Timestamp) {
    ended.retain(|_, until| *until > now);
    if let Some(last) = ended.len().checked_sub(ENDED_MAX + 1) {
        let mut by_end: Vec<_> = ended.iter().map(|(id, until)| (*until, id.clone())).collect();
        by_end.select_nth_unstable(last);
        for (_, id) in by_end.into_iter().take(last + 1) {
            ended.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Journal, shared::SharedFacts, testing::MemoryJournal};

    const LIFE: Duration = Duration::from_secs(60);

    async fn node(store: &MemoryJournal, name: &str) -> (Arc<Sessions>, SharedAccess, MemoryJournal) {
        let journal = store.on_node(name);
        let access = SharedAccess::of(SharedFacts::of(Arc::new(journal.clone())));
        let sessions = Sessions::load(AccessPlace::Store(access.clone()), "secret").await.unwrap();
        (Arc::new(sessions), access, journal)
    }

    fn kept(sessions: &Sessions) -> (usize, usize) {
        (sessions.ended.read().unwrap().len(), sessions.facts().0.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_on_which_nobody_signs_out_forgets_what_is_over() {
        let store = MemoryJournal::new();
        let ((one, access, journal), (two, _, _)) = (node(&store, "one").await, node(&store, "two").await);
        let now = || journal.time().unwrap();
        let mut cookies = Vec::new();
        for life in [LIFE, LIFE, 3 * LIFE] {
            let (cookie, _) = one.seal("credential", Some(now() + life), now()).unwrap();
            one.end(&cookie, now()).await.unwrap();
            cookies.push(cookie);
        }
        two.follow_store(&access).await.unwrap();
        assert_eq!(kept(&two), (3, 3));
        assert!(cookies.iter().all(|cookie| two.open(cookie, now()).is_err_and(|why| why == Denied::SessionEnded)));

        tokio::time::advance(LIFE).await;
        two.follow_store(&access).await.unwrap();
        assert_eq!(kept(&two), (1, 1));
        assert_eq!(two.open(&cookies[2], now()).err(), Some(Denied::SessionEnded));
        assert_eq!(access.ended_sessions(Seq::ZERO).await.unwrap().0.len(), 1, "the store forgets them too");
        one.follow_store(&access).await.unwrap();
        assert_eq!(kept(&one), (1, 1));
    }

    #[test]
    fn those_beyond_the_bound_that_would_expire_first_are_forgotten() {
        let at = |second: usize| Timestamp::default() + Duration::from_secs(second as u64);
        let mut ended: EndedSessions = (1..=ENDED_MAX + 3).map(|second| (second.to_string(), at(second))).collect();
        forget_expired(&mut ended, at(1));
        assert_eq!((ended.len(), ended.values().min()), (ENDED_MAX, Some(&at(4))));
    }
}
