//! Which problem it is when the rest of the service refuses or fails: each error has its kind and its words here.

use super::{Problem, kinds};
use crate::{
    channel::{StreamRefused, WatchError},
    limits::{Exceeded, Limit},
    people::{GROUPS_PER_USER_MAX, MEMBERS_PER_GROUP_MAX, PeopleRefusal},
    shared::FilesAway,
    task::Refusal,
    topics::TopicRefusal,
    tracker::TrackerError,
};

impl From<TrackerError> for Problem {
    fn from(error: TrackerError) -> Self {
        match error {
            TrackerError::Refused(refusal) => refusal.into(),
            TrackerError::Topic(refusal) => refusal.into(),
            TrackerError::People(refusal) => refusal.into(),
            TrackerError::Busy => Self::new(&kinds::OVERLOADED).with_limit("queue-length"),
            TrackerError::Full => Self::new(&kinds::DISK_FULL),
            TrackerError::Unavailable(_) => Self::new(&kinds::STORE_UNAVAILABLE).with_cause(error),
            TrackerError::Damaged(_) => Self::internal(error),
            TrackerError::Stopping => Self::new(&kinds::STOPPING),
        }
    }
}

impl From<FilesAway> for Problem {
    fn from(away: FilesAway) -> Self {
        Self::new(&kinds::FILES_UNAVAILABLE).with_detail(files_away(away))
    }
}

/// What is said where there is no directory of files.
pub(in crate::http) fn files_away(away: FilesAway) -> &'static str {
    match away {
        FilesAway::NotSet => "This node has no directory that it shares with the others: --files-dir is not set.",
        FilesAway::NotThere => "The directory of --files-dir is not mounted on this node, or is another one.",
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::new(&kinds::TASK_NOT_FOUND),
            Refusal::Unreadable => Self::unreadable(),
            Refusal::Gone => Self::new(&kinds::TASK_GONE),
            Refusal::Final(status) => {
                Self::new(&kinds::TASK_FINAL).with_detail(format!("The task has already ended with status {status}."))
            }
            Refusal::Leased => {
                Self::new(&kinds::TASK_LEASED).with_detail("Report with the Lease-Token of the current lease.")
            }
            Refusal::LeaseLost => Self::new(&kinds::LEASE_LOST)
                .with_detail("The lease has expired or belongs to another attempt. Stop working on the task."),
            Refusal::NotPending => Self::new(&kinds::TASK_NOT_PENDING),
            Refusal::NotFinished => Self::new(&kinds::TASK_NOT_FINISHED)
                .with_detail("Only a task that has ended can be deleted; cancel it first."),
            Refusal::Mismatch => {
                Self::new(&kinds::MISMATCH).with_detail("Use a new id or key, or send the same request again.")
            }
            Refusal::TooManyTasks { setting, most } => Self::new(&kinds::TOO_MANY_TASKS)
                .with_limit(setting)
                .with_detail(format!("The tasks that have not ended are bounded by --{setting}, which is {most}.")),
            Refusal::Invalid { member, reason } => Self::invalid(member, reason),
        }
    }
}

impl From<TopicRefusal> for Problem {
    fn from(refusal: TopicRefusal) -> Self {
        match refusal {
            TopicRefusal::NotFound => Self::new(&kinds::TOPIC_NOT_FOUND),
            TopicRefusal::TooMany(max) => Self::new(&kinds::TOO_MANY_TOPICS)
                .with_limit("max-topics")
                .with_detail(format!("There are {max} topics, the most that the setting max-topics allows.")),
        }
    }
}

impl From<PeopleRefusal> for Problem {
    fn from(refusal: PeopleRefusal) -> Self {
        match refusal {
            PeopleRefusal::NoUser => Self::new(&kinds::USER_NOT_FOUND),
            PeopleRefusal::TooManyUsers(max) => Self::new(&kinds::TOO_MANY_USERS)
                .with_limit("max-users")
                .with_detail(format!("{max} users are known, the most that the setting max-users allows.")),
            PeopleRefusal::TooManyGroups => Self::new(&kinds::INVALID)
                .with_detail(format!("A user can be in {GROUPS_PER_USER_MAX} groups at most.")),
            PeopleRefusal::GroupFull(group) => Self::new(&kinds::GROUP_FULL)
                .with_detail(format!("The group {group} has {MEMBERS_PER_GROUP_MAX} members, the most allowed.")),
            PeopleRefusal::Unreadable => Self::unreadable(),
        }
    }
}

impl From<WatchError<TrackerError>> for Problem {
    fn from(error: WatchError<TrackerError>) -> Self {
        match error {
            WatchError::Refused(refused) => refused.into(),
            WatchError::Load(error) => error.into(),
        }
    }
}

impl From<StreamRefused> for Problem {
    fn from(error: StreamRefused) -> Self {
        match error {
            StreamRefused::TooManyStreams => Self::new(&kinds::TOO_MANY_STREAMS)
                .with_limit("max-streams")
                .with_detail("There are too many streams on this server."),
            StreamRefused::TooManyOnChannel => Self::new(&kinds::TOO_MANY_STREAMS)
                .with_limit("max-streams-per-channel")
                .with_detail("There are too many streams on this channel."),
            StreamRefused::Draining => Self::new(&kinds::STOPPING),
        }
    }
}

impl From<Exceeded> for Problem {
    fn from(exceeded: Exceeded) -> Self {
        let kind = match exceeded.limit {
            Limit::ConnectionsPerAddress => &kinds::CONNECTIONS_PER_ADDRESS,
            Limit::StreamsPerAddress => &kinds::STREAMS_PER_ADDRESS,
            Limit::StreamsPerPrincipal => &kinds::STREAMS_PER_PRINCIPAL,
            Limit::RequestsPerAddress => &kinds::REQUESTS_PER_ADDRESS,
            Limit::RequestsPerPrincipal => &kinds::REQUESTS_PER_PRINCIPAL,
            Limit::SubmitsPerPrincipal => &kinds::SUBMITS_PER_PRINCIPAL,
            Limit::FailedCredentialsPerAddress => &kinds::FAILED_CREDENTIALS_PER_ADDRESS,
        };
        let problem = Self::new(kind).with_limit(exceeded.limit.setting()).with_wait(exceeded.wait);
        problem.with_detail(exceeded.to_string())
    }
}
