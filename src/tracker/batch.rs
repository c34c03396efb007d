//! One batch of requests on its way into the journal: what each is decided to be, against a scratch overlay.
//!
//! All requests on one channel make one group, decided one upon the other, so that one commit answers them all; a tick
//! that follows a tick takes its place.

use std::{collections::HashMap, sync::Arc};

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

/// A group with those who wait for it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) group: Group,
    pub(super) waiting: Vec<(Request, Result<Promise, TrackerError>)>,
    /// The state after the group's events, worked out when a further request needs it.
    overlay: Option<Entry>,
}

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
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a Table, now: Timestamp) -> Self {
        Self { table, now, planned: Vec::new(), by_channel: HashMap::new(), keys: HashMap::new() }
    }

    pub(super) fn into_planned(self) -> Vec<Planned> {
        self.planned
    }

    /// Decides a request: it joins a group, or is answered at once where it needs none.
    pub(super) fn add(&mut self, request: Request) {
        match request.change.clone() {
            Change::Task(id, intent) => self.add_task(request, id, &intent),
            Change::Append(draft) => {
                let channel = draft.channel.clone();
                let promise = Promise { task: None, changed: true };
                self.join(request, channel, None, vec![draft], Ok(promise));
            }
            Change::Expire(channel, last) => {
                let tombstone = Draft {
                    channel: channel.clone(),
                    name: None,
                    class: Class::Tombstone,
                    data: bytes::Bytes::new(),
                    memo: None,
                    origin: None,
                };
                let promise = Promise { task: None, changed: true };
                self.join(request, channel, Some(Expect::At(last)), vec![tombstone], Ok(promise));
            }
        }
    }

    fn add_task(&mut self, request: Request, id: Uuid, intent: &Intent) {
        let key = match intent {
            Intent::Create { key, .. } => *key,
            _ => None,
        };
        // A key that is known stands for the task that was made with it.
        let known =
            key.and_then(|key| self.keys.get(&key).copied().or_else(|| self.table.key(key).map(|memo| memo.task_id)));
        let id = known.unwrap_or(id);
        let channel = ChannelName::task(id);
        let planned = self.by_channel.get(&channel).copied();
        let found = request.found.clone().filter(|_| !self.table.is_gone(id));
        let durable = self.table.get(id).cloned().or(found);
        let durable = durable.as_deref();
        let decided = match planned.and_then(|index| self.planned.get_mut(index)) {
            Some(planned) => planned
                .overlay(durable)
                .and_then(|entry| decide(id, entry, intent, self.now, self.table.policy()).map_err(TrackerError::from)),
            None if durable.is_none() && self.table.is_gone(id) => Err(Refusal::Gone.into()),
            None => decide(id, durable, intent, self.now, self.table.policy()).map_err(TrackerError::from),
        };
        match decided {
            Ok(drafts) => {
                if let (Some(key), false) = (key, drafts.is_empty()) {
                    self.keys.insert(key, id);
                }
                let promise = Promise { task: Some(id), changed: !drafts.is_empty() };
                let expect = durable.map_or(Expect::Absent, |entry| Expect::At(entry.last));
                self.join(request, channel, Some(expect), drafts, Ok(promise));
            }
            Err(error) => self.join(request, channel, None, Vec::new(), Err(error)),
        }
    }

    /// Puts drafts into the channel's group. What adds nothing to no group is answered at once: it was decided against
    /// what is durable already.
    fn join(
        &mut self,
        request: Request,
        channel: ChannelName,
        expect: Option<Expect>,
        drafts: Vec<Draft>,
        promise: Result<Promise, TrackerError>,
    ) {
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
                entry = Some(Entry::after(entry, &event).map_err(|error| TrackerError::Damaged(error.to_string()))?);
            }
            self.overlay = entry;
        }
        Ok(self.overlay.as_ref())
    }
}
