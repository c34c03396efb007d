//! The writer: the only one who changes the table.
//!
//! It takes what waits, looks up in one read what of it has left memory, decides all of it, and appends once. What was
//! decided enters the table when the journal has given it its place; only what others decided is read from its events.
//! Then the callers are answered, and last the watchers are woken. Between two batches it asks the table whose time has
//! come, and decides these like any other request. It must not know how requests reach it, nor who reads the table.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Core, Request, TrackerError,
    batch::{Batch, Planned},
    clock::JumpWatch,
    live_list::TaskChange,
};
use crate::{
    channel::Wake,
    event::{ChannelKind, ChannelName, Epoch, Event, Seq},
    journal::{Appended, Group, JournalError, Outcome},
    task::{Entry, Row, Status},
};

/// Most requests in one commit.
pub(super) const BATCH_MAX: usize = 1024;
/// How often a request may be decided again because of other nodes' events before its caller is told to come again.
const CONFLICTS_MAX: u32 = 16;
/// How often a lost answer is asked for again, with a growing pause in between.
const UNKNOWN_TRIES: u32 = 6;
/// No try begins later than this after the first: the callers wait, and the journal takes its own time for each.
const UNKNOWN_MAX: Duration = Duration::from_secs(15);
/// The first of these pauses.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(50);
/// After a commit of timers has failed, they are tried again only after this pause.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// After the start, nobody's time is over before this pause: while nothing ran, nobody could say that they are there.
const START_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub(super) shared: Arc<Core>,
    queue: mpsc::Receiver<Request>,
    /// What is to be decided before anything else; what it needs to be decided upon stays in memory.
    again: VecDeque<Request>,
    /// The last seq that the table has followed.
    pub(super) head: Seq,
    /// The epochs that the store had begun when the table was loaded.
    pub(super) begun: Arc<[(Seq, Epoch)]>,
    /// Timers rest until then.
    pub(super) rest_until: Instant,
    pub(super) jumps: JumpWatch,
    /// Whether events may have been written that the table has not followed.
    pub(super) is_behind: bool,
    /// Whether the last commit failed, and that was told.
    is_failing: bool,
}

impl Writer {
    /// A writer whose table is as the journal says.
    pub(super) async fn restore(shared: Arc<Core>, queue: mpsc::Receiver<Request>) -> Result<Self, TrackerError> {
        let jumps = JumpWatch::new(shared.clock.clone());
        let again = VecDeque::new();
        let rest_until = Instant::now() + START_PAUSE;
        let begun = shared.journal.epochs().begun();
        let mut writer = Self {
            shared,
            queue,
            again,
            head: Seq::ZERO,
            begun,
            rest_until,
            jumps,
            is_behind: false,
            is_failing: false,
        };
        writer.reload().await?;
        writer.enter().await?;
        Ok(writer)
    }

