//! Where nodes share a store: the API keys, the secret of the service, the sessions that were ended and when keys were last
//! used, as facts in the store, so that they hold on all nodes.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    AccessError, Scope,
    key_file::{self, AccessFiles, KeyRecord},
};
use crate::{
    event::{Seq, Timestamp},
    shared::{Fact, SharedFacts},
};

const KEYS: &str = "access-keys";
const SECRET: &str = "access-secret";
const KEY_USES: &str = "access-key-uses";
/// Before the id of a session that was ended.
const SESSION: &str = "access-session-";
/// How often something is changed anew because others have changed it meanwhile.
const TRIES: u32 = 20;

/// The facts of access in a store. Cheap to clone.
#[derive(Clone)]
pub struct SharedAccess(SharedFacts);

/// What was read of the keys, and where.
#[derive(Default)]
pub(super) struct ReadKeys {
    pub(super) seq: Option<Seq>,
    pub(super) records: Vec<KeyRecord>,
}

impl SharedAccess {
    /// Those of this store.
    pub fn of(facts: SharedFacts) -> Self {
        Self(facts)
    }

    /// Makes a key, and answers it: nobody can read it again.
    ///
    /// # Errors
    /// When the store does not take it, or a key that is not revoked has this name.
    pub async fn create(
        &self,
        name: &str,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<String, AccessError> {
        let (key, record) = key_file::new_key(name, scopes, lifetime);
        self.change(|records| key_file::add(records, record.clone())).await?;
        Ok(key)
    }

    /// Revokes the key with this id or name; answers its record.
    ///
    /// # Errors
    /// When there is none that is not revoked, or the store does not take it.
    pub async fn revoke(&self, id_or_name: &str) -> Result<KeyRecord, AccessError> {
        self.change(|records| key_file::revoke(records, id_or_name)).await
    }

    /// All keys in the order in which they were made.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, AccessError> {
        Ok(self.read_keys().await?.records)
    }

    /// When each key was last used, by its id, as far as the nodes have written it down.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn last_uses(&self) -> Result<BTreeMap<String, Timestamp>, AccessError> {
        Ok(self.read(KEY_USES).await?.1.unwrap_or_default())
    }

    /// What time it is by the clock of the store.
    pub(super) fn now(&self) -> Timestamp {
        self.0.now()
    }

    pub(super) async fn read_keys(&self) -> Result<ReadKeys, AccessError> {
        let (seq, records) = self.read(KEYS).await?;
        Ok(ReadKeys { seq, records: records.unwrap_or_default() })
    }

    /// The same for a node that runs: where it cannot read the keys, since a newer version wrote them, it believes none. It
    /// could not tell which are revoked.
    pub(super) async fn read_keys_or_none(&self) -> Result<ReadKeys, AccessError> {
        let fact = self.0.read(KEYS).await.map_err(|error| in_store(&error))?;
        let records = fact.as_ref().map(parse).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the API keys in the store; none of them is believed");
            None
        });
        Ok(ReadKeys { seq: fact.map(|fact| fact.seq), records: records.unwrap_or_default() })
    }

    /// The secret of all nodes, which the first of them makes.
    pub(super) async fn secret(&self) -> Result<String, AccessError> {
        for _ in 0..TRIES {
            if let (_, Some(secret)) = self.read::<String>(SECRET).await? {
                return Ok(secret);
            }
            let secret = key_file::new_secret();
            if self.write(SECRET, None, &secret).await? {
                return Ok(secret);
            }
        }
        Err(busy())
    }

    /// Writes down later uses than are known there; false where another node did so in the same moment.
    pub(super) async fn write_last_uses(&self, uses: &BTreeMap<String, Timestamp>) -> Result<bool, AccessError> {
        let (seq, known) = self.read::<BTreeMap<String, Timestamp>>(KEY_USES).await?;
        let mut known = known.unwrap_or_default();
        for (id, at) in uses {
            let last = known.entry(id.clone()).or_insert(*at);
            *last = (*last).max(*at);
        }
        self.write(KEY_USES, seq, &known).await
    }

    /// The sessions that were ended after a seq, by id, with the end that they would have had; and the seq of the last.
    pub(super) async fn ended_sessions(&self, after: Seq) -> Result<(Vec<(Fact, Timestamp)>, Seq), AccessError> {
        let facts = self.0.since(after).await.map_err(|error| in_store(&error))?;
        let last = facts.last().map_or(after, |fact| fact.created);
        let sessions = facts.into_iter().filter(|fact| fact.name.starts_with(SESSION));
        let read = sessions.map(|fact| parse(&fact).map(|until| (fact, until)));
        Ok((read.collect::<Result<_, _>>()?, last))
    }

    /// Writes down that a session was ended.
    pub(super) async fn end_session(&self, id: &str, until: Timestamp) -> Result<(), AccessError> {
        // Whoever was quicker wrote the same.
        self.write(&format!("{SESSION}{id}"), None, &until).await.map(drop)
    }

    /// Forgets sessions.
    pub(super) async fn forget_sessions(&self, sessions: &[Fact]) -> Result<(), AccessError> {
        self.0.remove(sessions).await.map_err(|error| in_store(&error))
    }

    /// What the files of a data directory say, as facts for a store that has none yet.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn facts_of(files: &AccessFiles) -> Result<Vec<(String, Vec<u8>)>, AccessError> {
        let mut facts = Vec::new();
        let mut add = |name: String, content: Vec<u8>| facts.push((name, content));
        let keys = files.keys()?;
        if !keys.is_empty() {
            add(KEYS.into(), json(&keys)?);
            add(KEY_USES.into(), json(&files.last_uses()?)?);
        }
        if let Some(secret) = files.known_secret()? {
            add(SECRET.into(), json(&secret)?);
        }
        for (id, until) in files.ended_sessions()? {
            add(format!("{SESSION}{id}"), json(&until)?);
        }
        Ok(facts)
    }

    /// Changes the keys, again if another did meanwhile.
    async fn change<T>(
        &self,
        mut change: impl FnMut(&mut Vec<KeyRecord>) -> Result<T, String>,
    ) -> Result<T, AccessError> {
        for _ in 0..TRIES {
            let ReadKeys { seq, mut records } = self.read_keys().await?;
            let changed = change(&mut records).map_err(refused)?;
            if self.write(KEYS, seq, &records).await? {
                return Ok(changed);
            }
        }
        Err(busy())
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<(Option<Seq>, Option<T>), AccessError> {
        let fact = self.0.read(name).await.map_err(|error| in_store(&error))?;
        Ok((fact.as_ref().map(|fact| fact.seq), fact.as_ref().map(parse).transpose()?))
    }

    async fn write(&self, name: &str, before: Option<Seq>, content: &impl Serialize) -> Result<bool, AccessError> {
        self.0.write(name, before, json(content)?).await.map_err(|error| in_store(&error))
    }
}

/// The id of the session that a fact is of.
pub(super) fn session_of(fact: &Fact) -> &str {
    fact.name.strip_prefix(SESSION).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(fact: &Fact) -> Result<T, AccessError> {
    serde_json::from_slice(&fact.content).map_err(|error| refused(format!("{}: {error}", fact.name)))
}

fn json(content: &impl Serialize) -> Result<Vec<u8>, AccessError> {
    serde_json::to_vec(content).map_err(|error| in_store(&error))
}

fn in_store(error: &impl ToString) -> AccessError {
    refused(error.to_string())
}

fn refused(reason: String) -> AccessError {
    AccessError { path: "the store".into(), reason }
}

fn busy() -> AccessError {
    refused("others change the same at the same time: try again".into())
}
