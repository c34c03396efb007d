//! The public keys of whoever signs people in: a JWK set (RFC 7517), in a file or at a URL, followed as it changes.
//!
//! Owns the keys that are known. A set that cannot be read leaves them as they are; those of a URL that is away are believed
//! for a day. Only the URL of the settings is ever asked: redirects are not followed.

use std::{
    fs,
    path::Path,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use http::header;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use tokio::{sync::Mutex, time::Instant};

use super::{AccessError, key_file::FileStamp, tokens::VerifyingKey};
use crate::config::KeySource;

/// How long the issuer may take to answer.
const TIME_OUT: Duration = Duration::from_secs(5);
/// Largest set of keys.
const BYTES_MAX: usize = 256 * 1024;
/// How long a set is taken for current, whatever its issuer says, and if nothing is said.
const FRESH: (Duration, Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(3600), Duration::from_secs(600));
/// How often the issuer is asked at most, however many tokens name keys that are unknown.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(10);
/// How long the keys of an issuer that is away are believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// A set of keys.
pub(super) struct KeySet {
    source: KeySource,
    known: RwLock<KnownKeys>,
    /// When the issuer was asked last; held while it is asked.
    asked: Mutex<Option<Instant>>,
    client: Option<reqwest::Client>,
}

struct KnownKeys {
    keys: Vec<VerifyingKey>,
    stamp: Option<FileStamp>,
    /// When they came from the issuer.
    fetched: Option<Instant>,
    fresh_for: Duration,
}

impl KeySet {
    /// The set of a file; that of a URL has no keys yet.
    pub(super) fn load(source: &KeySource) -> Result<Self, AccessError> {
        let mut known = KnownKeys { keys: Vec::new(), stamp: None, fetched: None, fresh_for: Duration::ZERO };
        let client = match source {
            KeySource::File(path) => {
                known.stamp = FileStamp::of(path);
                known.keys = read_file(path)?;
                None
            }
            KeySource::Url(url) => {
                let is_https = url.starts_with("https://");
                let client = reqwest::Client::builder().timeout(TIME_OUT).https_only(is_https);
                let client = client.redirect(reqwest::redirect::Policy::none()).build();
                Some(client.map_err(|error| AccessError { path: url.into(), reason: error.to_string() })?)
            }
        };
        Ok(Self { source: source.clone(), known: RwLock::new(known), asked: Mutex::default(), client })
    }

    /// Looks into the keys as they are now; `None` if they cannot be had, or are too old to be believed.
    pub(super) fn look<T>(&self, look: impl FnOnce(&[VerifyingKey]) -> T) -> Option<T> {
        if let KeySource::File(path) = &self.source {
            self.follow(path);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_believed = self.client.is_none() || known.fetched.is_some_and(|at| at.elapsed() < BELIEVED);
        is_believed.then(|| look(&known.keys))
    }

    /// Reads the file again if it was replaced.
    fn follow(&self, path: &Path) {
        let stamp = FileStamp::of(path);
        if self.known.read().unwrap_or_else(PoisonError::into_inner).stamp == stamp {
            return;
        }
        let read = read_file(path);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.stamp = stamp;
        match read {
            Ok(keys) => known.keys = keys,
            Err(error) => tracing::error!(%error, "cannot read the keys of tokens; those from before are used"),
        }
    }

    /// Asks the issuer for its keys, if it was not asked a moment ago; says whether there are new ones.
    pub(super) async fn renew(&self) -> bool {
        let (KeySource::Url(url), Some(client)) = (&self.source, &self.client) else { return false };
        let fetched = || self.known.read().unwrap_or_else(PoisonError::into_inner).fetched;
        let before = fetched();
        let mut asked = self.asked.lock().await;
        if fetched() != before {
            return true;
        }
        if asked.is_some_and(|at| at.elapsed() < ATTEMPT_INTERVAL) {
            return false;
        }
        *asked = Some(Instant::now());
        match fetch(client, url).await {
            Ok((keys, fresh_for)) => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                *known = KnownKeys { keys, stamp: None, fetched: Some(Instant::now()), fresh_for };
                true
            }
            Err(reason) => {
                tracing::warn!(reason, "cannot fetch the keys of tokens");
                false
            }
        }
    }

    /// Keeps the keys of a URL current. Runs for ever.
    pub(super) async fn run(&self) {
        if self.client.is_none() {
            return std::future::pending().await;
        }
        loop {
            let wait = {
                let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
                let left = known.fetched.map(|at| known.fresh_for.saturating_sub(at.elapsed()));
                left.unwrap_or_default().max(ATTEMPT_INTERVAL)
            };
            tokio::time::sleep(wait).await;
            self.renew().await;
        }
    }
}

/// The keys at this URL, and for how long they are current; or what is wrong.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<(Vec<VerifyingKey>, Duration), String> {
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("the issuer answers {}", response.status()));
    }
    let cache_control = response.headers().get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let fresh_for = fresh_for(cache_control.unwrap_or_default());
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        text.extend_from_slice(&chunk);
        if text.len() > BYTES_MAX {
            return Err(format!("the set has more than {BYTES_MAX} bytes"));
        }
    }
    Ok((read(&text)?, fresh_for))
}

/// How long a set with this `Cache-Control` (RFC 9111) is taken for current.
fn fresh_for(cache_control: &str) -> Duration {
    let (least, most, default) = FRESH;
    let max_age = cache_control.split(',').find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok()).flatten()
    });
    max_age.map_or(default, Duration::from_secs).clamp(least, most)
}

fn read_file(path: &Path) -> Result<Vec<VerifyingKey>, AccessError> {
    let unusable = |reason| AccessError { path: path.to_owned(), reason };
    let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    read(&text).map_err(unusable)
}

/// The keys of a set that are for one of the known algorithms.
fn read(text: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let set: JwkSet = serde_json::from_slice(text).map_err(|error| format!("not a JWK set: {error}"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let Some(algorithm) = algorithm(jwk) else { continue };
        let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        keys.push(VerifyingKey { id: jwk.common.key_id.clone(), algorithm, key });
    }
    if keys.is_empty() { Err("it has no key for RS256, ES256 or EdDSA".into()) } else { Ok(keys) }
}

/// The algorithm that a key is for. A secret in a set of public keys is none.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    jwk.common.key_algorithm.is_none_or(|named| named == name).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_issuer_says_of_its_keys_counts_within_bounds() {
        for (said, seconds) in [
            ("", 600),
            ("no-store", 600),
            ("public, max-age=300", 300),
            ("Max-Age=\"120\"", 120),
            ("max-age=0", 60),
            ("max-age=9999999", 3600),
            ("max-age=soon", 600),
        ] {
            assert_eq!(fresh_for(said).as_secs(), seconds, "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_an_issuer_that_is_away_are_believed_for_a_day() {
        let set = KeySet::load(&KeySource::Url("http://127.0.0.1:9/".into())).expect("a set");
        assert_eq!(set.look(<[_]>::len), None, "none yet");
        set.known.write().expect("no panic").fetched = Some(Instant::now());
        tokio::time::advance(BELIEVED - Duration::from_secs(1)).await;
        assert_eq!(set.look(<[_]>::len), Some(0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(set.look(<[_]>::len), None);
    }
}
