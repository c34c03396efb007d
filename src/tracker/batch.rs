//! One batch of requests on its way into the journal: what each is decided to be, against a scratch overlay.
//!
//! All requests on one channel make one group, decided one upon the other, so that one commit answers them all; requests
//! that meet on some of several channels are in one group, too. A tick that follows a tick of its channel takes its place.
//! The states that were decided stay with the group: they enter the table when it is committed. This module appends
//! nothing and changes no table.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{Answer, Request, TrackerError};
use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::{Expect, Group},
    people::{
        Census, Notification, PeopleRefusal, PeopleTable, UserChange, UserIntent, UserState, decide as decide_user,
    },
    task::{Decided, Decision, Entry, Intent, Refusal, Row, Table, decide},
};

/// What is asked of the writer.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// Something of a task.
    Task(Uuid, Intent),
    /// Something of a user, by their channel.
    User(ChannelName, UserIntent),
    /// A notification to the members of a group, by its channel.
    Group(ChannelName, Notification),
    /// An event on another channel, whatever its state.
    Append(Draft),
}

/// A group, what its channels are after it, and who waits for it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) group: Group,
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
    changed: bool,
}

/// The groups of one append.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a Table,
    people: &'a PeopleTable,
    head: Seq,
    now: Timestamp,
    /// What this batch makes of users, and of the numbers of users and members.
    users: HashMap<ChannelName, Option<UserState>>,
    users_more: isize,
    members_more: HashMap<String, isize>,
    /// A group that went into another one leaves its place empty.
    planned: Vec<Option<Planned>>,
    by_channel: HashMap<ChannelName, usize>,
    later: Vec<Request>,
}

impl<'a> Batch<'a> {
    /// Nothing is planned yet; `head` is the last seq that the tables have followed.
    pub(super) fn new(table: &'a Table, people: &'a PeopleTable, head: Seq, now: Timestamp) -> Self {
        let (users, members_more) = (HashMap::new(), HashMap::new());
        let (planned, by_channel, later) = (Vec::new(), HashMap::new(), Vec::new());
        Self { table, people, head, now, users, users_more: 0, members_more, planned, by_channel, later }
    }

    /// The groups, and what is to be decided upon their commit.
    pub(super) fn into_plan(self) -> (Vec<Planned>, Vec<Request>) {
        (self.planned.into_iter().flatten().collect(), self.later)
    }

    /// Decides a request: it joins a group, or is answered at once where it needs none.
    pub(super) fn add(&mut self, request: Request) {
        match &request.ask {
            Ask::Task(id, Intent::Delete) if self.by_channel.contains_key(&ChannelName::task(*id)) => {
                // The others of its group are still answered with the task that is there until then.
                self.later.push(request);
            }
            Ask::Task(id, intent) => match self.task_of(*id, intent) {
                Ok(id) => {
                    let decided = self.decide(id, intent);
                    let changed = decided.as_ref().is_ok_and(|decision| !decision.is_empty());
                    let promise = decided.as_ref().map(|_| Promise { task: Some(id), changed });
                    let promise = promise.map_err(|refusal| refusal.clone().into());
                    let channel = ChannelName::task(id);
                    self.join(Caller { request, promise }, channel, decided.unwrap_or_default());
                }
                Err(refusal) => request.answer(Err(refusal.into())),
            },
            Ask::User(user, intent) => {
                let decided = self.decide_user(user, intent);
                let drafts = decided.map(|change| self.plan_user(user, change));
                let channel = user.clone();
                self.join_events(request, channel, drafts);
            }
            Ask::Group(group, notification) => {
                // Nobody could ever find what is sent to a group without members.
                let is_heard = self.members(&group.name()) > 0;
                let drafts = is_heard.then(|| notification.draft(group.clone()));
                let channel = group.clone();
                self.join_events(request, channel, Ok(drafts.into_iter().collect()));
            }
            Ask::Append(draft) => {
                let draft = draft.clone();
                let channel = draft.channel.clone();
                self.join_events(request, channel, Ok(vec![draft]));
            }
        }
    }

