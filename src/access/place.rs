//! Where API keys are made, listed and revoked: in files, or in the store that nodes share.

use std::{collections::BTreeMap, time::Duration};

use super::{AccessError, AccessFiles, KeyRecord, Scope, SharedAccess};
use crate::event::Timestamp;

/// Where keys and all else that access keeps are.
#[derive(Clone)]
pub enum AccessPlace {
    /// In the data directory of the only node.
    Files(AccessFiles),
    /// In the store that nodes share.
    Store(SharedAccess),
}

impl AccessPlace {
    /// Makes a key, and answers it: nobody can read it again.
    ///
    /// # Errors
    /// When it cannot be kept, or a key that is not revoked has this name.
    pub async fn create(
        &self,
        name: &str,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<String, AccessError> {
        match self {
            Self::Files(files) => files.create(name, scopes, lifetime),
            Self::Store(store) => store.create(name, scopes, lifetime).await,
        }
    }

    /// Revokes the key with this id or name; answers its record.
    ///
    /// # Errors
    /// When there is none that is not revoked, or that cannot be kept.
    pub async fn revoke(&self, id_or_name: &str) -> Result<KeyRecord, AccessError> {
        match self {
            Self::Files(files) => files.revoke(id_or_name),
            Self::Store(store) => store.revoke(id_or_name).await,
        }
    }

    /// All keys in the order in which they were made.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, AccessError> {
        match self {
            Self::Files(files) => files.keys(),
            Self::Store(store) => store.keys().await,
        }
    }

    /// When each key was last used, by its id, as far as it is written down.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn last_uses(&self) -> Result<BTreeMap<String, Timestamp>, AccessError> {
        match self {
            Self::Files(files) => files.last_uses(),
            Self::Store(store) => store.last_uses().await,
        }
    }
}
