//! Access: who may see and do what.

mod channels;
mod docs;
mod keys;
mod people;
mod secrets;
mod sessions;
mod streams;
mod table;
mod tickets;
mod tokens;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use progressd::{
    access::{AccessFiles, Pass, Principal, Scope},
    config::Config,
    event::Timestamp,
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

    /// The cookie that a browser sends after it has signed in with this token or key.
    pub(crate) async fn sign_in(&self, credential: &str) -> String {
        let answer = self.post("/api/session").bearer(credential).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    /// A cookie that was once made of this token or key, whatever has become of it.
    pub(crate) fn cookie_of(&self, credential: &str) -> String {
        let access = &self.service.app.access;
        let (value, _) = access.open_session(credential, &Pass::of(Principal::Nobody), Timestamp::now()).unwrap();
        format!("progressd_session={value}")
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
