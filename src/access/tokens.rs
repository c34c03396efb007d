//! Tokens of people: JSON Web Tokens (RFC 7519), signed by whoever signs people in.
//!
//! Each key verifies one algorithm only, so a token cannot choose how it is verified: what its header says merely
//! selects among the keys.

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::{AccessError, Denied, key_set::KeySet};
use crate::{
    config::AccessConfig,
    event::{Timestamp, check_name},
};

/// Longest token, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token is checked against.
pub(super) struct TokenChecks {
    /// The key of the settings.
    secret: Option<VerifyingKey>,
    /// Those of whoever signs people in.
    pub(super) set: Option<KeySet>,
    issuer: Option<String>,
    audience: Option<String>,
    /// How far the clock of the issuer may be ahead of ours.
    skew: std::time::Duration,
}

/// A key, with the one algorithm that it is for.
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// What a token says, once it is believed.
pub(super) struct Told {
    pub(super) user_id: String,
    pub(super) expires_at: Timestamp,
}

impl TokenChecks {
    /// What the settings ask for; `None` if they name no key.
    pub(super) fn load(config: &AccessConfig) -> Result<Option<Self>, AccessError> {
        let secret = config.jwt_secret.as_ref().map(|secret| {
            let key = DecodingKey::from_secret(secret.reveal());
            VerifyingKey { id: None, algorithm: Algorithm::HS256, key }
        });
        let set = config.jwks.as_ref().map(KeySet::load).transpose()?;
        let AccessConfig { jwt_issuer: issuer, jwt_audience: audience, jwt_leeway: skew, .. } = config.clone();
        Ok((secret.is_some() || set.is_some()).then_some(Self { secret, set, issuer, audience, skew }))
    }

    /// Believes a token, or says why not.
    pub(super) fn check(&self, token: &str, now: Timestamp) -> Result<Told, Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::Malformed);
        }
        let header = decode_header(token).map_err(|_| Denied::Malformed)?;
        if header.crit.is_some() {
            return Err(Denied::Critical);
        }
        let claims = self.verified(token, &header)?;
        let at = |seconds: f64| Timestamp::from_millis((seconds * 1000.0) as i64);
        let expires_at = claims.exp.map(at).ok_or(Denied::NoExpiry)?;
        if expires_at <= now {
            return Err(Denied::Expired);
        }
        if claims.nbf.is_some_and(|nbf| at(nbf) > now + self.skew) {
            return Err(Denied::NotYetValid);
        }
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(Denied::OtherIssuer);
        }
        if self.audience.as_deref().is_some_and(|ours| !claims.aud.is_some_and(|theirs| theirs.has(ours))) {
            return Err(Denied::OtherAudience);
        }
        let user_id = claims.sub.filter(|sub| check_name(sub).is_ok()).ok_or(Denied::NoUser)?;
        Ok(Told { user_id, expires_at })
    }

    /// The claims of a token that one of the keys has signed.
    fn verified(&self, token: &str, header: &Header) -> Result<Claims, Denied> {
        let of_secret = self.secret.as_ref().filter(|key| key.is_meant(header)).and_then(|key| key.verify(token));
        let Some(set) = self.set.as_ref().filter(|_| of_secret.is_none() && header.alg != Algorithm::HS256) else {
            return of_secret.ok_or(Denied::NotSigned);
        };
        let of_set = set.look(|keys| {
            let mut meant = keys.iter().filter(|key| key.is_meant(header)).peekable();
            // A key that was not there when the set was read may be a new one.
            let unknown = if meant.peek().is_none() { Denied::UnknownSigner } else { Denied::NotSigned };
            meant.find_map(|key| key.verify(token)).ok_or(unknown)
        });
        of_set.unwrap_or(Err(Denied::NoKeys))
    }
}

impl VerifyingKey {
    /// Whether a token with this header may be signed with it.
    fn is_meant(&self, header: &Header) -> bool {
        self.algorithm == header.alg && (self.id.is_none() || header.kid.is_none() || self.id == header.kid)
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let mut validation = Validation::new(self.algorithm);
        // The claims are checked by the caller, against the clock of the service.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        decode::<Claims>(token, &self.key, &validation).ok().map(|token| token.claims)
    }
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(all) => all.iter().any(|one| one == name),
        }
    }
}
