//! The one table: what each route needs, and who may watch each kind of channel. Pure.
//!
//! A route that is not in it needs `admin`. A HEAD needs what its GET does.

use std::fmt;

use super::{Principal, Scope};
use crate::event::{ChannelKind, ChannelName};

use Needs::{Anyone, LeaseOr, NewOr, Nothing, Only, OwnerOr, PersonOr, UserOr, Watch};

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: anybody may use it, also without a credential.
    Nothing,
    /// A person or a program.
    Anyone,
    /// A person, who is given only what is theirs; or a program with this scope.
    PersonOr(Scope),
    /// A person, if the task that is named in the path is new or theirs; or a program with this scope.
    NewOr(Scope),
    /// The person whose task is named in the path, or a program with this scope.
    OwnerOr(Scope),
    /// The person who is named in the path, or a program with this scope.
    UserOr(Scope),
    /// The lease token of the task that is named in the path, or a program with this scope.
    LeaseOr(Scope),
    /// A program with this scope.
    Only(Scope),
    /// What [`may_watch`] says of the channel in the path, or of each channel in the query; tickets count.
    Watch,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nothing => f.write_str("nothing"),
            Anyone => f.write_str("any credential"),
            PersonOr(scope) => write!(f, "the token of a person, who is given only what is theirs, or the scope `{scope}`"),
            NewOr(scope) => write!(f, "the token of a person, or the scope `{scope}`"),
            OwnerOr(scope) => write!(f, "the token of the task's user, or the scope `{scope}`"),
            UserOr(scope) => write!(f, "the token of this user, or the scope `{scope}`"),
            LeaseOr(scope) => write!(f, "the task's `Lease-Token`, or the scope `{scope}`"),
            Only(scope) => write!(f, "the scope `{scope}`"),
            Watch => f.write_str(
                "the right to watch: of a task the token of its user, or the scope `tasks:read`; of a user their own token, \
                 or the scope `admin`; of either a ticket",
            ),
        }
    }
}

impl Needs {
    /// Whether it is needed to submit a task.
    pub fn is_to_submit(self) -> bool {
        matches!(self, PersonOr(Scope::Submit) | NewOr(Scope::Submit) | UserOr(Scope::Submit))
    }
}

