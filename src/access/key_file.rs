//! API keys as they are kept: a small file in the data directory, which the command line replaces as a whole and the
//! service reads. A key itself is never kept, only its SHA-256: it is made of so much chance that nobody finds it from
//! that. A revoked key stays in the file, so that access does not go off with the last one.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{AccessError, Scope};
use crate::event::Timestamp;

/// What every key begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "progressd";
const KEYS: &str = "keys.json";
const LAST_USES: &str = "last-used.json";
const ENDED_SESSIONS: &str = "ended-sessions.json";
const SECRET: &str = "secret";
const LOCK: &str = "lock";

/// The directory of what access needs, below the data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessFiles(PathBuf);

/// A key, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// Names the key in the list; part of the key.
    pub id: String,
    /// What the key is for.
    pub name: String,
    /// What it may do.
    #[serde(serialize_with = "write_scopes", deserialize_with = "read_scopes")]
    pub scopes: Vec<Scope>,
    /// SHA-256 of the key, in hexadecimal digits.
    pub(super) hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Tells one content of the file from the next: it is only ever replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl FileStamp {
    /// That of the file as it is now, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), modified, length: metadata.len() })
    }
}

impl AccessFiles {
    /// Those of this data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join("access"))
    }

    /// Makes a key, and answers it: nobody can read it again.
    ///
    /// # Errors
    /// When the file cannot be changed, or a key that is not revoked has this name.
    pub fn create(&self, name: &str, scopes: &[Scope], lifetime: Option<Duration>) -> Result<String, AccessError> {
        let (key, record) = new_key(name, scopes, lifetime);
        let mut keys = self.change()?;
        add(&mut keys.records, record).map_err(|reason| self.error(KEYS, reason))?;
        keys.write()?;
        Ok(key)
    }

    /// Revokes the key with this id or name; answers its record.
    ///
    /// # Errors
    /// When there is none that is not revoked, or the file cannot be changed.
    pub fn revoke(&self, id_or_name: &str) -> Result<KeyRecord, AccessError> {
        let mut keys = self.change()?;
        let revoked = revoke(&mut keys.records, id_or_name).map_err(|reason| self.error(KEYS, reason))?;
        keys.write()?;
        Ok(revoked)
    }

    /// All keys in the order in which they were made; none if there is no file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRecord>, AccessError> {
        self.read(KEYS)
    }

    /// When each key was last used, by its id, as far as the service has written it down.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_uses(&self) -> Result<BTreeMap<String, Timestamp>, AccessError> {
        self.read(LAST_USES)
    }

    /// The secret of this service, which is made if there is none.
    pub(super) fn secret(&self) -> Result<String, AccessError> {
        if let Some(secret) = self.known_secret()? {
            return Ok(secret);
        }
        let _change = self.change()?;
        // Another process may have made it in the meantime.
        if let Some(secret) = self.known_secret()? {
            return Ok(secret);
        }
        let secret = new_secret();
        self.replace(SECRET, &secret)?;
        Ok(secret)
    }

    /// The same, if there is one.
    pub(super) fn known_secret(&self) -> Result<Option<String>, AccessError> {
        Ok(Some(self.read::<String>(SECRET)?).filter(|secret| !secret.is_empty()))
    }

    /// The sessions that were ended before they expired, by id.
    pub(super) fn ended_sessions(&self) -> Result<BTreeMap<String, Timestamp>, AccessError> {
        self.read(ENDED_SESSIONS)
    }

    pub(super) fn write_ended_sessions(&self, ended: &BTreeMap<String, Timestamp>) -> Result<(), AccessError> {
        self.replace(ENDED_SESSIONS, ended)
    }

    pub(super) fn write_last_uses(&self, last_uses: &BTreeMap<String, Timestamp>) -> Result<(), AccessError> {
        self.replace(LAST_USES, last_uses)
    }

    pub(super) fn stamp(&self) -> Option<FileStamp> {
        FileStamp::of(&self.0.join(KEYS))
    }

    /// The file's keys, for this process alone until they are written.
    fn change(&self) -> Result<KeysInChange<'_>, AccessError> {
        let data_dir = self.0.parent().unwrap_or(&self.0);
        for directory in [data_dir, &self.0] {
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(AccessError { path: directory.to_owned(), reason: error.to_string() });
                }
                _ => {}
            }
        }
        let lock = private().open(self.0.join(LOCK)).map_err(|error| self.error(LOCK, error.to_string()))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| self.error(LOCK, error.to_string()))?;
        Ok(KeysInChange { files: self, records: self.keys()?, _lock: lock })
    }

    fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, AccessError> {
        match fs::read(self.0.join(name)) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| self.error(name, error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(self.error(name, error.to_string())),
        }
    }

    /// Puts a new file in place of the old one: a reader sees one or the other, also after a power cut.
    fn replace(&self, name: &str, content: &impl Serialize) -> Result<(), AccessError> {
        let written = || -> io::Result<()> {
            let draft = self.0.join(format!("{name}.new"));
            let mut file = private().truncate(true).open(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(content)?)?;
            file.sync_all()?;
            fs::rename(&draft, self.0.join(name))?;
            File::open(&self.0)?.sync_all()
        };
        written().map_err(|error| self.error(name, error.to_string()))
    }

    fn error(&self, name: &str, reason: String) -> AccessError {
        AccessError { path: self.0.join(name), reason }
    }
}

