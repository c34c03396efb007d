//! The writer: the only one who changes the table.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Answer, Request, Shared, TrackerError,
    batch::{Batch, Change, Planned, Promise},
    reads,
};
use crate::{
    event::{ChannelKind, ChannelName, Event, Seq, Timestamp},
    journal::{Appended, Group, JournalError, Listing, Outcome, Stored},
    task::{Intent, KeyMemo, Status, Table},
};

/// Most requests in one commit.
const BATCH_MAX: usize = 1024;
/// Most rows that are read at once when the table is restored.
const RESTORE_PAGE: usize = 1000;
/// How often finished tasks are looked over for those past their retention.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How often a group may meet another node's events before its callers are told to come again.
const CONFLICTS_MAX: u32 = 16;
/// How often a lost answer is asked for again, with a growing pause in between.
const UNKNOWN_TRIES: u32 = 6;
/// The first of these pauses.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    again: VecDeque<Request>,
    head: Seq,
    retention: Duration,
}

impl Writer {
    /// A writer whose table is as the journal says.
    pub(super) async fn restore(
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Request>,
        retention: Duration,
    ) -> Result<Self, TrackerError> {
        let mut writer = Self { shared, queue, again: VecDeque::new(), head: Seq::ZERO, retention };
        writer.reload().await?;
        Ok(writer)
    }

