//! JSON objects made longer without being parsed.

use bytes::Bytes;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_members_at_the_end() {
        assert_eq!(with_members(br#"{"a":1}"#, [("b", &b"2"[..]), ("c", br#""x""#)]), r#"{"a":1,"b":2,"c":"x"}"#);
        assert_eq!(with_members(b"{}", [("b", &b"2"[..])]), r#"{"b":2}"#);
        assert_eq!(with_members(br#"{"a":1}"#, []), r#"{"a":1}"#);
    }
}
