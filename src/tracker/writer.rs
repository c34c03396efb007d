//! The writer: the only one who changes the table.
//!
//! Time is looked after here too: between two batches it asks the table which tasks are due and the journal which are
//! past their retention, and decides these like any other request. It must not know how requests reach it, nor who
//! reads the table.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Request, Shared, TrackerError,
    batch::{Batch, Change, Plan, Promise, Waiting},
};
use crate::{
    event::{ChannelKind, Class, Event, Seq},
    journal::{Appended, Group, JournalError, Outcome},
    task::{Intent, Status, Table},
};

/// Most requests in one commit.
const BATCH_MAX: usize = 1024;
/// How often finished tasks are looked over for those past their retention.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How often a request may be decided again because of other nodes' events before its caller is told to come again.
const CONFLICTS_MAX: u32 = 16;
/// How often a lost answer is asked for again, with a growing pause in between.
const UNKNOWN_TRIES: u32 = 6;
/// The first of these pauses.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(50);
/// After a failed commit, what nobody waits for is tried again only after this pause.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// After the start, nobody's time is over before this pause: while nothing ran, nobody could say that they are there.
const START_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    /// What is to be decided before anything else; what it needs to be decided upon stays in memory.
    pub(super) again: VecDeque<Request>,
    /// The last seq that the table has followed.
    pub(super) head: Seq,
    retention: Duration,
    sweep_at: Instant,
    /// Timers rest until then.
    rest_until: Instant,
    /// Whether events may have been written that the table has not followed.
    is_behind: bool,
}

impl Writer {
    /// A writer whose table is as the journal says.
    pub(super) async fn restore(
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Request>,
        retention: Duration,
    ) -> Result<Self, TrackerError> {
        let now = Instant::now();
        let mut writer = Self {
            shared,
            queue,
            again: VecDeque::new(),
            head: Seq::ZERO,
            retention,
            sweep_at: now,
            rest_until: now + START_PAUSE,
            is_behind: false,
        };
        writer.reload().await?;
        Ok(writer)
    }

    /// Takes requests until it is told to stop, then those that were accepted before, and closes the journal.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(BATCH_MAX);
        loop {
            if self.again.is_empty() {
                let timers_at = self.timers_at();
                tokio::select! {
                    biased;
                    () = stop.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                    count = self.queue.recv_many(&mut taken, BATCH_MAX) => {
                        if count == 0 { break; }
                    }
                    () = tokio::time::sleep_until(timers_at) => {}
                }
            }
            // Here, not in the select: a queue that is never empty must not keep time from passing.
            self.take_timers(&mut taken).await;
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
        let decided = StdInstant::now();
        let Plan { groups, waiting, later } = self.plan(requests).await;
        self.again.extend(later);
        if groups.is_empty() && !self.is_behind {
            return self.forget_folded();
        }
        match self.append(&groups).await {
            Ok(appended) => {
                self.is_behind = false;
                self.shared.metrics.commit_seconds.observe(decided.elapsed().as_secs_f64());
                self.shared.metrics.batch_events.observe(appended.events.len() as f64);
                match self.follow(&appended.events, decided) {
                    Ok(()) => self.answer(waiting, &appended.outcomes).await,
                    Err(error) => self.fail(waiting, &error),
                }
            }
            Err(JournalError::Lapsed) => {
                // Too much has happened elsewhere to be told one by one: begin anew, then decide again.
                match self.reload().await {
                    Ok(()) => {
                        self.is_behind = false;
                        waiting.into_iter().flatten().for_each(|(request, _)| self.decide_again(request));
                    }
                    Err(error) => self.fail(waiting, &error),
                }
            }
            Err(error) => self.fail(waiting, &error.into()),
        }
        self.forget_folded();
    }

    async fn plan(&self, requests: Vec<Request>) -> Plan {
        let mut decidable = Vec::with_capacity(requests.len());
        for request in requests {
            match self.learn_end(&request).await {
                Ok(()) => decidable.push(request),
                Err(error) => request.answer(Err(error)),
            }
        }
        let table = self.shared.table();
        let mut batch = Batch::new(&table, self.shared.clock.now());
        decidable.into_iter().for_each(|request| batch.add(request));
        batch.into_plan()
    }

