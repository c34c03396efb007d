//! One batch of requests on its way into the journal: what each is decided to be, against a scratch overlay.
//!
//! All requests on one channel make one group, decided one upon the other, so that one commit answers them all; requests
//! that meet on some of several channels are in one group, too. A tick that follows a tick of its channel takes its place.
//! The states that were decided stay with the group: they enter the table when it is committed. This module appends
//! nothing and changes no table.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{
    Answer, Request, TrackerError,
    conditions::{count_on, expects},
    topics::NewTopics,
    user_overlay::UserOverlay,
};
use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::{Expect, Group},
    people::{Notification, PeopleTable, UserIntent, UserState},
    task::{Decided, Decision, Entry, EventKey, Intent, Load, Refusal, Row, Table, decide},
    topics::{TopicRefusal, TopicTable},
};

/// What is asked of the writer.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// Something of a task.
    Task(Uuid, Intent),
    /// Events on other channels. With a key, the same request again appends nothing.
    Events(EventAsk, Option<EventKey>),
    /// That a channel other than a task's is forgotten, unless it has had an event after the one that is named.
    Forget(ChannelName, Option<Seq>),
    /// Nothing but that the tables follow what is in the store.
    CatchUp,
}

/// Events that are no task's.
#[derive(Debug, Clone)]
pub(super) enum EventAsk {
    /// Those to which something leads that is asked of a user, by their channel.
    User(ChannelName, UserIntent),
    /// A notification to the members of a group, by its channel.
    Group(ChannelName, Notification),
    /// These, whatever the state of their channels.
    Append(Vec<Draft>),
}

/// A group, what its channels are after it, and who waits for it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) group: Group,
    /// The place of the first of its events, once the journal has given it one.
    first: Seq,
    pub(super) rows: Vec<(ChannelName, Row)>,
    pub(super) users: Vec<(ChannelName, Option<UserState>)>,
    pub(super) waiting: Vec<Caller>,
}

/// A request, and what it is answered once its group is committed.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) request: Request,
    promise: Result<Promise, TrackerError>,
}

#[derive(Debug, Clone, Copy)]
struct Promise {
    task: Option<Uuid>,
    /// Which of the group's events is the last that was asked for, where the caller is told its place.
    event: Option<usize>,
    changed: bool,
}

