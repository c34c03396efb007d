//! JSON objects made longer without being parsed, or cut down to what a client knows.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The object `json` with more members at its end, each a name and a JSON text.
///
/// What an event holds is sent as it was stored; only what is known later (its cursor) or kept elsewhere (a task's
/// input) is added.
pub fn with_members<'a, M>(json: &[u8], members: M) -> Bytes
where
    M: IntoIterator<Item = (&'a str, &'a [u8]), IntoIter: Clone>,
{
    let members = members.into_iter();
    let open = json.strip_suffix(b"}").unwrap_or(json);
    let added: usize = members.clone().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut object = Vec::with_capacity(json.len() + added);
    object.extend_from_slice(open);
    for (name, value) in members {
        if object != b"{" {
            object.push(b',');
        }
        object.push(b'"');
        object.extend_from_slice(name.as_bytes());
        object.extend_from_slice(b"\":");
        object.extend_from_slice(value);
    }
    object.push(b'}');
    object.into()
}

/// Title, message and time of an object, under the names that the clients of an earlier system read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all(serialize = "PascalCase", deserialize = "camelCase"))]
struct TitledObject<'a> {
    #[serde(borrow)]
    title: &'a RawValue,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow)]
    occurred_at: &'a RawValue,
}

/// `{"Title":…,"Message":…,"OccurredAt":…}` of an object that has these members.
pub(super) fn titled(json: &[u8]) -> Option<Bytes> {
    let object: TitledObject<'_> = serde_json::from_slice(json).ok()?;
    serde_json::to_vec(&object).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_members_at_the_end() {
        assert_eq!(with_members(br#"{"a":1}"#, [("b", &b"2"[..]), ("c", br#""x""#)]), r#"{"a":1,"b":2,"c":"x"}"#);
        assert_eq!(with_members(b"{}", [("b", &b"2"[..])]), r#"{"b":2}"#);
        assert_eq!(with_members(br#"{"a":1}"#, []), r#"{"a":1}"#);
    }

    #[test]
    fn cuts_down_to_what_older_clients_read() {
        let json = br#"{"id":"1","type":"x","title":"t\"","message":"m","data":{"title":1},"occurredAt":"z"}"#;
        assert_eq!(titled(json).as_deref(), Some(&br#"{"Title":"t\"","Message":"m","OccurredAt":"z"}"#[..]));
        assert_eq!(titled(b"hello"), None);
    }
}