    /// Appends; where the answer is lost, asks again with the same groups, which is safe. Once an answer was lost, no
    /// error means that nothing was written.
    async fn append(&mut self, groups: &[Group]) -> Result<Appended, JournalError> {
        let mut pause = UNKNOWN_PAUSE;
        let mut was_lost = false;
        for _ in 0..UNKNOWN_TRIES {
            match self.shared.journal.append(self.head, groups.to_vec()).await {
                Ok(appended) if !appended.outcomes.contains(&Outcome::Unknown) => return Ok(appended),
                Err(error) if !was_lost => return Err(error),
                // What would tell is trimmed.
                Err(JournalError::Lapsed) => break,
                Ok(_) => tracing::warn!("the journal's answer was lost; asking again"),
                Err(error) => tracing::warn!(%error, "the journal does not tell of a lost answer; asking again"),
            }
            was_lost = true;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.is_behind = true;
        Err(JournalError::Unavailable("it was not told whether the change was written".into()))
    }

    /// Makes the table, then the watchers, follow the events after the head: so each is followed once.
    fn follow(&mut self, events: &[Event], decided: StdInstant) -> Result<(), TrackerError> {
        let shared = &self.shared;
        let mut is_work = false;
        for event in events {
            // The lock is taken for each, so that readers need not wait for a whole batch.
            let mut table = shared.table_mut();
            table.apply(event)?;
            is_work |= wakes_work(&table, event);
        }
        for event in events {
            shared.metrics.events_appended.inc();
            shared.registry.advance(event.seq);
            shared.registry.publish(event, decided);
        }
        self.head = events.last().map_or(self.head, |event| event.seq);
        if is_work {
            self.shared.work.send_replace(());
        }
        Ok(())
    }

    /// Answers those whose groups are committed; decides the others again.
    async fn answer(&mut self, waiting: Vec<Waiting>, outcomes: &[Outcome]) {
        let mut conflicts = Vec::new();
        {
            let table = self.shared.table();
            for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Conflict(channel) => conflicts.push((waiting, channel)),
                    _ => answer_committed(waiting, &table, self.head),
                }
            }
        }
        for (waiting, channel) in conflicts {
            match self.learn(channel).await {
                Ok(()) => waiting.into_iter().for_each(|(request, _)| self.decide_again(request)),
                Err(error) => refuse(waiting, &error),
            }
        }
    }

    fn decide_again(&mut self, mut request: Request) {
        request.conflicts += 1;
        if request.conflicts > CONFLICTS_MAX {
            request.answer(Err(TrackerError::Busy));
        } else if !matches!(request.change, Change::Expire(..)) {
            // What was to expire has had another event: the next sweep looks again.
            self.again.push_back(request);
        }
    }

    /// Nothing came of a commit.
    fn fail(&mut self, waiting: Vec<Waiting>, error: &TrackerError) {
        tracing::error!(%error, "a commit failed");
        self.rest_until = Instant::now() + FAILURE_PAUSE;
        waiting.into_iter().for_each(|waiting| refuse(waiting, error));
    }

    /// When something is to be done that nobody asks for.
    fn timers_at(&self) -> Instant {
        let now = Instant::now();
        let due_at = self.shared.table().next_due().map(|at| now + at.since(self.shared.clock.now()));
        let behind_until = self.is_behind.then_some(now);
        due_at.into_iter().chain(behind_until).fold(self.sweep_at, Instant::min).max(self.rest_until)
    }

    async fn take_timers(&mut self, taken: &mut Vec<Request>) {
        let now = Instant::now();
        if now < self.rest_until {
            return;
        }
        let due = self.shared.table().due(self.shared.clock.now(), BATCH_MAX);
        taken.extend(due.into_iter().map(|id| unasked(Change::Task(id, Intent::Due))));
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_INTERVAL;
            self.sweep(taken).await;
        }
    }

    /// Finished tasks past their retention are forgotten.
    async fn sweep(&mut self, taken: &mut Vec<Request>) {
        let before = self.shared.clock.now().before(self.retention);
        match self.shared.journal.finished_before(before, BATCH_MAX).await {
            Ok(expired) => {
                if expired.len() == BATCH_MAX {
                    // There may be more: go on after this batch.
                    self.sweep_at = Instant::now();
                }
                taken.extend(expired.into_iter().map(|(id, last)| unasked(Change::Expire(id, last))));
            }
            Err(error) => tracing::warn!(%error, "finished tasks could not be looked over"),
        }
        // A deleted task answers 410 for as long again as it was kept.
        if let Err(error) = self.shared.journal.sweep(before).await {
            tracing::warn!(%error, "old tombstones could not be swept");
        }
    }

    /// Lets go of what the journal can answer for, but not while it is needed to decide something again.
    pub(super) fn forget_folded(&self) {
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
    if event.class() == Class::Tick || event.channel().kind() != ChannelKind::Task {
        return false;
    }
    let entry = event.channel().id().and_then(|id| table.get(id));
    entry.is_some_and(|entry| entry.task.status != Status::Processing)
}

fn unasked(change: Change) -> Request {
    Request { change, found: None, reply: None, conflicts: 0 }
}

fn answer_committed(waiting: Waiting, table: &Table, seq: Seq) {
    for (request, promise) in waiting {
        let found = |id| request.found.as_ref().filter(|_| !table.is_gone(id));
        let answer = promise.map(|Promise { task, changed }| Answer {
            entry: task.and_then(|id| table.get(id).or_else(|| found(id))).cloned(),
            seq,
            changed,
        });
        request.answer(answer);
    }
}

fn refuse(waiting: Waiting, error: &TrackerError) {
    for (request, _) in waiting {
        request.answer(Err(error.clone()));
    }
}