/// Whether requests to this path count for no limit: those of what watches over the service.
pub fn is_unlimited(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// What each route needs: method, path, need.
pub const ROUTES: &[(&str, &str, Needs)] = &[
    // The page, the reference, and what tells that the service is there.
    ("GET", "/", Nothing),
    ("GET", "/tasks/{taskId}", Nothing),
    ("GET", "/assets/{path}", Nothing),
    ("GET", "/examples", Nothing),
    ("GET", "/examples/{file}", Nothing),
    ("GET", "/docs", Nothing),
    ("GET", "/docs/", Nothing),
    ("GET", "/docs/{file}", Nothing),
    ("GET", "/openapi.json", Nothing),
    ("GET", "/healthz", Nothing),
    ("GET", "/readyz", Nothing),
    ("GET", "/metrics", Only(Scope::Admin)),
    // Who one is. To sign out must work with a cookie that is not good any more.
    ("GET", "/api/session", Anyone),
    ("POST", "/api/session", Anyone),
    ("DELETE", "/api/session", Nothing),
    // Tasks.
    ("GET", "/api/tasks", PersonOr(Scope::Read)),
    ("POST", "/api/tasks", PersonOr(Scope::Submit)),
    ("POST", "/api/tasks/upload", PersonOr(Scope::Submit)),
    ("PUT", "/api/tasks/{taskId}", NewOr(Scope::Submit)),
    ("GET", "/api/tasks/{taskId}", OwnerOr(Scope::Read)),
    ("GET", "/api/tasks/{taskId}/file", OwnerOr(Scope::Read)),
    ("PATCH", "/api/tasks/{taskId}", LeaseOr(Scope::Report)),
    ("POST", "/api/tasks/{taskId}/cancel", OwnerOr(Scope::Cancel)),
    ("DELETE", "/api/tasks/{taskId}", OwnerOr(Scope::Cancel)),
    // Streams.
    ("GET", "/api/tasks/{taskId}/progress", Watch),
    ("GET", "/api/stream", Watch),
    ("POST", "/api/tickets", Anyone),
    // Users.
    ("GET", "/api/users", Only(Scope::Notify)),
    ("GET", "/api/users/{userId}", UserOr(Scope::Notify)),
    ("GET", "/api/users/{userId}/notifications", UserOr(Scope::Admin)),
    ("POST", "/api/users/{userId}/notifications", Only(Scope::Notify)),
    ("PUT", "/api/users/{userId}/notifications/read", UserOr(Scope::Admin)),
    ("GET", "/api/users/{userId}/groups", UserOr(Scope::Notify)),
    // Whoever chooses the groups of a user chooses what the user may read.
    ("PUT", "/api/users/{userId}/groups", Only(Scope::Admin)),
    ("GET", "/api/groups/{group}", Only(Scope::Notify)),
    ("POST", "/api/groups/{group}/notifications", Only(Scope::Notify)),
    // Topics.
    ("GET", "/api/topics", Only(Scope::Notify)),
    ("GET", "/api/topics/{topic}", Only(Scope::Notify)),
    ("PUT", "/api/topics/{topic}", Only(Scope::Notify)),
    ("DELETE", "/api/topics/{topic}", Only(Scope::Notify)),
    ("GET", "/api/topics/{topic}/events", Only(Scope::Admin)),
    // Routes of earlier systems.
    ("GET", "/api/events", Only(Scope::Admin)),
    ("GET", "/api/sse/events", Only(Scope::Admin)),
    ("POST", "/api/broadcast", Only(Scope::Notify)),
    ("POST", "/api/users", Only(Scope::Notify)),
    ("GET", "/api/games/{gameId}/stream", Only(Scope::Admin)),
    ("POST", "/api/games/{gameId}/score", Only(Scope::Notify)),
    ("GET", "/api/metrics/stream", Only(Scope::Admin)),
    ("GET", "/api/notifications/stream", Watch),
    ("GET", "/sse", Anyone),
    ("GET", "/sse/connect/{userId}", Watch),
    ("GET", "/api/notifications/subscribe/{userId}", Watch),
    ("POST", "/api/users/{userId}/mention", Only(Scope::Notify)),
    ("GET", "/sse/disconnect/{userId}", UserOr(Scope::Notify)),
    ("GET", "/sse/task/{userId}", UserOr(Scope::Submit)),
    ("POST", "/sse/task/{userId}", UserOr(Scope::Submit)),
    ("GET", "/sse/task-with-obj/{userId}", UserOr(Scope::Submit)),
    ("POST", "/sse/task-with-obj/{userId}", UserOr(Scope::Submit)),
];

/// Whether this principal may watch this channel. `owner` is the user of the task, of a channel of a task. A person gets
/// the events of their groups as a part of their own channel, as long as they are a member.
pub fn may_watch(principal: &Principal, channel: &ChannelName, owner: Option<&str>) -> bool {
    use ChannelKind::{Group, Inbox, Key, Task, Topic, User};
    match (principal, channel.kind()) {
        (Principal::Nobody, _) | (_, Key) => false,
        (Principal::Open, _) => true,
        (Principal::Ticket(channels), _) => channels.contains(channel),
        (Principal::Program(scopes), Task) => has(scopes, Scope::Read),
        (Principal::Program(scopes), User | Inbox | Group | Topic) => has(scopes, Scope::Admin),
        (Principal::Person(id), Task) => owner == Some(id),
        (Principal::Person(id), User | Inbox) => *channel.name() == **id,
        (Principal::Person(_), Group | Topic) => false,
    }
}

/// What a request is about, as far as its path says.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The channel in the path.
    pub channel: Option<ChannelName>,
    /// The user in the path, or the user of the task in the path.
    pub owner: Option<String>,
    /// Whether there never was a task with the id in the path.
    pub is_new: bool,
    /// Whether the request has the lease token of the task in the path.
    pub is_leased: bool,
}

/// What is said of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Allowed,
    /// It needs a credential.
    NeedsCredential,
    /// The principal may know of what it asks for, but not do that: this scope would allow it.
    NeedsScope(Scope),
    /// A ticket is for streams only.
    NotForTickets,
    /// What it asks for must look as if it were not there.
    Hidden,
}

/// What a route needs.
pub fn needs(method: &str, path: &str) -> Needs {
    let method = if method == "HEAD" { "GET" } else { method };
    let found = ROUTES.iter().find(|row| row.0 == method && row.1 == path);
    found.map_or(Only(Scope::Admin), |row| row.2)
}

