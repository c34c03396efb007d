//! The journal as one service sees it: slow, away at times, with answers that get lost, and a log that is trimmed before
//! the service has read it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use progressd::{
    event::{ChannelKind, ChannelName, Epochs, History, Seq, Timestamp},
    journal::{Appended, Counted, Group, Journal, JournalError, Listing, Member, Outcome, Stored, Tail},
    testing::MemoryJournal,
};
use tokio::time::Instant;

use super::choices::Choices;

/// How long a call may take, on its way there and on its way back.
const SLOW: Duration = Duration::from_millis(40);

/// What happens to the calls of one life of a service.
pub(super) struct Fate {
    choices: Choices,
    pub(super) is_dead: AtomicBool,
    is_calm: AtomicBool,
    lapses: AtomicBool,
    away_until: Mutex<Option<Instant>>,
}

impl Fate {
    pub(super) fn new(choices: Choices, is_calm: bool) -> Arc<Self> {
        let (is_dead, is_calm, lapses) = (AtomicBool::default(), is_calm.into(), AtomicBool::default());
        Arc::new(Self { choices, is_dead, is_calm, lapses, away_until: Mutex::default() })
    }

    /// Nothing goes wrong by chance from now on.
    pub(super) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        self.go_away(Duration::ZERO);
    }

    /// The next time that others have written something, or that it writes, it has not followed for too long.
    pub(super) fn lapse(&self) {
        self.lapses.store(true, Ordering::Relaxed);
    }

    pub(super) fn go_away(&self, time: Duration) {
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    fn takes_lapse(&self) -> bool {
        self.lapses.swap(false, Ordering::Relaxed)
    }

    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// Whether something that happens to so many percent of the calls happens now.
    fn may(&self, percent: u64) -> bool {
        !self.is_calm() && self.choices.chance(percent)
    }

    /// The way there or back. Who is dead goes nowhere.
    async fn way(&self) -> Result<(), JournalError> {
        if !self.is_calm() {
            self.choices.pause(SLOW).await;
        }
        if self.is_dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let away = *self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_some_and(|until| Instant::now() < until) {
            return Err(JournalError::Unavailable("it is away".into()));
        }
        Ok(())
    }
}

/// How often a node looks for what others have appended.
const LOOKS_EVERY: Duration = Duration::from_millis(250);

pub(super) struct FatedJournal {
    pub(super) inner: MemoryJournal,
    pub(super) fate: Arc<Fate>,
}

#[async_trait]
impl Journal for FatedJournal {
    fn epochs(&self) -> &Epochs {
        self.inner.epochs()
    }

    fn node(&self) -> Option<&str> {
        self.inner.node()
    }

    fn time(&self) -> Option<Timestamp> {
        self.inner.time()
    }

    async fn follow(&self, known_head: Seq, limit: usize) -> Tail {
        if self.node().is_none() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(LOOKS_EVERY).await;
            if self.fate.may(1) {
                return Tail::Lapsed;
            }
            match self.tail(known_head, limit).await {
                Ok(Tail::Events(events)) if events.is_empty() => {}
                Ok(_) if self.fate.takes_lapse() => return Tail::Lapsed,
                Ok(found) => return found,
                Err(_) => {}
            }
        }
    }

    fn folded_through(&self) -> Seq {
        self.inner.folded_through()
    }

    async fn head(&self) -> Result<Seq, JournalError> {
        self.fate.way().await?;
        self.inner.head().await
    }

    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        self.fate.way().await?;
        let lost = || Appended { outcomes: vec![Outcome::Unknown; groups.len()], events: Vec::new() };
        if self.fate.may(3) {
            return Ok(lost());
        }
        if self.node().is_some() && (self.fate.may(2) || self.fate.takes_lapse()) {
            return Err(JournalError::Lapsed);
        }
        let appended = self.inner.append(known_head, groups.clone()).await;
        if self.fate.may(3) || self.fate.way().await.is_err() {
            return Ok(lost());
        }
        appended
    }

    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError> {
        self.fate.way().await?;
        self.inner.tail(after, limit).await
    }

    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError> {
        self.fate.way().await?;
        self.inner.read(channel, after).await
    }

    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError> {
        self.fate.way().await?;
        self.inner.read_many(channels).await
    }

    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError> {
        self.fate.way().await?;
        self.inner.last(channel).await
    }

    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        self.fate.way().await?;
        self.inner.last_many(channels).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError> {
        self.fate.way().await?;
        self.inner.list(listing).await
    }

    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Counted, JournalError> {
        self.fate.way().await?;
        self.inner.count(kind, member).await
    }

    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError> {
        self.fate.way().await?;
        self.inner.live(kind, after, limit).await
    }

    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError> {
        self.fate.way().await?;
        self.inner.finished_before(at, limit).await
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError> {
        self.fate.way().await?;
        self.inner.sweep(at, limit).await
    }

    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError> {
        self.fate.way().await?;
        self.inner.trim(kind, at, after, limit).await
    }

    async fn close(&self) -> Result<(), JournalError> {
        self.inner.close().await
    }
}