    /// Takes requests until it is told to stop, then those that were accepted before, and closes the journal.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(BATCH_MAX);
        loop {
            let mut others = None;
            if self.again.is_empty() {
                let timers_at = self.timers_at();
                let journal = Arc::clone(&self.shared.journal);
                tokio::select! {
                    biased;
                    () = stop.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                    count = self.queue.recv_many(&mut taken, BATCH_MAX) => {
                        if count == 0 { break; }
                    }
                    () = tokio::time::sleep_until(timers_at) => {}
                    tail = journal.follow(self.head, BATCH_MAX), if !self.is_behind => others = Some(tail),
                }
            }
            if let Some(tail) = others {
                self.follow_others(tail).await;
            }
            // Here, not in the select: a queue that is never empty must not keep time from passing. And after what was
            // taken: a renewal that waits counts before the end of its lease.
            self.take_timers(&mut taken);
            self.shared.metrics.queue_depth.set(self.queue.len() as i64);
            let batch: Vec<_> = self.again.drain(..).chain(taken.drain(..)).collect();
            let is_crowd = batch.len() > 1;
            self.commit(batch).await;
            if is_crowd {
                // Those who were answered may ask again: what has come for them is read first, so that fewer commits
                // carry it.
                tokio::task::yield_now().await;
            }
        }
        self.leave().await;
        if let Err(error) = self.shared.journal.close().await {
            tracing::error!(%error, "cannot close the journal cleanly");
        }
    }

    /// Decides a batch, makes it durable, lets the table and the watchers follow, answers the callers.
    async fn commit(&mut self, requests: Vec<Request>) {
        let decided = StdInstant::now();
        let planned = self.plan(requests).await;
        if planned.is_empty() && !self.is_behind {
            return self.forget_folded();
        }
        match self.append(|| planned.iter().map(|planned| planned.group.clone()).collect()).await {
            Ok(appended) => {
                self.is_behind = false;
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("commits succeed again");
                }
                self.shared.metrics.commit_seconds.observe(decided.elapsed().as_secs_f64());
                self.shared.metrics.batch_events.observe(appended.events.len() as f64);
                self.follow(planned, &appended, decided).await;
            }
            // Too much has happened elsewhere to be told one by one: begin anew, then decide again.
            Err(JournalError::Lapsed) => match self.reload().await {
                Ok(()) => {
                    self.is_behind = false;
                    planned.into_iter().for_each(|planned| self.decide_again(planned));
                }
                Err(error) => self.fail(planned, &error),
            },
            Err(error) => self.fail(planned, &error.into()),
        }
        self.again.iter_mut().for_each(|request| request.is_caught_up = true);
        self.forget_folded();
    }

    async fn plan(&mut self, mut requests: Vec<Request>) -> Vec<Planned> {
        let missing: Vec<_> = requests.iter().flat_map(|request| self.missing(request)).collect();
        // Tasks that have ended and left memory, and keys.
        if !missing.is_empty() {
            self.load_for(&mut requests, missing, |writer, request| writer.missing(request).next().is_some()).await;
        }
        // Near the bound of live tasks it matters whether a task that is asked for is new.
        let count = requests.len();
        let made: Vec<_> = requests.iter().filter_map(|request| self.made(request, count)).collect();
        if !made.is_empty() {
            self.load_for(&mut requests, made, |writer, request| writer.made(request, count).is_some()).await;
        }
        let (table, people, topics) = (self.shared.table(), self.shared.people(), self.shared.topics());
        let batch = Batch::new(&table, &people, &topics, self.head, self.shared.clock.now());
        let mut batch = batch.shared_if(self.shared.own_node.is_some());
        requests.into_iter().for_each(|request| batch.add(request));
        let (planned, later) = batch.into_plan();
        // Those are decided upon what the append tells.
        self.is_behind |= !later.is_empty();
        self.again.extend(later);
        planned
    }

    /// Appends; where the answer is lost, asks again with the same groups, which is safe. Once an answer was lost, no
    /// error means that nothing was written.
    pub(super) async fn append(&mut self, groups: impl Fn() -> Vec<Group>) -> Result<Appended, JournalError> {
        // Only the outcome of a group says that an answer was lost.
        let none = Group { id: Uuid::nil(), at: self.shared.clock.now(), expects: Vec::new(), drafts: Vec::new() };
        let groups = || Some(groups()).filter(|groups| !groups.is_empty()).unwrap_or_else(|| vec![none.clone()]);
        let mut pause = UNKNOWN_PAUSE;
        let mut was_lost = false;
        let until = Instant::now() + UNKNOWN_MAX;
        for _ in 0..UNKNOWN_TRIES {
            if Instant::now() > until {
                break;
            }
            match self.shared.journal.append(self.head, groups()).await {
                Ok(appended) if !appended.outcomes.contains(&Outcome::Unknown) => return Ok(appended),
                Err(error) if !was_lost => return Err(error),
                // What would tell is trimmed.
                Err(JournalError::Lapsed) => break,
                Ok(_) => tracing::warn!("no answer from the journal; retrying"),
                Err(error) => tracing::warn!(%error, "the journal cannot confirm a commit; retrying"),
            }
            was_lost = true;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.is_behind = true;
        Err(JournalError::Unavailable("the store did not confirm the change".into()))
    }

    /// Makes the table follow the events after the head, each once, answers the callers, and wakes the watchers.
    async fn follow(&mut self, mut planned: Vec<Planned>, appended: &Appended, decided: StdInstant) {
        // Whoever is answered finds what they asked for in every log, but no watcher is ahead of them.
        let woken = self.follow_events(&mut planned, &appended.events, decided);
        let shared = Arc::clone(&self.shared);
        let mut conflicts = Vec::new();
        {
            let table = shared.table();
            for (planned, outcome) in planned.into_iter().zip(&appended.outcomes) {
                match outcome {
                    Outcome::Conflict(channel) => conflicts.push((planned, channel.clone())),
                    _ => planned.answer(&table, self.head),
                }
            }
        }
        drop(woken);
        if conflicts.is_empty() {
            return;
        }
        shared.metrics.conflicts.inc_by(conflicts.len() as u64);
        let missing = conflicts.iter().map(|(_, channel)| channel);
        let is_missing = |channel: &&ChannelName| match channel.kind() {
            ChannelKind::User => shared.people().last(channel).is_none(),
            ChannelKind::Task | ChannelKind::Key => shared.table().row(channel).is_none(),
            // What is decided upon others is not in rows.
            _ => false,
        };
        let missing = missing.filter(is_missing).cloned().collect();
        match self.load(missing).await {
            Ok(()) => conflicts.into_iter().for_each(|(planned, _)| self.decide_again(planned)),
            Err(error) => conflicts.into_iter().for_each(|(planned, _)| refuse(planned, &error)),
        }
    }

    /// Makes table, lists and channels follow these events; answers who is to be woken.
    pub(super) fn follow_events(
        &mut self,
        planned: &mut [Planned],
        events: &[Event],
        decided: StdInstant,
    ) -> Vec<Wake> {
        let mut changes = Vec::new();
        let ours: HashMap<Uuid, usize> =
            planned.iter().enumerate().map(|(index, planned)| (planned.group.id, index)).collect();
        for events in events.chunk_by(|one, next| one.group == next.group) {
            let ours = events.first().and_then(|event| planned.get_mut(*ours.get(&event.group)?));
            let is_ours = ours.is_some();
            // The lock is taken for each group, so that readers need not wait for a whole batch.
            match ours {
                Some(planned) => {
                    planned.place(events);
                    let last = |channel: &ChannelName| {
                        events.iter().rev().find(|event| event.channel() == channel).map(|event| event.seq)
                    };
                    for (user, state) in planned.users.drain(..) {
                        let Some(last) = last(&user) else { continue };
                        let change = self.shared.people_mut().put(&user, state, last);
                        self.shared.members.notice(change);
                    }
                    for (channel, row) in planned.rows.drain(..) {
                        let Some(last) = last(&channel) else { continue };
                        let before = self.shared.table_mut().put(channel.clone(), row, last);
                        changes.extend(self.notice(&channel, before, last));
                    }
                }
                None => {
                    for event in events.iter().filter(|event| event.channel().kind() != ChannelKind::User) {
                        changes.extend(self.apply(event));
                    }
                }
            }
            for event in events {
                self.shared.unknown.note(event);
                match event.channel().kind() {
                    ChannelKind::User if is_ours => self.shared.people_mut().saw(event.channel(), event.seq),
                    ChannelKind::User => self.apply_to_user(event),
                    ChannelKind::Topic => self.shared.topics_mut().apply(event),
                    ChannelKind::Shared => self.shared.facts.send_replace(()),
                    ChannelKind::Node => self.shared.follow_node(event),
                    _ => {}
                }
            }
            self.head = events.last().map_or(self.head, |event| event.seq);
            self.shared.registry.advance(self.head);
        }
        changes.sort_unstable_by_key(|change| change.seq);
        self.shared.lists.push(&changes, self.head);
        self.shared.metrics.events_appended.inc_by(events.len() as u64);
        events.iter().map(|event| self.shared.registry.publish(event, decided)).collect()
    }

    /// Takes in an event that was decided elsewhere. One that cannot be read stops its own channel only.
    fn apply(&self, event: &Event) -> Option<TaskChange> {
        let mut table = self.shared.table_mut();
        if let Some(entry) = table.apply_tick(event) {
            let (before, after) = (Some(Arc::clone(&entry)), Some(entry));
            return Some(TaskChange { seq: event.seq, before, after, data: event.draft.data.clone() });
        }
        let before = table.apply(event).unwrap_or_else(|error| {
            tracing::error!(channel = %event.channel(), %error, "this version cannot read an event; its channel is left as it is");
            table.put(event.channel().clone(), Row::Unreadable, event.seq)
        });
        drop(table);
        self.notice(event.channel(), before, event.seq)
    }

    /// Tells those who do the work what concerns them: that a task waits, or that one is not to be worked on any more.
    /// Answers what has changed for those who list tasks.
    fn notice(&self, channel: &ChannelName, before: Option<Row>, seq: Seq) -> Option<TaskChange> {
        let entry = |row: Option<&Row>| row.and_then(Row::task).cloned();
        let (before, after) = (entry(before.as_ref()), entry(self.shared.table().row(channel)));
        if after.as_ref().is_some_and(|after| after.task.status == Status::Pending) {
            self.shared.work.send_replace(());
        }
        let lease = before.as_ref().and_then(|before| before.memo.lease.as_ref());
        let kept = after.as_ref().and_then(|after| after.memo.lease.as_ref());
        self.shared.check_holder(kept);
        let is_cancelling = after.as_ref().is_some_and(|after| after.task.status == Status::Cancelling);
        if let Some(lease) = lease
            && (is_cancelling || kept.is_none_or(|kept| kept.token != lease.token))
        {
            self.shared.holders.notify(lease.token);
        }
        let visible = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.visible);
        let data = after.as_ref().map(|after| after.data.clone()).unwrap_or_default();
        (visible(&before) != visible(&after)).then_some(TaskChange { seq, before, after, data })
    }

    fn decide_again(&mut self, planned: Planned) {
        for mut request in planned.waiting.into_iter().map(|waiting| waiting.request) {
            request.conflicts += 1;
            if request.conflicts > CONFLICTS_MAX {
                request.answer(Err(TrackerError::Busy));
            } else {
                self.again.push_back(request);
            }
        }
    }

    /// Nothing came of a commit.
    fn fail(&mut self, planned: Vec<Planned>, error: &TrackerError) {
        // Once, not for each that is turned away while the store is.
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(%error, "another commit failed");
        } else {
            tracing::error!(%error, "a commit failed; more of them are not told until one succeeds");
        }
        let mut waiting = planned.iter().flat_map(|planned| &planned.waiting);
        if self.is_behind || waiting.any(|waiting| waiting.request.is_timer()) {
            self.rest_until = Instant::now() + FAILURE_PAUSE;
        }
        self.again.drain(..).for_each(|request| request.answer(Err(error.clone())));
        planned.into_iter().for_each(|planned| refuse(planned, error));
    }

    /// Lets go of what the journal can answer for, but not while it is needed to decide something again, or to know what
    /// an event changed that the table has not followed.
    pub(super) fn forget_folded(&self) {
        if self.is_behind || !self.again.is_empty() {
            return;
        }
        self.shared.people_mut().forget_strangers();
        let folded_through = self.shared.journal.folded_through();
        let mut table = self.shared.table_mut();
        table.forget_folded(folded_through);
        let (counts, unreadable) = (table.counts(), table.unreadable() + self.shared.unknown.count());
        drop(table);
        for (gauge, count) in self.shared.status_gauges.iter().zip(counts) {
            gauge.set(count as i64);
        }
        self.shared.metrics.unreadable_channels.set(unreadable as i64);
        self.shared.metrics.fold_lag_events.set(self.head.0.saturating_sub(folded_through.0) as i64);
    }
}

fn refuse(planned: Planned, error: &TrackerError) {
    planned.waiting.into_iter().for_each(|waiting| waiting.request.answer(Err(error.clone())));
}
