//! Channel names: `task:{id}`, `user:{id}` and their like.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use uuid::Uuid;

/// Longest name within a channel, such as a user's id, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What a channel tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChannelKind {
    /// One task.
    Task,
    /// One user: the texts sent to them, and hidden events that remember their presence, groups and marks.
    User,
    /// The notifications of one user, which wait while the user is away. Clients see them as events of the user's channel.
    Inbox,
    /// The notifications of one group.
    Group,
    /// What is published under one name.
    Topic,
    /// An idempotency key: hidden events only, so nobody watches it; it is there for its condition.
    Key,
    /// One of the nodes that share the store: hidden events only, which renew its lease. Its tombstone says that it is gone.
    Node,
    /// What the nodes of a store have in common: hidden events only.
    Shared,
    /// One that this version does not know: a newer one writes to the same store. Clients cannot name such a channel.
    Unknown,
}

impl ChannelKind {
    const NAMED: [Self; 6] = [Self::User, Self::Inbox, Self::Group, Self::Topic, Self::Node, Self::Shared];

    /// All that this version knows.
    pub fn known() -> impl Iterator<Item = Self> {
        [Self::Task, Self::Key].into_iter().chain(Self::NAMED)
    }

    /// The word before the colon; none of [`Self::Unknown`], of which each channel has its own.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::User => "user",
            Self::Inbox => "inbox",
            Self::Group => "group",
            Self::Topic => "topic",
            Self::Key => "key",
            Self::Shared => "shared",
            Self::Node => "node",
            Self::Unknown => "",
        }
    }
}

/// Name of a channel, such as `task:0199c0de-…`. Cheap to clone and to compare; a text only where it leaves the process.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(ParsedName);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum ParsedName {
    Task(Uuid),
    Key(Uuid),
    /// The whole text.
    Named(ChannelKind, Arc<str>),
}

impl ChannelName {
    /// The channel of a task.
    pub fn task(id: Uuid) -> Self {
        Self(ParsedName::Task(id))
    }

    /// The channel of an idempotency key, by the digest of the key.
    pub fn key(digest: Uuid) -> Self {
        Self(ParsedName::Key(digest))
    }

    /// The channel of a user.
    ///
    /// # Errors
    /// When the id is not a valid name.
    pub fn user(user_id: &str) -> Result<Self, InvalidName> {
        Self::named(ChannelKind::User, user_id)
    }

    /// The channel of a topic.
    ///
    /// # Errors
    /// When it is not a valid name.
    pub fn topic(name: &str) -> Result<Self, InvalidName> {
        Self::named(ChannelKind::Topic, name)
    }

