//! The notifications of a user: their own and those of their groups, newest first.

use super::{Tracker, TrackerError};
use crate::{
    event::{ChannelName, Event, Seq},
    people::PeopleRefusal,
};

/// A page of notifications, newest first.
#[derive(Clone, Debug)]
pub struct InboxPage {
    /// Their events.
    pub events: Vec<Event>,
    /// Where the next page begins: before the notification at this seq.
    pub next: Option<Seq>,
    /// Those at or before it were read.
    pub read: Seq,
    /// How many were not read, over all pages.
    pub unread: usize,
}

/// Which notifications are listed.
#[derive(Clone, Copy, Debug)]
pub struct InboxFilter {
    /// Only those that were not read.
    pub unread: bool,
    /// Only those before this seq.
    pub before: Option<Seq>,
    /// At most so many …
    pub limit: usize,
    /// … and so many bytes, but at least one.
    pub bytes_max: usize,
}

impl InboxFilter {
    /// How many of these, newest first, are on one page.
    fn fit(&self, events: &[Event]) -> usize {
        let mut size_bytes = 0;
        let fits = |event: &&Event| {
            size_bytes += event.draft.data.len();
            size_bytes <= self.bytes_max
        };
        events.iter().take(self.limit).take_while(fits).count().max(1)
    }
}

impl Tracker {
    /// Lists the notifications of a user.
    ///
    /// # Errors
    /// When nobody has this id, the store does not answer, or a newer version has sent what this one cannot read.
    pub async fn inbox(&self, user_id: &str, filter: InboxFilter) -> Result<InboxPage, TrackerError> {
        let state = self.find_user(user_id).await?;
        let not_before = self.shared.clock.now().before(self.shared.people_config.inbox_max_age);
        let groups = state.groups.iter().map(|(group, joined)| (ChannelName::group(group), *joined));
        let (mut events, mut unread) = (Vec::new(), 0);
        for (channel, joined) in groups.chain([(ChannelName::inbox(user_id), Seq::ZERO)]) {
            // The names of users and groups are valid.
            let Ok(channel) = channel else { continue };
            let after = if filter.unread { joined.max(state.read) } else { joined };
            let history = self.shared.journal.read(&channel, after).await?;
            if !history.is_known() {
                return Err(PeopleRefusal::Unreadable.into());
            }
            let kept = history.events.into_iter().filter(|event| event.at >= not_before);
            for event in kept {
                unread += usize::from(event.seq > state.read);
                if filter.before.is_none_or(|before| event.seq < before) {
                    events.push(event);
                }
            }
            // Of all channels so far, only those that can be on the page.
            events.sort_unstable_by_key(|event| std::cmp::Reverse(event.seq));
            events.truncate(filter.fit(&events).saturating_add(1));
        }
        let listed = filter.fit(&events);
        let has_more = events.len() > listed;
        events.truncate(listed);
        let next = events.last().filter(|_| has_more).map(|event| event.seq);
        Ok(InboxPage { events, next, read: state.read, unread })
    }
}