    /// Takes requests until it is told to stop, then those that were accepted before, and closes the journal.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut sweep_at = tokio::time::Instant::now();
        let mut taken = Vec::with_capacity(BATCH_MAX);
        loop {
            if self.again.is_empty() {
                let due_in = self.due_in();
                tokio::select! {
                    biased;
                    count = self.queue.recv_many(&mut taken, BATCH_MAX) => {
                        if count == 0 { break; }
                    }
                    () = stop.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                    () = tokio::time::sleep(due_in) => taken.extend(self.due()),
                    () = tokio::time::sleep_until(sweep_at) => {
                        sweep_at = tokio::time::Instant::now() + SWEEP_INTERVAL;
                        self.sweep(&mut taken).await;
                    }
                }
            }
            self.shared.metrics.queue_depth.set(self.queue.len() as i64);
            let batch = self.again.drain(..).chain(taken.drain(..)).collect();
            self.commit(batch).await;
        }
        if let Err(error) = self.shared.journal.close().await {
            tracing::error!(%error, "the journal could not be closed cleanly");
        }
    }

    /// Decides a batch, makes it durable, lets the table and the watchers follow, answers the callers.
    async fn commit(&mut self, requests: Vec<Request>) {
        let decided = Instant::now();
        let planned = {
            let table = self.shared.table();
            let mut batch = Batch::new(&table, self.shared.clock.now());
            requests.into_iter().for_each(|request| batch.add(request));
            batch.into_planned()
        };
        if planned.is_empty() {
            return self.forget_folded();
        }
        let groups: Vec<Group> = planned.iter().map(|planned| planned.group.clone()).collect();
        match self.append(&groups).await {
            Ok(appended) => {
                self.shared.metrics.commit_seconds.observe(decided.elapsed().as_secs_f64());
                self.shared.metrics.batch_events.observe(appended.events.len() as f64);
                match self.follow(&appended.events, decided) {
                    Ok(()) => self.answer(planned, &appended.outcomes).await,
                    Err(error) => refuse(planned, &error),
                }
            }
            Err(JournalError::Lapsed) => {
                // Too much has happened elsewhere to be told one by one: begin anew, then decide again.
                match self.reload().await {
                    Ok(()) => self.again.extend(planned.into_iter().flat_map(requests_of)),
                    Err(error) => refuse(planned, &error),
                }
            }
            Err(error) => {
                tracing::error!(%error, "the journal did not take a commit");
                refuse(planned, &error.into());
            }
        }
        self.forget_folded();
    }

    /// Appends; where the answer is lost, asks again with the same groups, which is safe.
    async fn append(&self, groups: &[Group]) -> Result<Appended, JournalError> {
        let mut pause = UNKNOWN_PAUSE;
        for _ in 0..UNKNOWN_TRIES {
            let appended = self.shared.journal.append(self.head, groups.to_vec()).await;
            match appended {
                Ok(appended) if appended.outcomes.contains(&Outcome::Unknown) => {
                    tracing::warn!("the journal's answer was lost; asking again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        Err(JournalError::Unavailable("it was not told whether the change was written".into()))
    }

    /// Makes the table, then the watchers, follow events, each seq once.
    fn follow(&mut self, events: &[Event], decided: Instant) -> Result<(), TrackerError> {
        let shared = &self.shared;
        let mut is_work = false;
        let events = || events.iter().filter(|event| event.seq > self.head);
        {
            let mut table = shared.table_mut();
            for event in events() {
                table.apply(event).map_err(|error| TrackerError::Damaged(error.to_string()))?;
                is_work |= wakes_work(&table, event);
            }
        }
        let mut head = self.head;
        for event in events() {
            head = head.max(event.seq);
            shared.metrics.events_appended.inc();
            shared.registry.advance(event.seq);
            shared.registry.publish(event, decided);
        }
        self.head = head;
        if is_work {
            self.shared.work.send_replace(());
        }
        Ok(())
    }

    /// Answers those whose groups are committed; decides the others again.
    async fn answer(&mut self, planned: Vec<Planned>, outcomes: &[Outcome]) {
        let mut conflicts = Vec::new();
        {
            let table = self.shared.table();
            for (planned, outcome) in planned.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Conflict(channel) => conflicts.push((planned, channel)),
                    _ => answer_committed(planned, &table, self.head),
                }
            }
        }
        for (planned, channel) in conflicts {
            if let Err(error) = self.learn(channel).await {
                refuse(vec![planned], &error);
                continue;
            }
            for mut request in requests_of(planned) {
                request.conflicts += 1;
                if request.conflicts > CONFLICTS_MAX {
                    request.answer(Err(TrackerError::Busy));
                } else {
                    self.again.push_back(request);
                }
            }
        }
    }

    /// Loads the channel on which a group conflicted, where it is not in memory.
    async fn learn(&self, channel: &ChannelName) -> Result<(), TrackerError> {
        let Some(id) = channel.id() else { return Ok(()) };
        let known = {
            let table = self.shared.table();
            match channel.kind() {
                ChannelKind::Task => table.get(id).is_some() || table.is_gone(id),
                ChannelKind::Key => table.key(id).is_some(),
                ChannelKind::User => true,
            }
        };
        if known {
            return Ok(());
        }
        let Some(stored) = self.shared.journal.last(channel).await? else { return Ok(()) };
        let stands_for = take_in(&mut self.shared.table_mut(), id, &stored)?;
        match stands_for {
            // The task that a key stands for may have left memory too.
            Some(task_id) => Box::pin(self.learn(&ChannelName::task(task_id))).await,
            None => Ok(()),
        }
    }

    /// Reads the whole live table from the journal.
    async fn reload(&mut self) -> Result<(), TrackerError> {
        let head = self.shared.journal.head().await?;
        let mut entries = Vec::new();
        let mut created_before = None;
        loop {
            let listing = Listing {
                kind: ChannelKind::Task,
                members: Vec::new(),
                live_only: true,
                created_before,
                limit: RESTORE_PAGE,
            };
            let page = self.shared.journal.list(listing).await?;
            created_before = page.last().map(|stored| stored.created);
            let is_last = page.len() < RESTORE_PAGE;
            for stored in &page {
                entries.push(reads::entry(stored)?);
            }
            if is_last {
                break;
            }
        }
        let policy = *self.shared.table().policy();
        let mut table = Table::new(policy);
        entries.into_iter().for_each(|entry| table.restore(entry));
        *self.shared.table_mut() = table;
        self.head = head;
        self.shared.registry.advance(head);
        self.shared.registry.hang_up_all();
        self.shared.work.send_replace(());
        self.forget_folded();
        Ok(())
    }

    fn due_in(&self) -> Duration {
        let next = self.shared.table().next_due();
        next.map_or(SWEEP_INTERVAL, |at| at.since(self.shared.clock.now()))
    }

    fn due(&self) -> Vec<Request> {
        let due = self.shared.table().due(self.shared.clock.now(), BATCH_MAX);
        due.into_iter().map(|id| unasked(Change::Task(id, Intent::Due))).collect()
    }

    /// Finished tasks past their retention are forgotten.
    async fn sweep(&self, taken: &mut Vec<Request>) {
        let before: Timestamp = self.shared.clock.now().before(self.retention);
        match self.shared.journal.finished_before(before, BATCH_MAX).await {
            Ok(expired) => taken.extend(expired.into_iter().map(|(id, last)| unasked(Change::Expire(id, last)))),
            Err(error) => tracing::warn!(%error, "finished tasks could not be looked over"),
        }
        // A deleted task answers 410 for as long again as it was kept.
        if let Err(error) = self.shared.journal.sweep(before).await {
            tracing::warn!(%error, "old tombstones could not be swept");
        }
    }

    /// Lets go of what the journal can answer for, but not while it is needed to decide something again.
    fn forget_folded(&self) {
        if !self.again.is_empty() {
            return;
        }
        let folded_through = self.shared.journal.folded_through();
        let mut table = self.shared.table_mut();
        table.forget_folded(folded_through);
        let counts = table.counts();
        drop(table);
        for (status, count) in Status::ALL.iter().zip(counts) {
            self.shared.metrics.tasks_with(status.as_str()).set(count as i64);
        }
        self.shared.metrics.fold_lag_events.set(self.head.0.saturating_sub(folded_through.0) as i64);
    }
}

/// Whether those who do the work need to look at the table after this event.
fn wakes_work(table: &Table, event: &Event) -> bool {
    if event.class() == crate::event::Class::Tick || event.channel().kind() != ChannelKind::Task {
        return false;
    }
    let entry = event.channel().id().and_then(|id| table.get(id));
    entry.is_some_and(|entry| entry.task.status != Status::Processing)
}

/// Puts a row into the table; answers the task that it stands for, where it is a key's.
fn take_in(table: &mut Table, id: Uuid, stored: &Stored) -> Result<Option<Uuid>, TrackerError> {
    match (stored.channel.kind(), &stored.memo) {
        (ChannelKind::Task, _) if stored.gone => table.restore_gone(id, stored.last),
        (ChannelKind::Task, _) => table.restore(reads::entry(stored)?),
        (ChannelKind::Key, Some(memo)) => {
            let memo: KeyMemo = serde_json::from_slice(memo)
                .map_err(|_| TrackerError::Damaged(format!("{} does not hold a key", stored.channel)))?;
            table.restore_key(id, memo, stored.last);
            return Ok(Some(memo.task_id));
        }
        _ => {}
    }
    Ok(None)
}

fn unasked(change: Change) -> Request {
    Request { change, found: None, reply: None, conflicts: 0 }
}

fn requests_of(planned: Planned) -> impl Iterator<Item = Request> {
    planned.waiting.into_iter().map(|(request, _)| request)
}

fn answer_committed(planned: Planned, table: &Table, seq: Seq) {
    for (request, promise) in planned.waiting {
        let answer = promise.map(|Promise { task, changed }| Answer {
            entry: task.and_then(|id| table.get(id)).or(request.found.as_ref()).cloned(),
            seq,
            changed,
        });
        request.answer(answer);
    }
}

fn refuse(planned: Vec<Planned>, error: &TrackerError) {
    for request in planned.into_iter().flat_map(requests_of) {
        request.answer(Err(error.clone()));
    }
}