/// The groups of one append.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a Table,
    pub(super) people: &'a PeopleTable,
    pub(super) topics: &'a TopicTable,
    pub(super) users: UserOverlay,
    pub(super) new_topics: NewTopics,
    /// The last seq that the tables have followed.
    pub(super) head: Seq,
    pub(super) now: Timestamp,
    /// What the tasks will take that have not ended.
    live: Load,
    /// How many of them each user has beyond those in the table.
    new_of_users: HashMap<String, usize>,
    /// A group that went into another one leaves its place empty.
    planned: Vec<Option<Planned>>,
    by_channel: HashMap<ChannelName, usize>,
    pub(super) later: Vec<Request>,
    /// Whether other nodes may write at the same time.
    pub(super) is_shared: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        table: &'a Table,
        people: &'a PeopleTable,
        topics: &'a TopicTable,
        head: Seq,
        now: Timestamp,
    ) -> Self {
        let (planned, by_channel, later, new_of_users) = (Vec::new(), HashMap::new(), Vec::new(), HashMap::new());
        let (users, new_topics, live) = (UserOverlay::default(), NewTopics::default(), table.live());
        let is_shared = false;
        Self {
            table,
            people,
            topics,
            users,
            new_topics,
            head,
            now,
            live,
            new_of_users,
            planned,
            by_channel,
            later,
            is_shared,
        }
    }

    /// The same, where other nodes may write at the same time.
    pub(super) fn shared_if(self, is_shared: bool) -> Self {
        Self { is_shared, ..self }
    }

    /// The groups, and what is to be decided upon their commit.
    pub(super) fn into_plan(self) -> (Vec<Planned>, Vec<Request>) {
        (self.planned.into_iter().flatten().collect(), self.later)
    }

    /// Decides a request: it joins a group, or is answered at once where it needs none.
    pub(super) fn add(&mut self, request: Request) {
        match &request.ask {
            _ if self.must_catch_up(&request) => self.later.push(request),
            Ask::CatchUp => request.answer(Ok(Answer { entry: None, seq: self.head, changed: false })),
            Ask::Task(id, Intent::Delete) if self.by_channel.contains_key(&ChannelName::task(*id)) => {
                // The others of its group are still answered with the task that is there until then.
                self.later.push(request);
            }
            Ask::Task(id, intent) => match self.task_of(*id, intent) {
                Ok(id) => {
                    let decided = self.decide(id, intent);
                    let changed = decided.as_ref().is_ok_and(|decision| !decision.is_empty());
                    let promise = decided.as_ref().map(|_| Promise { task: Some(id), event: None, changed });
                    let promise = promise.map_err(|refusal| refusal.clone().into());
                    let channel = ChannelName::task(id);
                    self.join(Caller { request, promise }, channel, decided.unwrap_or_default());
                }
                Err(refusal) => self.refuse(request, refusal.into()),
            },
            Ask::Events(_, Some(key)) if self.by_channel.contains_key(&key.channel()) => {
                // What it is answered has its place only then.
                self.later.push(request);
            }
            Ask::Events(asked, key) => match self.known(*key) {
                Ok(Some(seq)) => request.answer(Ok(Answer { entry: None, seq, changed: false })),
                Ok(None) => match self.events(asked) {
                    Ok((channel, drafts)) => {
                        // What sends nothing takes no key.
                        let key = key.filter(|_| !drafts.is_empty());
                        let drafts = drafts.into_iter().map(|draft| Decided { draft, row: None });
                        let decision = drafts.chain(key.map(EventKey::taken)).collect();
                        self.append(request, channel, decision, usize::from(key.is_some()), None);
                    }
                    Err(error) => self.refuse(request, error),
                },
                Err(refusal) => self.refuse(request, refusal.into()),
            },
            Ask::Forget(channel, _) if channel.kind() == ChannelKind::Topic && !self.has_topic(channel) => {
                self.refuse(request, TopicRefusal::NotFound.into());
            }
            Ask::Forget(channel, _) if self.by_channel.contains_key(channel) => self.later.push(request),
            // It has had another event, or somebody joins.
            Ask::Forget(channel, Some(last)) if request.conflicts > 0 || self.is_group_in_use(channel, *last) => {
                request.answer(Ok(Answer { entry: None, seq: Seq::ZERO, changed: false }));
            }
            Ask::Forget(channel, last) => {
                let (channel, (decision, expect)) = (channel.clone(), self.deletion(channel, *last));
                let behind = decision.len() - 1;
                self.append(request, channel.clone(), decision, behind, expect.map(|expect| (channel, expect)));
            }
        }
    }

    /// The events that are asked for, and the channel on which that is decided.
    fn events(&mut self, asked: &EventAsk) -> Result<(ChannelName, Vec<Draft>), TrackerError> {
        match asked {
            EventAsk::User(user, intent) => Ok((user.clone(), self.decide_user(user, intent)?)),
            EventAsk::Group(group, notification) => Ok((group.clone(), self.group_events(group, notification))),
            EventAsk::Append(drafts) => {
                self.begin_topics(drafts)?;
                let last = drafts.last().map(|last| last.channel.clone());
                Ok((last.unwrap_or(ChannelName::key(Uuid::nil())), drafts.clone()))
            }
        }
    }

    /// Puts events that are no task's into the group of their channels; the last `behind` of them are not what was asked
    /// for.
    fn append(
        &mut self,
        request: Request,
        channel: ChannelName,
        decision: Decision,
        behind: usize,
        expect: Option<(ChannelName, Expect)>,
    ) {
        let event = decision.len().checked_sub(behind + 1);
        let promise = Promise { task: None, event, changed: event.is_some() };
        let user = self.users.get(&channel).map(|state| (channel.clone(), state.clone()));
        if let Some(planned) = self.join(Caller { request, promise: Ok(promise) }, channel, decision) {
            planned.group.expects.extend(expect);
            if let Some((channel, state)) = user {
                planned.users.retain(|(known, _)| *known != channel);
                planned.users.push((channel, state));
            }
        }
    }

    fn decide(&mut self, id: Uuid, intent: &Intent) -> Result<Decision, Refusal> {
        let policy = self.table.policy();
        match self.row(&ChannelName::task(id)) {
            Some(Row::Task(entry)) => decide(id, Some(entry), intent, self.now, policy),
            Some(Row::Gone) => Err(Refusal::Gone),
            Some(Row::Unreadable) => Err(Refusal::Unreadable),
            Some(Row::Key(_)) | None => {
                if let Intent::Create { new, .. } = intent {
                    let user = new.user_id.as_deref();
                    let in_batch = user.and_then(|user| self.new_of_users.get(user)).copied().unwrap_or_default();
                    self.live = self.live.with(new, self.table.live_of(user) + in_batch, policy)?;
                    if let Some(user) = user {
                        self.new_of_users.insert(user.to_owned(), in_batch + 1);
                    }
                }
                let mut decision = decide(id, None, intent, self.now, policy)?;
                // What another node has made for this user meanwhile is a conflict.
                if self.is_shared
                    && let Intent::Create { new, .. } = intent
                {
                    decision.extend(self.table.counted_user(new).map(count_on));
                }
                Ok(decision)
            }
        }
    }

    /// What a channel will be, where this batch changes it, or else is.
    pub(super) fn row(&self, channel: &ChannelName) -> Option<&Row> {
        let planned = self.by_channel.get(channel).and_then(|index| self.planned.get(*index)?.as_ref());
        let overlaid = planned.and_then(|planned| planned.rows.iter().find(|(name, _)| name == channel));
        overlaid.map(|(_, row)| row).or_else(|| self.table.row(channel))
    }

    /// Puts a decision into the group of its channels. What adds nothing to no group is answered at once: it was decided
    /// against what is durable already.
    fn join(&mut self, mut waiting: Caller, channel: ChannelName, decision: Decision) -> Option<&mut Planned> {
        if decision.is_empty() && self.may_be_behind(&waiting.request) {
            self.later.push(waiting.request);
            return None;
        }
        if decision.is_empty() && !self.by_channel.contains_key(&channel) {
            waiting.answer(self.table, Seq::ZERO);
            return None;
        }
        let mut place = self.place_of(channel);
        // Nothing is decided upon what inboxes and topics hold, so they bring no groups together.
        let is_met_on = |channel: &&ChannelName| !matches!(channel.kind(), ChannelKind::Inbox | ChannelKind::Topic);
        for channel in decision.iter().map(|decided| &decided.draft.channel).filter(is_met_on) {
            place = self.joined_place(place, channel);
        }
        let planned = self.planned.get_mut(place)?.as_mut()?;
        waiting.move_behind(planned.group.drafts.len());
        for decided in decision {
            let channel = &decided.draft.channel;
            if let Some(expect) = expects(self.table, self.people, &decided)
                && planned.group.expects.iter().all(|(named, _)| named != channel)
            {
                planned.group.expects.push((channel.clone(), expect));
            }
            planned.push(decided);
        }
        planned.waiting.push(waiting);
        Some(planned)
    }

    /// The place of the group of this channel: that which it has, or a new one.
    fn place_of(&mut self, channel: ChannelName) -> usize {
        *self.by_channel.entry(channel).or_insert_with(|| {
            // Mostly it is one request, with one event.
            let group = Group { id: Uuid::now_v7(), at: self.now, expects: Vec::new(), drafts: Vec::with_capacity(1) };
            let (rows, waiting) = (Vec::with_capacity(1), Vec::with_capacity(1));
            self.planned.push(Some(Planned { group, first: Seq::ZERO, rows, users: Vec::new(), waiting }));
            self.planned.len() - 1
        })
    }

    /// Brings a channel into the group at this place. If it has a group of its own, the later of the two goes into the
    /// other one. Gives the place where they are.
    fn joined_place(&mut self, place: usize, channel: &ChannelName) -> usize {
        let other = match self.by_channel.get(channel) {
            Some(other) if *other == place => return place,
            Some(other) => *other,
            None => {
                self.by_channel.insert(channel.clone(), place);
                return place;
            }
        };
        let (place, later) = (place.min(other), place.max(other));
        let merged = self.planned.get_mut(later).and_then(Option::take);
        if let (Some(merged), Some(Some(planned))) = (merged, self.planned.get_mut(place)) {
            planned.merge(merged);
        }
        self.by_channel.values_mut().filter(|index| **index == later).for_each(|index| *index = place);
        place
    }
}