struct KeysInChange<'a> {
    files: &'a AccessFiles,
    records: Vec<KeyRecord>,
    /// Held until this is dropped.
    _lock: File,
}

impl KeysInChange<'_> {
    fn write(&self) -> Result<(), AccessError> {
        self.files.replace(KEYS, &self.records)
    }
}

/// A new key, and what is kept of it.
pub(super) fn new_key(name: &str, scopes: &[Scope], lifetime: Option<Duration>) -> (String, KeyRecord) {
    let now = Timestamp::now();
    let id = Uuid::new_v4().simple().to_string()[..16].to_owned();
    let key = format!("{PREFIX}_{id}_{}", new_secret());
    let record = KeyRecord {
        id,
        name: name.to_owned(),
        scopes: scopes.to_owned(),
        hash: hash(&key),
        created_at: now,
        expires_at: lifetime.map(|lifetime| now + lifetime),
        revoked_at: None,
    };
    (key, record)
}

/// So much chance that nobody guesses it.
pub(super) fn new_secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// Adds a key to the others, unless one that is in force has its name.
pub(super) fn add(records: &mut Vec<KeyRecord>, record: KeyRecord) -> Result<(), String> {
    let name = &record.name;
    if records.iter().any(|known| known.name == *name && known.revoked_at.is_none()) {
        return Err(format!("a key named {name} exists already: revoke it, or take another name"));
    }
    records.push(record);
    Ok(())
}

/// Revokes the key with this id or name.
pub(super) fn revoke(records: &mut [KeyRecord], id_or_name: &str) -> Result<KeyRecord, String> {
    let is_meant = |known: &&mut KeyRecord| known.id == id_or_name || known.name == id_or_name;
    let found = records.iter_mut().filter(|known| known.revoked_at.is_none()).find(is_meant);
    let found = found.ok_or_else(|| format!("no key that is in force has the id or name {id_or_name}"))?;
    found.revoked_at = Some(Timestamp::now());
    Ok(found.clone())
}

/// The id that a key names; `None` for what is no key.
pub(super) fn id_of(key: &str) -> Option<&str> {
    let (id, _secret) = key.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
    Some(id)
}

/// What is kept of a key.
pub(super) fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Only its owner may read it.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn write_scopes<S: Serializer>(scopes: &[Scope], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(scopes.iter().map(|scope| scope.as_str()))
}

fn read_scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scope>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}
