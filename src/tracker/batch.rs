//! One batch of requests on its way into the journal: what each is decided to be, against a scratch overlay.
//!
//! All requests on one channel make one group, decided one upon the other, so that one commit answers them all; a tick
//! that follows a tick takes its place. This module appends nothing and changes no table.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{Answer, Request, TrackerError};
use crate::{
    event::{ChannelName, Class, Draft, Event, Seq, Timestamp},
    journal::{Expect, Group},
    task::{Entry, Intent, Refusal, Table, decide},
};

/// What is asked of the writer.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Something of a task.
    Task(Uuid, Intent),
    /// An event on another channel, whatever its state.
    Append(Draft),
    /// Forget a finished channel whose last event has this seq.
    Expire(ChannelName, Seq),
}

/// Those who wait for a group, each with what it is answered once the group is committed.
pub(super) type Waiting = Vec<(Request, Result<Promise, TrackerError>)>;

/// What a request is answered once its group is committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) task: Option<Uuid>,
    pub(super) changed: bool,
}

/// The groups of one append.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a Table,
    now: Timestamp,
    planned: Vec<Planned>,
    by_channel: HashMap<ChannelName, usize>,
    keys: HashMap<Uuid, Uuid>,
    later: Vec<Request>,
}

/// What a batch amounts to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is to be appended.
    pub(super) groups: Vec<Group>,
    /// Those who wait for each of the groups.
    pub(super) waiting: Vec<Waiting>,
    /// What is to be decided upon the commit of this batch.
    pub(super) later: Vec<Request>,
}

#[derive(Debug)]
struct Planned {
    group: Group,
    waiting: Waiting,
    /// The state after the group's events, worked out when a further request needs it.
    overlay: Option<Entry>,
}