impl Planned {
    fn push(&mut self, Decided { draft, row }: Decided) {
        if let Some(row) = row {
            match self.rows.iter_mut().find(|(channel, _)| *channel == draft.channel) {
                Some((_, known)) => *known = row,
                None => self.rows.push((draft.channel.clone(), row)),
            }
        }
        let before = self.group.drafts.iter_mut().rev().find(|before| before.channel == draft.channel);
        match before {
            Some(before) if before.class == Class::Tick && draft.class == Class::Tick => *before = draft,
            _ => self.group.drafts.push(draft),
        }
    }

    fn merge(&mut self, mut other: Self) {
        other.waiting.iter_mut().for_each(|waiting| waiting.move_behind(self.group.drafts.len()));
        self.group.expects.extend(other.group.expects);
        self.group.drafts.extend(other.group.drafts);
        self.rows.extend(other.rows);
        self.users.extend(other.users);
        self.waiting.extend(other.waiting);
    }

    /// Takes in the places that the journal gave to the group's events.
    pub(super) fn place(&mut self, events: &[Event]) {
        self.first = events.first().map_or(Seq::ZERO, |event| event.seq);
        for event in events {
            let row = self.rows.iter_mut().find(|(channel, _)| channel == event.channel());
            row.into_iter().for_each(|(_, row)| row.placed(event.seq, event.class()));
        }
    }

