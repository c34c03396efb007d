//! How much of a channel's past is kept.

use super::ChannelKind;

/// Texts to a user that are kept: they are for whoever comes back at once.
const USER_TEXTS: usize = 100;

/// How many events other than ticks are kept of a channel, by what it tells about; of each at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    task: usize,
    user: usize,
    inbox: usize,
    topic: usize,
}

impl HistoryBounds {
    /// Bounds for tasks, for the notifications of a user or a group, and for topics.
    pub fn new(task: usize, inbox: usize, topic: usize) -> Self {
        Self { task, user: USER_TEXTS, inbox, topic }
    }

    /// That of a channel of this kind.
    pub fn of(self, kind: ChannelKind) -> usize {
        let bound = match kind {
            ChannelKind::Task => self.task,
            ChannelKind::User => self.user,
            ChannelKind::Inbox | ChannelKind::Group => self.inbox,
            ChannelKind::Topic => self.topic,
            ChannelKind::Key | ChannelKind::Node | ChannelKind::Shared => 1,
        };
        bound.max(1)
    }
}

impl From<usize> for HistoryBounds {
    /// The same for all channels but keys.
    fn from(bound: usize) -> Self {
        Self { task: bound, user: bound, inbox: bound, topic: bound }
    }
}
