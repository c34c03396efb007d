//! Who makes a request, and what they have been given.

use std::{fmt, str::FromStr, sync::Arc};

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Whoever reaches the address: access is off.
    Open,
    /// Whoever has shown nothing.
    Nobody,
    /// A person, by their user id.
    Person(Arc<str>),
    /// A program, with its scopes.
    Program(Arc<[Scope]>),
}

impl Principal {
    /// The user id of a person.
    pub fn person(&self) -> Option<&str> {
        match self {
            Self::Person(id) => Some(id),
            _ => None,
        }
    }
}

/// What a program may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Submit tasks, for any user.
    Submit,
    /// Report on any task.
    Report,
    /// Read and watch any task.
    Read,
    /// Cancel and delete any task.
    Cancel,
    /// Send to users and groups, and see who is connected.
    Notify,
    /// Publish on topics.
    Publish,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Submit, Self::Report, Self::Read, Self::Cancel, Self::Notify, Self::Publish, Self::Admin];

    /// Its name, as keys are made with it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "tasks:submit",
            Self::Report => "tasks:report",
            Self::Read => "tasks:read",
            Self::Cancel => "tasks:cancel",
            Self::Notify => "users:notify",
            Self::Publish => "topics:publish",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
