//! Topics: what is published under a name, and which topics there are. Pure, like the task table.
//!
//! A topic begins with its first event, and nothing of it is in memory but its place and time. A value that is put is
//! the state of its topic: who comes later is shown it first. A broadcast is for those who watch, and for those who come
//! back with a cursor.

use std::{cmp::Reverse, collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp};

/// Largest data of one event, in bytes of JSON.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;
/// Longest name of an event, in bytes.
pub const EVENT_NAME_BYTES_MAX: usize = 128;

/// A value for a topic, as JSON.
pub fn value(topic: &ChannelName, name: Option<String>, data: Bytes) -> Draft {
    let (channel, name) = (topic.clone(), name.map(Into::into));
    Draft { channel, name, class: Class::Change, data, memo: None, origin: None }
}

/// Something to tell all who watch a topic, as JSON.
pub fn broadcast(topic: &ChannelName, name: Option<String>, data: Bytes) -> Draft {
    Draft { class: Class::Notice, ..value(topic, name, data) }
}

/// That all at or before this place is lost of a topic that is deleted: a hidden event on the channel of all topics.
pub fn lost(through: Seq) -> Draft {
    let memo = Some(through.0.to_string().into());
    Draft { class: Class::Hidden, memo, ..value(ChannelName::all_topics(), None, Bytes::new()) }
}

/// The name of the topic of a game, of an earlier system.
pub fn topic_of_game(id: &str) -> String {
    format!("game.{id}")
}

/// The last event of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastEvent {
    /// Its place.
    pub seq: Seq,
    /// Its time.
    pub at: Timestamp,
}

/// Why something that is asked of topics is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicRefusal {
    /// Nothing was published there, or it was deleted.
    #[error("no such topic")]
    NotFound,
    /// There are as many topics as are allowed.
    #[error("there are {0} topics already")]
    TooMany(usize),
}

/// All topics.
#[derive(Debug)]
pub struct TopicTable {
    topics_max: usize,
    topics: BTreeMap<ChannelName, LastEvent>,
    /// Of the topics that were deleted, the place of the last event.
    lost: Seq,
}

impl TopicTable {
    /// None yet, and at most so many.
    pub fn new(topics_max: usize) -> Self {
        Self { topics_max, topics: BTreeMap::new(), lost: Seq::ZERO }
    }

    /// How many there may be.
    pub fn topics_max(&self) -> usize {
        self.topics_max
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.topics.len()
    }

    /// The last event of a topic, if there is such a topic.
    pub fn get(&self, topic: &ChannelName) -> Option<LastEvent> {
        self.topics.get(topic).copied()
    }

    /// All at or before it may be lacking some events, whose topics were deleted.
    pub fn lost(&self) -> Seq {
        self.lost
    }

    /// Takes in the memo of the channel of all topics. One that this version cannot read is taken for all before it.
    pub fn restore_lost(&mut self, memo: &[u8], last: Seq) {
        let through = serde_json::from_slice(memo).map_or(last, Seq);
        self.lost = self.lost.max(through);
    }

    /// Puts in a topic that was loaded.
    pub fn restore(&mut self, topic: ChannelName, last: LastEvent) {
        self.topics.insert(topic, last);
    }

    /// Follows an event, of whatever channel.
    pub fn apply(&mut self, event: &Event) {
        if event.channel().kind() != ChannelKind::Topic {
            return;
        }
        if event.channel() == ChannelName::all_topics() {
            return event.draft.memo.iter().for_each(|memo| self.restore_lost(memo, event.seq));
        }
        match event.class() {
            Class::Tombstone => drop(self.topics.remove(event.channel())),
            _ => drop(self.topics.insert(event.channel().clone(), LastEvent { seq: event.seq, at: event.at })),
        }
    }

    /// Topics in the order of their names, after this one, at most `limit`; and whether there are more.
    pub fn page(
        &self,
        after: Option<&ChannelName>,
        limit: usize,
        is_shown: impl Fn(&ChannelName) -> bool,
    ) -> (Vec<(ChannelName, LastEvent)>, bool) {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shown = self.topics.range((after, Bound::Unbounded)).filter(|(topic, _)| is_shown(topic));
        let mut page = shown.map(|(topic, last)| (topic.clone(), *last));
        (page.by_ref().take(limit).collect(), page.next().is_some())
    }

    /// Topics that have had no event since this time, at most `limit`.
    pub fn quiet_since(&self, at: Timestamp, limit: usize) -> Vec<(ChannelName, Seq)> {
        let quiet = self.topics.iter().filter(|(_, last)| last.at < at).take(limit);
        quiet.map(|(topic, last)| (topic.clone(), last.seq)).collect()
    }

    /// All topics, with the place of their last event; that with the newest first.
    pub fn newest_first(&self) -> Vec<(ChannelName, Seq)> {
        let mut topics: Vec<_> = self.topics.iter().map(|(topic, last)| (topic.clone(), last.seq)).collect();
        topics.sort_unstable_by_key(|(_, seq)| Reverse(*seq));
        topics
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn event(seq: u64, topic: &ChannelName, class: Class) -> Event {
        let draft = Draft { class, ..value(topic, None, Bytes::from_static(b"{}")) };
        Event { seq: Seq(seq), at: Timestamp::from_millis(seq as i64), group: Uuid::nil(), draft }
    }

    #[test]
    fn a_topic_is_there_from_its_first_event_to_its_tombstone() {
        let [a, b, c] = ["a", "b", "c"].map(|name| ChannelName::topic(name).unwrap());
        let mut table = TopicTable::new(9);
        for (seq, topic, class) in
            [(1, &b, Class::Notice), (2, &a, Class::Change), (3, &c, Class::Change), (4, &b, Class::Change)]
        {
            table.apply(&event(seq, topic, class));
        }
        table.apply(&event(5, &ChannelName::user("a").unwrap(), Class::Notice));
        let names = |page: (Vec<(ChannelName, LastEvent)>, bool)| {
            (page.0.iter().map(|(topic, last)| (topic.name().into_owned(), last.seq.0)).collect::<Vec<_>>(), page.1)
        };
        assert_eq!(names(table.page(None, 2, |_| true)), (vec![("a".into(), 2), ("b".into(), 4)], true));
        assert_eq!(names(table.page(Some(&b), 2, |_| true)), (vec![("c".into(), 3)], false));
        assert_eq!(names(table.page(None, 1, |topic| *topic != a)), (vec![("b".into(), 4)], true));
        assert_eq!(table.quiet_since(Timestamp::from_millis(3), 9), [(a.clone(), Seq(2))]);
        assert_eq!(table.newest_first(), [(b.clone(), Seq(4)), (c, Seq(3)), (a, Seq(2))]);
        table.apply(&event(6, &b, Class::Tombstone));
        assert_eq!((table.count(), table.get(&b)), (2, None));
        table.apply(&event(7, &b, Class::Change));
        assert_eq!(table.get(&b), Some(LastEvent { seq: Seq(7), at: Timestamp::from_millis(7) }));
    }
}
