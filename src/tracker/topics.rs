//! Topics: which there are, their values, and the past of all of them as one sequence.

use std::collections::HashSet;

use super::{
    Core, Tracker, TrackerError,
    batch::{Ask, Batch},
};
use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Event, History, Seq},
    journal::Expect,
    task::{Decided, Decision, Refusal, tombstone},
    topics::{LastEvent, TopicRefusal, lost},
};

/// Topics whose past is read for those who watch all topics: those with the newest events.
const TOPICS_READ_MAX: usize = 100;

impl Tracker {
    /// Topics in the order of their names, after this one, at most `limit` of those that are shown; and whether there are
    /// more.
    pub fn topics(
        &self,
        after: Option<&ChannelName>,
        limit: usize,
        is_shown: impl Fn(&ChannelName) -> bool,
    ) -> (Vec<(ChannelName, LastEvent)>, bool) {
        self.shared.topics().page(after, limit, is_shown)
    }

    /// The value of a topic: the event that put it.
    ///
    /// # Errors
    /// When the store does not answer, or a newer version has published last.
    pub async fn value(&self, topic: &ChannelName) -> Result<Option<Event>, TrackerError> {
        let is_value = |event: &Event| event.class() == Class::Change;
        match self.shared.journal.last(topic).await?.and_then(|stored| stored.visible) {
            Some(event) if !event.class().is_known() => Err(Refusal::Unreadable.into()),
            Some(event) if !is_value(&event) => {
                let past = self.shared.journal.read(topic, Seq::ZERO).await?;
                Ok(past.events.into_iter().rev().find(is_value))
            }
            last => Ok(last),
        }
    }

    /// Deletes a topic with its past.
    ///
    /// # Errors
    /// When there is no such topic, or the store cannot take it.
    pub async fn delete_topic(&self, topic: &ChannelName) -> Result<(), TrackerError> {
        self.ask(Ask::Forget(topic.clone(), None)).await.map(drop)
    }

    /// How many watch a topic, alone or with all others.
    pub fn watchers(&self, topic: &ChannelName) -> usize {
        let channels = [topic, ChannelName::all_topics()].map(|name| self.shared.registry.find(name));
        channels.into_iter().flatten().map(|channel| channel.subscribers()).sum()
    }
}

/// Topics that begin in a batch.
pub(super) type NewTopics = HashSet<ChannelName>;

impl Batch<'_> {
    /// The events that delete a channel other than a task's, and what they expect of it. Who watches all topics is told
    /// that events of a topic are lost.
    pub(super) fn deletion(&self, channel: &ChannelName, last: Option<Seq>) -> (Decision, Option<Expect>) {
        let last = last.or_else(|| self.topics.get(channel).map(|last| last.seq));
        let lost = last.filter(|_| channel.kind() == ChannelKind::Topic).map(lost);
        let lost = lost.map(|draft| Decided { draft, row: None });
        ([tombstone(channel.clone())].into_iter().chain(lost).collect(), last.map(Expect::At))
    }

    pub(super) fn has_topic(&self, topic: &ChannelName) -> bool {
        self.topics.get(topic).is_some() || self.new_topics.contains(topic)
    }

    /// Lets new topics begin with these events, if there may be so many.
    pub(super) fn begin_topics(&mut self, drafts: &[Draft]) -> Result<(), TopicRefusal> {
        let topics = drafts.iter().map(|draft| &draft.channel).filter(|name| name.kind() == ChannelKind::Topic);
        let new: HashSet<_> = topics.filter(|topic| !self.has_topic(topic)).cloned().collect();
        if !new.is_empty() && self.topics.count() + self.new_topics.len() + new.len() > self.topics.topics_max() {
            return Err(TopicRefusal::TooMany(self.topics.topics_max()));
        }
        self.new_topics.extend(new);
        Ok(())
    }
}

impl Core {
    /// What the journal holds of these channels, in their order.
    pub(super) async fn histories(&self, channels: &[ChannelName]) -> Result<Vec<History>, TrackerError> {
        let mut histories = self.journal.read_many(channels).await?;
        // Their events are stored under the names of each.
        if let Some(place) = channels.iter().position(|channel| channel == ChannelName::all_topics()) {
            histories[place] = self.all_topics().await?;
        }
        Ok(histories)
    }

    /// The newest events of all topics. What is at or before its floor may not be all there.
    async fn all_topics(&self) -> Result<History, TrackerError> {
        // What comes after it is published to those who watch.
        let head = self.registry.head();
        let topics = self.topics().newest_first();
        let bound = self.registry.history_bound(ChannelKind::Topic);
        let mut past = History { floor: self.topics().lost(), ..History::default() };
        for (nth, (topic, last)) in topics.iter().enumerate() {
            if *last <= past.floor {
                break;
            }
            if nth == TOPICS_READ_MAX {
                past.raise_floor(*last);
                break;
            }
            let History { floor, events } = self.journal.read(topic, past.floor).await?;
            // What a newer version has published is lacking, and keeps the others from nobody.
            let lacking = events.iter().rfind(|event| !event.class().is_known()).map_or(Seq::ZERO, |event| event.seq);
            past.events.extend(events.into_iter().filter(|event| event.seq <= head));
            past.raise_floor(floor.max(lacking));
            past.events.sort_unstable_by_key(|event| event.seq);
            let beyond = (past.events.len() - bound.fitting(past.events.iter().rev())).checked_sub(1);
            if let Some(cut) = beyond.and_then(|last| past.events.get(last)).map(|event| event.seq) {
                past.raise_floor(cut);
            }
        }
        Ok(past)
    }
}

impl History {
    fn raise_floor(&mut self, floor: Seq) {
        self.floor = self.floor.max(floor);
        self.events.retain(|event| event.seq > self.floor);
    }
}