/// Whether this principal has what a route needs.
pub fn judge(needs: Needs, principal: &Principal, subject: &Subject) -> Verdict {
    let is_owner = |id: &str| subject.owner.as_deref() == Some(id);
    let visible = |is_visible, verdict| if is_visible { verdict } else { Verdict::Hidden };
    match (principal, needs) {
        (_, Nothing) | (Principal::Open, _) => Verdict::Allowed,
        (_, LeaseOr(_)) if subject.is_leased => Verdict::Allowed,
        (Principal::Nobody, _) => Verdict::NeedsCredential,
        // The channels of a query are looked at one by one.
        (_, Watch) if subject.channel.is_none() => Verdict::Allowed,
        (Principal::Program(scopes), Watch) => {
            let is_task = subject.channel.as_ref().is_some_and(|channel| channel.kind() == ChannelKind::Task);
            with(scopes, if is_task { Scope::Read } else { Scope::Admin })
        }
        (_, Watch) => {
            let channel = subject.channel.as_ref();
            let may = channel.is_some_and(|channel| may_watch(principal, channel, subject.owner.as_deref()));
            visible(may, Verdict::Allowed)
        }
        (Principal::Ticket(_), _) => Verdict::NotForTickets,
        (_, Anyone) | (Principal::Person(_), PersonOr(_)) => Verdict::Allowed,
        (Principal::Person(id), NewOr(_)) => visible(subject.is_new || is_owner(id), Verdict::Allowed),
        (Principal::Person(id), OwnerOr(_) | UserOr(_)) => visible(is_owner(id), Verdict::Allowed),
        (Principal::Person(id), LeaseOr(scope)) => visible(is_owner(id), Verdict::NeedsScope(scope)),
        (Principal::Person(_), Only(scope)) => Verdict::NeedsScope(scope),
        (
            Principal::Program(scopes),
            PersonOr(scope) | NewOr(scope) | OwnerOr(scope) | UserOr(scope) | LeaseOr(scope) | Only(scope),
        ) => with(scopes, scope),
    }
}

fn has(scopes: &[Scope], scope: Scope) -> bool {
    scopes.contains(&scope) || scopes.contains(&Scope::Admin)
}

fn with(scopes: &[Scope], scope: Scope) -> Verdict {
    if has(scopes, scope) { Verdict::Allowed } else { Verdict::NeedsScope(scope) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_is_seen_by_those_of_the_table_only() {
        let program = |scope| Principal::Program([scope].into());
        let id = uuid::Uuid::nil();
        let everyone = [
            ("open", Principal::Open),
            ("nobody", Principal::Nobody),
            ("alice", Principal::Person("alice".into())),
            ("bob", Principal::Person("bob".into())),
            ("ticket", Principal::Ticket([ChannelName::topic("alice").expect("a name"), ChannelName::key(id)].into())),
        ];
        let everyone = everyone.into_iter().chain(Scope::ALL.map(|scope| (scope.as_str(), program(scope))));
        let everyone: Vec<_> = everyone.collect();
        for (channel, expected) in [
            (ChannelName::task(id), "open alice tasks:read admin"),
            (ChannelName::user("alice").expect("a name"), "open alice admin"),
            (ChannelName::inbox("alice").expect("a name"), "open alice admin"),
            (ChannelName::group("alice").expect("a name"), "open admin"),
            (ChannelName::topic("alice").expect("a name"), "open ticket admin"),
            (ChannelName::key(id), ""),
        ] {
            let seen = everyone.iter().filter(|(_, principal)| may_watch(principal, &channel, Some("alice")));
            assert_eq!(seen.map(|(name, _)| *name).collect::<Vec<_>>().join(" "), expected, "{channel}");
        }
        let unowned = everyone.iter().filter(|(_, principal)| may_watch(principal, &ChannelName::task(id), None));
        assert_eq!(unowned.map(|(name, _)| *name).collect::<Vec<_>>().join(" "), "open tasks:read admin");
    }

    #[test]
    fn a_route_that_is_not_in_the_table_needs_admin() {
        assert_eq!(needs("GET", "/api/secrets"), Only(Scope::Admin));
        assert_eq!(needs("DELETE", "/"), Only(Scope::Admin));
        assert_eq!(needs("HEAD", "/healthz"), Nothing);
    }
}