    /// Answers all who wait: everything that was asked for is at or before `head` in the journal, and in the table.
    pub(super) fn answer(self, table: &Table, head: Seq) {
        for waiting in self.waiting {
            let event = waiting.promise.as_ref().ok().and_then(|promise| promise.event);
            let seq = event.map_or(head, |event| Seq(self.first.0 + event as u64));
            waiting.answer(table, seq);
        }
    }
}

impl Caller {
    /// The events of its group come after so many others now.
    fn move_behind(&mut self, others: usize) {
        if let Ok(Promise { event: Some(event), .. }) = &mut self.promise {
            *event += others;
        }
    }

    fn answer(self, table: &Table, seq: Seq) {
        let answer = self.promise.map(|Promise { task, changed, .. }| {
            let entry: Option<Arc<Entry>> = task.and_then(|id| table.get(id)).cloned();
            Answer { entry, seq, changed }
        });
        self.request.answer(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::task::Policy;

    fn decided(channel: &ChannelName, class: Class) -> Decided {
        let draft = Draft { channel: channel.clone(), name: None, class, data: Bytes::new(), memo: None, origin: None };
        Decided { draft, row: None }
    }

    fn waiting() -> Caller {
        let request = Request::timer(Uuid::nil(), Intent::Due);
        Caller { request, promise: Ok(Promise { task: None, event: None, changed: true }) }
    }

    #[test]
    fn a_group_may_be_over_several_channels_and_ticks_merge_within_each() {
        let table = Table::new(Policy { stalled_after: Duration::from_secs(30), ..Policy::WIDE });
        let people = PeopleTable::new(1);
        let topics = TopicTable::new(1);
        let mut batch = Batch::new(&table, &people, &topics, Seq::ZERO, Timestamp::default());
        let [parent, child, other, alone] = [1, 2, 3, 4].map(|id| ChannelName::task(Uuid::from_u128(id)));
        let mut join = |channels: &[(&ChannelName, Class)]| {
            let decision = channels.iter().map(|(channel, class)| decided(channel, *class)).collect();
            batch.join(waiting(), channels[0].0.clone(), decision);
        };
        join(&[(&other, Class::Change)]);
        join(&[(&alone, Class::Tick)]);
        join(&[(&child, Class::Tick), (&parent, Class::Tick)]);
        join(&[(&child, Class::Final), (&parent, Class::Tick)]);
        // Two groups that had nothing to do with each other meet.
        join(&[(&other, Class::Change), (&parent, Class::Change)]);
        join(&[(&child, Class::Tombstone)]);
        let (planned, _) = batch.into_plan();
        let drafts = |planned: &Planned| {
            let drafts = planned.group.drafts.iter();
            drafts.map(|draft| (draft.channel.clone(), draft.class)).collect::<Vec<_>>()
        };
        assert_eq!(planned.iter().map(|planned| planned.waiting.len()).collect::<Vec<_>>(), [5, 1]);
        let expected = [
            (other.clone(), Class::Change),
            (child.clone(), Class::Tick),
            (parent.clone(), Class::Tick),
            (child.clone(), Class::Final),
            (other, Class::Change),
            (parent, Class::Change),
            (child, Class::Tombstone),
        ];
        assert_eq!(drafts(&planned[0]), expected);
        assert_eq!(drafts(&planned[1]), [(alone, Class::Tick)]);
        assert_eq!(planned[0].group.expects.len(), 3, "one condition a channel");
    }
}