/// What a request leads to.
struct Decided {
    channel: ChannelName,
    expect: Option<Expect>,
    drafts: Vec<Draft>,
    promise: Result<Promise, TrackerError>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a Table, now: Timestamp) -> Self {
        Self { table, now, planned: Vec::new(), by_channel: HashMap::new(), keys: HashMap::new(), later: Vec::new() }
    }

    pub(super) fn into_plan(self) -> Plan {
        let (groups, waiting) = self.planned.into_iter().map(|planned| (planned.group, planned.waiting)).unzip();
        Plan { groups, waiting, later: self.later }
    }

    /// Decides a request: it joins a group, or is answered at once where it needs none.
    pub(super) fn add(&mut self, request: Request) {
        let decided = match &request.change {
            Change::Task(id, Intent::Delete) if self.by_channel.contains_key(&ChannelName::task(*id)) => {
                // The others of its group are still answered with the task that is there until then.
                return self.later.push(request);
            }
            Change::Task(id, intent) => self.decide(*id, intent, request.found.as_ref()),
            Change::Append(draft) => Decided {
                channel: draft.channel.clone(),
                expect: None,
                drafts: vec![draft.clone()],
                promise: Ok(Promise { task: None, changed: true }),
            },
            // Something happens to it just now: the next sweep looks again.
            Change::Expire(channel, _) if self.by_channel.contains_key(channel) => return,
            Change::Expire(channel, last) => Decided {
                channel: channel.clone(),
                expect: Some(Expect::At(*last)),
                drafts: vec![tombstone(channel.clone())],
                promise: Ok(Promise { task: None, changed: true }),
            },
        };
        self.join(request, decided);
    }

    fn decide(&mut self, id: Uuid, intent: &Intent, found: Option<&Arc<Entry>>) -> Decided {
        let key = match intent {
            Intent::Create { key, .. } => *key,
            _ => None,
        };
        // A key that is known stands for the task that was made with it.
        let known =
            key.and_then(|key| self.keys.get(&key).copied().or_else(|| self.table.key(key).map(|memo| memo.task_id)));
        let id = known.unwrap_or(id);
        let channel = ChannelName::task(id);
        let durable = self.table.get(id).or(found.filter(|_| !self.table.is_gone(id))).map(AsRef::as_ref);
        let planned = self.by_channel.get(&channel).and_then(|index| self.planned.get_mut(*index));
        let policy = self.table.policy();
        let decided = match planned {
            Some(planned) => planned
                .overlay(durable)
                .and_then(|entry| decide(id, entry, intent, self.now, policy).map_err(TrackerError::from)),
            None if durable.is_none() && self.table.is_gone(id) => Err(Refusal::Gone.into()),
            None => decide(id, durable, intent, self.now, policy).map_err(TrackerError::from),
        };
        let expect = durable.map_or(Expect::Absent, |entry| Expect::At(entry.last));
        match decided {
            Ok(drafts) => {
                if let (Some(key), false) = (key, drafts.is_empty()) {
                    self.keys.insert(key, id);
                }
                let promise = Ok(Promise { task: Some(id), changed: !drafts.is_empty() });
                Decided { channel, expect: Some(expect), drafts, promise }
            }
            Err(error) => Decided { channel, expect: None, drafts: Vec::new(), promise: Err(error) },
        }
    }

    /// Puts drafts into the channel's group. What adds nothing to no group is answered at once: it was decided against
    /// what is durable already.
    fn join(&mut self, request: Request, decided: Decided) {
        let Decided { channel, expect, drafts, promise } = decided;
        let planned = match self.by_channel.get(&channel) {
            Some(index) => &mut self.planned[*index],
            None if drafts.is_empty() => {
                let answer = promise.map(|promise| self.durable_answer(promise, request.found.as_ref()));
                return request.answer(answer);
            }
            None => {
                let keys = drafts.iter().filter(|draft| draft.channel != channel);
                let expects = expect.map(|expect| (channel.clone(), expect)).into_iter();
                let group = Group {
                    id: Uuid::now_v7(),
                    at: self.now,
                    expects: expects.chain(keys.map(|draft| (draft.channel.clone(), Expect::Absent))).collect(),
                    drafts: Vec::new(),
                };
                self.by_channel.insert(channel, self.planned.len());
                self.planned.push(Planned { group, waiting: Vec::new(), overlay: None });
                let last = self.planned.len() - 1;
                &mut self.planned[last]
            }
        };
        drafts.into_iter().for_each(|draft| planned.push(draft));
        planned.waiting.push((request, promise));
    }

    fn durable_answer(&self, promise: Promise, found: Option<&Arc<Entry>>) -> Answer {
        let entry = promise.task.and_then(|id| self.table.get(id)).or(found).cloned();
        Answer { entry, seq: Seq::ZERO, changed: promise.changed }
    }
}

impl Planned {
    fn push(&mut self, draft: Draft) {
        self.overlay = None;
        match self.group.drafts.last_mut() {
            Some(last) if last.class == Class::Tick && draft.class == Class::Tick => *last = draft,
            _ => self.group.drafts.push(draft),
        }
    }

    /// The state of the group's task as it will be.
    fn overlay(&mut self, durable: Option<&Entry>) -> Result<Option<&Entry>, TrackerError> {
        if self.overlay.is_none() {
            let mut entry = durable.cloned();
            let channel = self.group.drafts.first().map(|draft| draft.channel.clone());
            for draft in self.group.drafts.iter().filter(|draft| Some(&draft.channel) == channel.as_ref()) {
                if draft.class == Class::Tombstone {
                    return Err(Refusal::Gone.into());
                }
                let event = Event { seq: Seq::ZERO, at: self.group.at, group: self.group.id, draft: draft.clone() };
                entry = Some(Entry::after(entry, &event)?);
            }
            self.overlay = entry;
        }
        Ok(self.overlay.as_ref())
    }
}

fn tombstone(channel: ChannelName) -> Draft {
    Draft { channel, name: None, class: Class::Tombstone, data: Bytes::new(), memo: None, origin: None }
}
