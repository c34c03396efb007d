//! Sessions: a token or an API key in a cookie, so that a page need not keep it.
//!
//! The cookie holds the credential itself, which is checked anew with each request: it never allows more than that. It is
//! sealed with the secret of this service (AES-256-GCM), so that what is taken from a browser is a token nowhere, and a
//! session can be ended while its token stays valid. Owns which sessions were ended; each is forgotten when it would have
//! expired.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{AccessError, Denied, key_file::AccessFiles};
use crate::event::Timestamp;

/// How long a session lasts whose credential has no end.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest value of a cookie: browsers drop a cookie of more than 4096 bytes, its name included, without a word.
pub(super) const COOKIE_BYTES_MAX: usize = 4000;
/// Most ended sessions that are remembered; of more, those are forgotten first that would have expired first.
const ENDED_MAX: usize = 10_000;

/// Seals and opens cookies.
pub(super) struct Sessions {
    seal: RandomizedNonceKey,
    files: AccessFiles,
    ended: RwLock<EndedSessions>,
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
    pub(super) fn load(files: AccessFiles, secret: &str) -> Result<Self, AccessError> {
        let key = Sha256::digest(format!("cookies of sessions\n{secret}"));
        let seal = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| files.unusable_secret())?;
        let ended = RwLock::new(files.ended_sessions()?);
        Ok(Self { seal, files, ended, changes: watch::Sender::default(), writing: Mutex::default() })
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

    /// Ends the session of this cookie, if it is one that goes on. Waits for the disk.
    pub(super) fn end(&self, cookie: &str, now: Timestamp) -> Result<(), AccessError> {
        let Ok(CookieContent { id, until, .. }) = self.open(cookie, now) else { return Ok(()) };
        {
            let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|_, until| *until > now);
            if ended.len() >= ENDED_MAX {
                let first = ended.iter().min_by_key(|(_, until)| **until).map(|(id, _)| id.clone());
                first.and_then(|id| ended.remove(&id));
            }
            ended.insert(id, until);
        }
        self.changes.send_replace(());
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.files.write_ended_sessions(&ended)
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
