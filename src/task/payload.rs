//! JSON that a task carries and the service never looks into: kept as text, parsed only by the job that wants it.
//!
//! A parsed tree takes up to ninety times the memory of its text, for as long as its task lives.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

/// The text of one JSON value. Cheap to clone.
#[derive(Clone)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// The text of a value, members in order; `None` for `null`.
    pub fn of(value: &Value) -> Option<Self> {
        // A value always has a JSON text.
        let text = (!value.is_null()).then(|| serde_json::value::to_raw_value(value).ok());
        text.flatten().map(|text| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Parses it.
    ///
    /// # Errors
    /// When it is not of this shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Reads what a client sent: any JSON value, within the parser's bounds of depth and numbers. Its text is written
    /// anew, so that the same value always has the same text.
    pub(super) fn deserialize_sent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Ok(Option::<Value>::deserialize(deserializer)?.as_ref().and_then(Self::of))
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reads what the service wrote: the text is taken as it is.
impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