    /// Puts events into the group of the channel on which they were decided.
    fn join_events(&mut self, request: Request, channel: ChannelName, drafts: Result<Vec<Draft>, PeopleRefusal>) {
        let promise = drafts.as_ref().map(|drafts| Promise { task: None, changed: !drafts.is_empty() });
        let promise = promise.map_err(|refusal| refusal.clone().into());
        let drafts = drafts.unwrap_or_default().into_iter();
        let decision = drafts.map(|draft| Decided { draft, row: None }).collect();
        self.join(Caller { request, promise }, channel, decision);
    }

    fn decide_user(&self, user: &ChannelName, intent: &UserIntent) -> Result<UserChange, PeopleRefusal> {
        let user_id = user.name();
        if self.people.is_unreadable(&user_id) {
            return Err(PeopleRefusal::Unreadable);
        }
        let known = match self.users.get(user) {
            Some(known) => known.as_ref(),
            None => self.people.get(&user_id).map(AsRef::as_ref),
        };
        decide_user(user, known, intent, self.now, self.head, self)
    }

    /// Notes what a decision makes of a user; answers its events.
    fn plan_user(&mut self, user: &ChannelName, change: UserChange) -> Vec<Draft> {
        if change.drafts.iter().all(|draft| draft.channel != *user) {
            return change.drafts;
        }
        let known = match self.users.get(user) {
            Some(known) => known.as_ref(),
            None => self.people.get(&user.name()).map(AsRef::as_ref),
        };
        let groups = |state: Option<&UserState>| state.map(|state| state.groups.clone()).unwrap_or_default();
        self.users_more += isize::from(change.state.is_some()) - isize::from(known.is_some());
        for (of, more) in [(groups(known), -1), (groups(change.state.as_ref()), 1)] {
            of.into_keys().for_each(|group| *self.members_more.entry(group).or_default() += more);
        }
        self.users.insert(user.clone(), change.state);
        change.drafts
    }

    /// The task that an intent is about: with a key that is known, the one that was made with it.
    fn task_of(&self, id: Uuid, intent: &Intent) -> Result<Uuid, Refusal> {
        let Intent::Create { key: Some(key), .. } = intent else { return Ok(id) };
        match self.row(&ChannelName::key(*key)) {
            Some(Row::Key(task_id)) => Ok(*task_id),
            Some(Row::Gone) => Err(Refusal::Gone),
            Some(Row::Unreadable) => Err(Refusal::Unreadable),
            Some(Row::Task(_)) | None => Ok(id),
        }
    }

    fn decide(&self, id: Uuid, intent: &Intent) -> Result<Decision, Refusal> {
        let policy = self.table.policy();
        match self.row(&ChannelName::task(id)) {
            Some(Row::Task(entry)) => decide(id, Some(entry), intent, self.now, policy),
            Some(Row::Gone) => Err(Refusal::Gone),
            Some(Row::Unreadable) => Err(Refusal::Unreadable),
            Some(Row::Key(_)) | None => decide(id, None, intent, self.now, policy),
        }
    }

    /// What a channel will be, where this batch changes it, or else is.
    fn row(&self, channel: &ChannelName) -> Option<&Row> {
        let planned = self.by_channel.get(channel).and_then(|index| self.planned.get(*index)?.as_ref());
        let overlaid = planned.and_then(|planned| planned.rows.iter().find(|(name, _)| name == channel));
        overlaid.map(|(_, row)| row).or_else(|| self.table.row(channel))
    }

    /// Puts a decision into the group of its channels. What adds nothing to no group is answered at once: it was decided
    /// against what is durable already.
    fn join(&mut self, waiting: Caller, channel: ChannelName, decision: Decision) {
        if decision.is_empty() && !self.by_channel.contains_key(&channel) {
            return waiting.answer(self.table, Seq::ZERO);
        }
        // Nothing is decided upon what these hold, so that they bring no groups together.
        let is_met_on = |channel: &&ChannelName| !matches!(channel.kind(), ChannelKind::Inbox | ChannelKind::Topic);
        let channels = decision.iter().map(|decided| &decided.draft.channel).filter(is_met_on).chain([&channel]);
        let index = self.group_of(channels.cloned().collect());
        let user = self.users.get(&channel).map(|state| (channel.clone(), state.clone()));
        let expects: Vec<_> = decision.iter().filter_map(|decided| self.expects(decided)).collect();
        let Some(Some(planned)) = self.planned.get_mut(index) else { return };
        for (channel, expect) in expects {
            if planned.group.expects.iter().all(|(named, _)| *named != channel) {
                planned.group.expects.push((channel, expect));
            }
        }
        decision.into_iter().for_each(|decided| planned.push(decided));
        if let Some((channel, state)) = user {
            planned.users.retain(|(known, _)| *known != channel);
            planned.users.push((channel, state));
        }
        planned.waiting.push(waiting);
    }

