//! The few members of a visible state by which channels can be listed.
//!
//! Every store takes them from the JSON through this one function, so that all of them agree. Nothing else in the
//! journal reads what an event says.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Draft;

/// Members of the visible state by which channels can be listed; stores keep them as columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    /// `status`
    Status,
    /// `kind`
    Kind,
    /// `userId`
    UserId,
    /// `queue`
    Queue,
}

impl Member {
    /// The member's name in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Kind => "kind",
            Self::UserId => "userId",
            Self::Queue => "queue",
        }
    }
}

/// The values of all members in one visible state; absent where it has none, or none that is a string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) status: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) queue: Option<String>,
}

impl Members {
    /// Takes them from an event; from one that is not visible, none.
    pub(crate) fn of(draft: &Draft) -> Self {
        if draft.class.is_visible() { Self::of_state(&draft.data) } else { Self::default() }
    }

    /// Takes them from a visible state; from a text that is not a JSON object, none.
    fn of_state(data: &[u8]) -> Self {
        // The derived reader would take an array for the members in their order.
        if data.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Self::default();
        }
        let Ok(object) = serde_json::from_slice::<Object<'_>>(data) else { return Self::default() };
        let text = |value: Option<&RawValue>| serde_json::from_str(value?.get()).ok();
        Self {
            status: text(object.status),
            kind: text(object.kind),
            user_id: text(object.user_id),
            queue: text(object.queue),
        }
    }

    /// The value of one member.
    pub(crate) fn get(&self, member: Member) -> Option<&str> {
        match member {
            Member::Status => self.status.as_deref(),
            Member::Kind => self.kind.as_deref(),
            Member::UserId => self.user_id.as_deref(),
            Member::Queue => self.queue.as_deref(),
        }
    }

    /// Whether each of the wanted members has one of its wanted values.
    pub(crate) fn match_all(&self, wanted: &[(Member, Vec<String>)]) -> bool {
        wanted.iter().all(|(member, values)| {
            self.get(*member).is_some_and(|value| values.iter().any(|wanted_value| wanted_value == value))
        })
    }
}

/// A visible state, of which everything else is skipped without being built.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    queue: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_strings_and_nothing_else() {
        let members = Members::of_state(
            br#"{"x":[1,{"status":"no"}],"status":"pend\u0069ng","kind":7,"userId":null,"queue":"q"}"#,
        );
        let expected = Members { status: Some("pending".into()), queue: Some("q".into()), ..Members::default() };
        assert_eq!(members, expected);
    }

    #[test]
    fn finds_nothing_in_what_is_not_an_object() {
        for data in [&b""[..], b"User 'alice' connected", b"[\"pending\",\"k\",\"u\",\"q\"]", b"{\"status\":", b"\xff"]
        {
            assert_eq!(Members::of_state(data), Members::default());
        }
    }

    #[test]
    fn matches_when_every_member_has_one_of_its_values() {
        let members = Members::of_state(br#"{"status":"pending","userId":"alice"}"#);
        let wanted = |status: &[&str], user: &str| {
            let status = status.iter().map(ToString::to_string).collect();
            [(Member::Status, status), (Member::UserId, vec![user.to_owned()])]
        };
        assert!(members.match_all(&wanted(&["error", "pending"], "alice")));
        assert!(!members.match_all(&wanted(&["error", "pending"], "bob")));
        assert!(!members.match_all(&wanted(&[], "alice")));
        assert!(!members.match_all(&[(Member::Queue, vec![String::new()])]));
    }
}
