//! A journal on which something happens before every append, which counts what is looked up, and whose sweeps can be
//! held.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::{
    event::{ChannelKind, Epochs, History, Timestamp},
    journal::{Appended, Listing, Member, Stored},
};

type Before = dyn Fn(&MemoryJournal, &[Group]) -> Result<(), JournalError> + Send + Sync;

pub(super) struct Haunted {
    inner: MemoryJournal,
    before: Box<Before>,
    seen: Arc<Seen>,
}

/// What it was asked, and what it does not answer.
#[derive(Default)]
pub(super) struct Seen {
    /// Look-ups of single channels.
    pub(super) single: AtomicUsize,
    /// Look-ups of many at once.
    pub(super) many: AtomicUsize,
    /// While it is set, no sweep comes back.
    pub(super) holds_sweeps: AtomicBool,
}

impl Haunted {
    /// A tracker on a journal to which `before` happens before every append, with the groups that are to be appended;
    /// where it fails, so does the append.
    pub(super) async fn rig(
        before: impl Fn(&MemoryJournal, &[Group]) -> Result<(), JournalError> + Send + Sync + 'static,
    ) -> Rig {
        Self::seen_rig(before).await.0
    }

    /// The same, with what it was asked.
    pub(super) async fn seen_rig(
        before: impl Fn(&MemoryJournal, &[Group]) -> Result<(), JournalError> + Send + Sync + 'static,
    ) -> (Rig, Arc<Seen>) {
        let (journal, seen) = (MemoryJournal::new(), Arc::<Seen>::default());
        let haunted = Self { inner: journal.clone(), before: Box::new(before), seen: Arc::clone(&seen) };
        (Rig::behind(journal, Arc::new(haunted), 4_096, Clock::runtime()).await, seen)
    }
}

#[async_trait]
impl Journal for Haunted {
    fn epochs(&self) -> &Epochs {
        self.inner.epochs()
    }

    fn folded_through(&self) -> Seq {
        self.inner.folded_through()
    }

    async fn head(&self) -> Result<Seq, JournalError> {
        self.inner.head().await
    }

    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        // As from any other journal, the answer takes a while.
        tokio::task::yield_now().await;
        (self.before)(&self.inner, &groups)?;
        self.inner.append(known_head, groups).await
    }

    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError> {
        self.inner.tail(after, limit).await
    }

    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError> {
        self.inner.read(channel, after).await
    }

    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError> {
        self.inner.read_many(channels).await
    }

    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError> {
        self.seen.single.fetch_add(1, Ordering::Relaxed);
        self.inner.last(channel).await
    }

    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        self.seen.many.fetch_add(1, Ordering::Relaxed);
        self.inner.last_many(channels).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError> {
        self.inner.list(listing).await
    }

    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Vec<(String, u64)>, JournalError> {
        self.inner.count(kind, member).await
    }

    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError> {
        self.inner.live(kind, after, limit).await
    }

    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError> {
        self.inner.finished_before(at, limit).await
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError> {
        if self.seen.holds_sweeps.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.inner.sweep(at, limit).await
    }

    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError> {
        self.inner.trim(kind, at, after, limit).await
    }

    async fn close(&self) -> Result<(), JournalError> {
        self.inner.close().await
    }
}