    /// What a group expects of the channel of its first event there: what it was decided upon.
    fn expects(&self, decided: &Decided) -> Option<(ChannelName, Expect)> {
        let channel = &decided.draft.channel;
        let expect = match (channel.kind(), self.table.row(channel), &decided.row) {
            (ChannelKind::Task, Some(Row::Task(entry)), _) => Expect::At(entry.last),
            (ChannelKind::Task, _, _) | (ChannelKind::Key, _, Some(Row::Key(_))) => Expect::Absent,
            // A text goes to a user whatever has become of them.
            (ChannelKind::User, _, _) if decided.draft.class != Class::Notice => {
                self.people.last(channel).map_or(Expect::Absent, Expect::At)
            }
            // A key goes with its task, whatever has become of it.
            _ => return None,
        };
        Some((channel.clone(), expect))
    }

    /// The place of the one group that has all these channels: a new one, or the first of those that have some of them,
    /// into which the others go.
    fn group_of(&mut self, channels: Vec<ChannelName>) -> usize {
        let mut places: Vec<usize> = channels.iter().filter_map(|name| self.by_channel.get(name).copied()).collect();
        places.sort_unstable();
        places.dedup();
        let mut places = places.into_iter();
        let place = places.next().unwrap_or_else(|| {
            let group = Group { id: Uuid::now_v7(), at: self.now, expects: Vec::new(), drafts: Vec::new() };
            self.planned.push(Some(Planned { group, rows: Vec::new(), users: Vec::new(), waiting: Vec::new() }));
            self.planned.len() - 1
        });
        for other in places {
            let merged = self.planned.get_mut(other).and_then(Option::take);
            if let (Some(merged), Some(Some(planned))) = (merged, self.planned.get_mut(place)) {
                planned.merge(merged);
            }
            self.by_channel.values_mut().filter(|index| **index == other).for_each(|index| *index = place);
        }
        self.by_channel.extend(channels.into_iter().map(|channel| (channel, place)));
        place
    }
}

impl Census for Batch<'_> {
    fn users(&self) -> usize {
        self.people.users().saturating_add_signed(self.users_more)
    }

    fn users_max(&self) -> usize {
        self.people.users_max()
    }

    fn members(&self, group: &str) -> usize {
        let more = self.members_more.get(group).copied().unwrap_or_default();
        self.people.members(group).saturating_add_signed(more)
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

    fn merge(&mut self, other: Self) {
        self.group.expects.extend(other.group.expects);
        self.group.drafts.extend(other.group.drafts);
        self.rows.extend(other.rows);
        self.users.extend(other.users);
        self.waiting.extend(other.waiting);
    }

    /// Takes in the place that the journal gave to one of the group's events.
    pub(super) fn place(&mut self, event: &Event) {
        let row = self.rows.iter_mut().find(|(channel, _)| channel == event.channel());
        row.into_iter().for_each(|(_, row)| row.placed(event.seq, event.class()));
    }
}

impl Caller {
    /// Answers what was promised: everything that was asked for is at or before `seq` in the journal, and in the table.
    pub(super) fn answer(self, table: &Table, seq: Seq) {
        let answer = self.promise.map(|Promise { task, changed }| {
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
        Caller { request, promise: Ok(Promise { task: None, changed: true }) }
    }

    #[test]
    fn a_group_may_be_over_several_channels_and_ticks_merge_within_each() {
        let table = Table::new(Policy { stalled_after: Duration::from_secs(30) });
        let people = PeopleTable::new(1);
        let mut batch = Batch::new(&table, &people, Seq::ZERO, Timestamp::default());
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
