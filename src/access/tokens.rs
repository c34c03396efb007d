//! Tokens of people: JSON Web Tokens (RFC 7519), signed by whoever signs people in.
//!
//! Each key verifies one algorithm only, so a token cannot choose how it is verified: what its header says merely
//! selects among the keys.

use std::{fs, path::Path};

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;

use super::{AccessError, Denied};
use crate::{
    config::AccessConfig,
    event::{Timestamp, check_name},
};

/// Longest token, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token is checked against.
pub(super) struct TokenChecks {
    keys: Vec<VerifyingKey>,
    issuer: Option<String>,
    audience: Option<String>,
    /// How far the clock of the issuer may be ahead of ours.
    skew: std::time::Duration,
}

/// A key, with the one algorithm that it is for.
struct VerifyingKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
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
        let mut keys = Vec::new();
        if let Some(secret) = &config.jwt_secret {
            let key = DecodingKey::from_secret(secret.reveal());
            keys.push(VerifyingKey { id: None, algorithm: Algorithm::HS256, key });
        }
        if let Some(path) = &config.jwks {
            keys.extend(read_keys(path)?);
        }
        let AccessConfig { jwt_issuer: issuer, jwt_audience: audience, jwt_leeway: skew, .. } = config.clone();
        Ok((!keys.is_empty()).then_some(Self { keys, issuer, audience, skew }))
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
        let claims = self.verified(token, &header).ok_or(Denied::NotSigned)?;
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
    fn verified(&self, token: &str, header: &Header) -> Option<Claims> {
        let is_meant = |key: &&VerifyingKey| {
            key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
        };
        self.keys.iter().filter(is_meant).find_map(|key| {
            let mut validation = Validation::new(key.algorithm);
            // The claims are checked above, against the clock of the service.
            validation.required_spec_claims.clear();
            (validation.validate_exp, validation.validate_aud) = (false, false);
            decode::<Claims>(token, &key.key, &validation).ok().map(|token| token.claims)
        })
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

/// The keys of a JSON Web Key Set that are for one of the known algorithms.
fn read_keys(path: &Path) -> Result<Vec<VerifyingKey>, AccessError> {
    let unusable = |reason: String| AccessError { path: path.to_owned(), reason };
    let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let set: JwkSet = serde_json::from_slice(&text).map_err(|error| unusable(format!("not a JWK set: {error}")))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let Some(algorithm) = algorithm(jwk) else { continue };
        let key = DecodingKey::from_jwk(jwk).map_err(|error| unusable(error.to_string()))?;
        keys.push(VerifyingKey { id: jwk.common.key_id.clone(), algorithm, key });
    }
    if keys.is_empty() {
        return Err(unusable("it has no key for RS256, ES256 or EdDSA".into()));
    }
    Ok(keys)
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
