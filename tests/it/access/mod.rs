//! Access: who may see and do what.

mod keys;
mod people;
mod streams;
mod table;
mod tokens;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use progressd::{
    access::{AccessFiles, Scope},
    config::Config,
};
use serde_json::{Value, json};

use crate::support::{Asking, TestApp};

pub(crate) const SECRET: &str = "a secret of the tests, and of nothing else";

/// A service whose people have tokens signed with [`SECRET`].
pub(crate) async fn guarded() -> TestApp {
    guarded_with(|_| {}).await
}

pub(crate) async fn guarded_with(change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::with(|config| {
        config.access.jwt_secret = Some(SECRET.into());
        change(config);
    })
    .await
}

/// Seconds since 1970, now.
pub(crate) fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A token with these claims.
pub(crate) fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// The token of a person, good for an hour.
pub(crate) fn token(user_id: &str) -> String {
    signed(&json!({ "sub": user_id, "exp": now() + 3600 }))
}

impl TestApp {
    /// Where the keys of this service are.
    pub(crate) fn access_files(&self) -> AccessFiles {
        AccessFiles::of(&self.service.app.config.data_dir)
    }

    /// A key with these scopes.
    pub(crate) fn key(&self, scopes: &[Scope]) -> String {
        let name = format!("key-{}", self.access_files().keys().unwrap().len());
        self.access_files().create(&name, scopes, None).unwrap()
    }
}

impl Asking {
    pub(crate) fn bearer(self, credential: &str) -> Self {
        self.header("authorization", &format!("Bearer {credential}"))
    }
}