    /// All topics as one channel, which is watched: what is published on a topic is shown there too. Its own events are
    /// hidden. It is the only one whose name clients cannot give.
    pub fn all_topics() -> &'static Self {
        static ALL: LazyLock<ChannelName> = LazyLock::new(|| {
            let text = format!("{}:*", ChannelKind::Topic.as_str());
            ChannelName(ParsedName::Named(ChannelKind::Topic, text.into()))
        });
        &ALL
    }

    /// The channel of a group.
    ///
    /// # Errors
    /// When it is not a valid name.
    pub fn group(name: &str) -> Result<Self, InvalidName> {
        Self::named(ChannelKind::Group, name)
    }

    /// The channel of the notifications of a user.
    ///
    /// # Errors
    /// When the id is not a valid name.
    pub fn inbox(user_id: &str) -> Result<Self, InvalidName> {
        Self::named(ChannelKind::Inbox, user_id)
    }

    /// The channel of a node.
    ///
    /// # Errors
    /// When it is not a valid name.
    pub fn node(name: &str) -> Result<Self, InvalidName> {
        Self::named(ChannelKind::Node, name)
    }

    /// The channel of what nodes have in common under a name.
    ///
    /// # Errors
    /// When it is not a valid name.
    pub fn shared(name: &str) -> Result<Self, InvalidName> {
        Self::named(ChannelKind::Shared, name)
    }

    fn named(kind: ChannelKind, name: &str) -> Result<Self, InvalidName> {
        check_name(name)?;
        Ok(Self(ParsedName::Named(kind, format!("{}:{name}", kind.as_str()).into())))
    }

    /// Reads a name that a store has: also one of a kind that this version does not know.
    ///
    /// # Errors
    /// When no version can have written it.
    pub fn stored(text: &str) -> Result<Self, InvalidName> {
        text.parse().or_else(|invalid| {
            let (kind, name) = text.split_once(':').ok_or(invalid)?;
            let is_new = ChannelKind::known().all(|known| known.as_str() != kind);
            let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            let is_valid = is_new && is_word && is_name;
            if is_valid { Ok(Self(ParsedName::Named(ChannelKind::Unknown, text.into()))) } else { Err(invalid) }
        })
    }

    /// What it tells about.
    pub fn kind(&self) -> ChannelKind {
        match self.0 {
            ParsedName::Task(_) => ChannelKind::Task,
            ParsedName::Key(_) => ChannelKind::Key,
            ParsedName::Named(kind, _) => kind,
        }
    }

    /// The word before the colon.
    pub fn kind_word(&self) -> &str {
        match &self.0 {
            ParsedName::Named(_, text) => text.split_once(':').map_or("", |(kind, _)| kind),
            ParsedName::Task(_) | ParsedName::Key(_) => self.kind().as_str(),
        }
    }

    /// The id of the task or key, when it is of such a kind.
    pub fn id(&self) -> Option<Uuid> {
        match self.0 {
            ParsedName::Task(id) | ParsedName::Key(id) => Some(id),
            ParsedName::Named(..) => None,
        }
    }

    /// The part behind the colon.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.0 {
            ParsedName::Task(id) | ParsedName::Key(id) => id.to_string().into(),
            ParsedName::Named(_, text) => text.split_once(':').map_or("", |(_, name)| name).into(),
        }
    }

    /// The whole text as clients see it: an inbox is its user's.
    pub fn shown(&self) -> Cow<'_, str> {
        match self.kind() {
            ChannelKind::Inbox => format!("{}:{}", ChannelKind::User.as_str(), self.name()).into(),
            _ => self.text(),
        }
    }

    /// The whole text.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            ParsedName::Task(id) => format!("task:{id}").into(),
            ParsedName::Key(id) => format!("key:{id}").into(),
            ParsedName::Named(_, text) => Cow::Borrowed(text),
        }
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for ChannelName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = |name: &str| name.parse::<Uuid>().map_err(|_| InvalidName);
        match text.split_once(':') {
            Some(_) if text == Self::all_topics().text() => Ok(Self::all_topics().clone()),
            Some(("task", name)) => Ok(Self::task(id(name)?)),
            Some(("key", name)) => Ok(Self::key(id(name)?)),
            Some((kind, name)) => {
                let kind = ChannelKind::NAMED.into_iter().find(|known| known.as_str() == kind).ok_or(InvalidName)?;
                Self::named(kind, name)
            }
            None => Err(InvalidName),
        }
    }
}

/// Checks a name that a client gives: 1 to 128 bytes of ASCII letters, digits and `-_.~@`.
///
/// # Errors
/// When it is empty, too long, or has any other character.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) { Ok(()) } else { Err(InvalidName) }
}

/// The text is not a valid name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 ASCII letters, digits or any of - _ . ~ @")]
pub struct InvalidName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_written() {
        let names = [ChannelName::task(Uuid::now_v7()), ChannelName::key(Uuid::now_v7())];
        let named = ChannelKind::NAMED.map(|kind| ChannelName::named(kind, "alice@example.org").expect("a name"));
        for name in names.into_iter().chain(named).chain([ChannelName::all_topics().clone()]) {
            assert_eq!(name.text().parse::<ChannelName>(), Ok(name.clone()));
            assert_eq!(ChannelName::stored(&name.text()).as_ref(), Ok(&name));
            assert_eq!(format!("{}:{}", name.kind_word(), name.name()), name.text());
        }
    }

    #[test]
    fn a_store_may_have_channels_of_new_kinds_that_nobody_can_name() {
        let name = ChannelName::stored("schedule:a/b:*").unwrap();
        assert_eq!((name.kind(), name.kind_word(), &*name.name()), (ChannelKind::Unknown, "schedule", "a/b:*"));
        assert_eq!(name.text(), "schedule:a/b:*");
        assert_eq!("schedule:a".parse::<ChannelName>(), Err(InvalidName));
        for damaged in ["", "schedule", ":a", "schedule:", "sched ule:a", "Task:a", "task:a", "user:a b", "new:a\nb"] {
            assert_eq!(ChannelName::stored(damaged), Err(InvalidName), "{damaged:?}");
        }
    }

    #[test]
    fn refuses_names_that_could_break_a_frame_or_a_path() {
        for name in ["", "a b", "a\nb", "a\rb", "a\0b", "a/b", "é", &"x".repeat(129)] {
            assert_eq!(check_name(name), Err(InvalidName), "{name:?}");
            assert_eq!(ChannelName::user(name), Err(InvalidName), "{name:?}");
        }
        assert_eq!(check_name(&"x".repeat(128)), Ok(()));
    }
}
