//! The one table: what each route needs, and who may watch each kind of channel. Pure.
//!
//! A route that is not in it needs `admin`. A HEAD needs what its GET does.

use std::fmt;

use super::{Principal, Scope};
use crate::event::{ChannelKind, ChannelName};

use Needs::{Anyone, LeaseOr, NewOr, Nothing, Only, OwnerOr, PersonOr, PublicOr, UserOr, Watch, WatchTopic};

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
    /// A person or a program, if the topic that is named in the path is public; or a program with this scope.
    PublicOr(Scope),
    /// What [`may_watch`] says of the channel in the path, or of each channel in the query; tickets count.
    Watch,
    /// What [`may_watch`] says of this topic; tickets count.
    WatchTopic(&'static str),
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
            PublicOr(scope) => write!(f, "any token or API key if the topic is public, or the scope `{scope}`"),
            Watch => f.write_str(
                "the right to watch: of a task the token of its user, or the scope `tasks:read`; of a user their own token, \
                 of a group the token of a member, or the scope `admin`; of a topic any token or API key if it is public, \
                 or the scope `topics:publish`; of any of them a ticket",
            ),
            WatchTopic(topic) => write!(
                f,
                "any token or API key if the topic `{topic}` is public, or the scope `topics:publish`, or a ticket for it"
            ),
        }
    }
}

/// The topic that is told to all who listen to broadcasts.
pub const BROADCAST: &str = "broadcast";

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
    // Topics. People see those that are public, by a setting.
    ("GET", "/api/topics", PersonOr(Scope::Publish)),
    ("GET", "/api/topics/{topic}", PublicOr(Scope::Publish)),
    ("PUT", "/api/topics/{topic}", Only(Scope::Publish)),
    ("DELETE", "/api/topics/{topic}", Only(Scope::Publish)),
    ("GET", "/api/topics/{topic}/events", Watch),
    // Routes of earlier systems. Their broadcasts are for all who are let in, unless the setting says otherwise; what the
    // process itself uses is for those who run it.
    ("GET", "/api/events", WatchTopic(BROADCAST)),
    ("GET", "/api/sse/events", WatchTopic(BROADCAST)),
    ("POST", "/api/broadcast", Only(Scope::Publish)),
    ("POST", "/api/users", Only(Scope::Notify)),
    ("GET", "/api/games/{gameId}/stream", Watch),
    ("POST", "/api/games/{gameId}/score", Only(Scope::Publish)),
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

/// Whether this principal may watch this channel. A person gets what is sent to their groups as a part of their own
/// channel too, as long as they are a member.
pub fn may_watch(principal: &Principal, channel: &ChannelName, ties: Ties<'_>) -> bool {
    use ChannelKind::{Group, Inbox, Key, Node, Shared, Task, Topic, Unknown, User};
    match (principal, channel.kind()) {
        (Principal::Nobody, _) | (_, Key | Node | Shared | Unknown) => false,
        (Principal::Open, _) => true,
        (Principal::Ticket(channels), _) => channels.contains(channel),
        (Principal::Person(_) | Principal::Program(_), Topic) if ties.is_public => true,
        (Principal::Program(scopes), kind) => has(scopes, scope_to_watch(kind)),
        (Principal::Person(id), Task) => ties.owner == Some(id),
        (Principal::Person(id), User | Inbox) => *channel.name() == **id,
        (Principal::Person(_), Group) => ties.is_member,
        (Principal::Person(_), Topic) => false,
    }
}

/// What lets a program watch channels of this kind.
fn scope_to_watch(kind: ChannelKind) -> Scope {
    match kind {
        ChannelKind::Task => Scope::Read,
        ChannelKind::Topic => Scope::Publish,
        ChannelKind::User
        | ChannelKind::Inbox
        | ChannelKind::Group
        | ChannelKind::Key
        | ChannelKind::Node
        | ChannelKind::Shared
        | ChannelKind::Unknown => Scope::Admin,
    }
}

/// What a channel is to whoever would watch it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ties<'a> {
    /// The user of the task, of a channel of a task.
    pub owner: Option<&'a str>,
    /// Whether they are in the group.
    pub is_member: bool,
    /// Whether the topic is public.
    pub is_public: bool,
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
    /// Whether the topic in the path is public.
    pub is_public: bool,
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
        (_, Watch | WatchTopic(_)) => {
            // The channels of a query are looked at one by one.
            let Some(channel) = &subject.channel else { return Verdict::Allowed };
            let ties = Ties { owner: subject.owner.as_deref(), is_public: subject.is_public, is_member: false };
            match principal {
                _ if may_watch(principal, channel, ties) => Verdict::Allowed,
                Principal::Program(_) => Verdict::NeedsScope(scope_to_watch(channel.kind())),
                _ => Verdict::Hidden,
            }
        }
        (Principal::Ticket(_), _) => Verdict::NotForTickets,
        (_, Anyone) | (Principal::Person(_), PersonOr(_)) => Verdict::Allowed,
        (_, PublicOr(_)) if subject.is_public => Verdict::Allowed,
        (Principal::Person(_), PublicOr(_)) => Verdict::Hidden,
        (Principal::Person(id), NewOr(_)) => visible(subject.is_new || is_owner(id), Verdict::Allowed),
        (Principal::Person(id), OwnerOr(_) | UserOr(_)) => visible(is_owner(id), Verdict::Allowed),
        (Principal::Person(id), LeaseOr(scope)) => visible(is_owner(id), Verdict::NeedsScope(scope)),
        (Principal::Person(_), Only(scope)) => Verdict::NeedsScope(scope),
        (
            Principal::Program(scopes),
            PersonOr(scope) | NewOr(scope) | OwnerOr(scope) | UserOr(scope) | LeaseOr(scope) | PublicOr(scope)
            | Only(scope),
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
        let theirs = Ties { owner: Some("alice"), is_member: true, is_public: true };
        let seen = |channel: &ChannelName, ties: Ties<'_>| {
            let seen = everyone.iter().filter(|(_, principal)| may_watch(principal, channel, ties));
            seen.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
        };
        let all =
            "open alice bob ticket tasks:submit tasks:report tasks:read tasks:cancel users:notify topics:publish admin";
        for (channel, expected, of_strangers) in [
            (ChannelName::task(id), "open alice tasks:read admin", "open tasks:read admin"),
            (ChannelName::user("alice").expect("a name"), "open alice admin", "open alice admin"),
            (ChannelName::inbox("alice").expect("a name"), "open alice admin", "open alice admin"),
            (ChannelName::group("alice").expect("a name"), "open alice bob admin", "open admin"),
            (ChannelName::topic("alice").expect("a name"), all, "open ticket topics:publish admin"),
            (ChannelName::key(id), "", ""),
        ] {
            assert_eq!(seen(&channel, theirs), expected, "{channel}");
            assert_eq!(seen(&channel, Ties::default()), of_strangers, "{channel}");
        }
    }

    #[test]
    fn a_route_that_is_not_in_the_table_needs_admin() {
        assert_eq!(needs("GET", "/api/secrets"), Only(Scope::Admin));
        assert_eq!(needs("DELETE", "/"), Only(Scope::Admin));
        assert_eq!(needs("HEAD", "/healthz"), Nothing);
    }
}
