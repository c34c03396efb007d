//! How much of a channel's past is kept: by count and by bytes.

use super::{ChannelKind, Event};

/// Texts to a user that are kept: they are for whoever comes back at once.
const USER_TEXTS: usize = 100;

/// How much a history has, or may have, of events other than ticks; of ticks it has the newest only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistorySize {
    /// How many they are.
    pub events: u64,
    /// The bytes of their data and names.
    pub bytes: u64,
}

impl HistorySize {
    /// The same with one more event.
    #[must_use]
    pub fn with(self, event: &Event) -> Self {
        Self { events: self.events + 1, bytes: self.bytes + event.size_bytes() }
    }

    /// The same without one event of so many bytes; `None` where there cannot have been such an event.
    pub fn without(self, event_bytes: u64) -> Option<Self> {
        Some(Self { events: self.events.checked_sub(1)?, bytes: self.bytes.checked_sub(event_bytes)? })
    }

    /// Whether a history of this bound may have so much. One event is never too big.
    pub fn is_within(self, bound: Self) -> bool {
        self.events <= bound.events && (self.bytes <= bound.bytes || self.events <= 1)
    }

    /// How many of these events, newest first, are kept by a history of this bound.
    pub fn fitting<'a>(self, newest_first: impl IntoIterator<Item = &'a Event>) -> usize {
        let mut size = Self::default();
        let fits = |event: &&Event| {
            size = size.with(event);
            size.is_within(self)
        };
        newest_first.into_iter().take_while(fits).count()
    }
}

/// How much is kept of a channel, by what it tells about; of each at least one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    task: usize,
    user: usize,
    inbox: usize,
    topic: usize,
    bytes: u64,
}

impl HistoryBounds {
    /// How many events other than ticks are kept of tasks, of the notifications of a user or a group, and of topics.
    pub fn new(task: usize, inbox: usize, topic: usize) -> Self {
        Self { task, user: USER_TEXTS, inbox, topic, bytes: u64::MAX }
    }

    /// The same with a bound on the bytes of every channel.
    #[must_use]
    pub fn of_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// The bytes that are kept of any channel.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// The bound of a channel of this kind.
    pub fn of(self, kind: ChannelKind) -> HistorySize {
        let events = match kind {
            ChannelKind::Task => self.task,
            ChannelKind::User => self.user,
            ChannelKind::Inbox | ChannelKind::Group => self.inbox,
            ChannelKind::Topic => self.topic,
            ChannelKind::Key | ChannelKind::Node | ChannelKind::Shared => 1,
            // Nothing is lost of what a newer version keeps.
            ChannelKind::Unknown => usize::MAX,
        };
        HistorySize { events: events.max(1) as u64, bytes: self.bytes }
    }
}

impl From<usize> for HistoryBounds {
    /// The same for all channels but keys, whatever their bytes.
    fn from(bound: usize) -> Self {
        Self { task: bound, user: bound, inbox: bound, topic: bound, bytes: u64::MAX }
    }
}
