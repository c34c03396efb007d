//! A journal around another one, whichever it is, that tests can make misbehave: foreign events, lost answers, failures,
//! held appends, a held fold; and that counts what it was asked.
//!
//! Each append is folded at once, unless a test wants it otherwise. What the store within does on threads of its own, a paused
//! clock waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use async_trait::async_trait;

use super::gate::{AppendGate, Gate};
use crate::{
    event::{ChannelKind, ChannelName, Epoch, Epochs, History, Seq, Timestamp},
    journal::{Appended, Counted, Group, Journal, JournalError, Listing, Member, Outcome, Stored, Tail},
};

/// What became of an append whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostAnswer {
    /// It was committed (but for groups that conflicted).
    Committed,
    /// Nothing of it was committed.
    NotCommitted,
}

/// What happens before every append, with the groups that are to be appended; where it fails, so does the append.
type BeforeAppend = dyn FnMut(&mut Faults, &[Group]) -> Result<(), JournalError> + Send;

/// What will go wrong, and what has been counted.
#[derive(Default)]
pub struct Faults {
    /// Committed just before the next append is evaluated.
    pub foreign_before_next_append: Vec<Group>,
    /// What becomes of the next append, whose answer is lost.
    pub lost_answer: Option<LostAnswer>,
    failure: Option<JournalError>,
    before_append: Option<Box<BeforeAppend>>,
    sweeps_held: bool,
    look_up_lost: bool,
    folding: Folding,
    appends: usize,
    groups: usize,
    look_ups: LookUps,
}

/// When the store folds.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Folding {
    /// With each append.
    #[default]
    AtOnce,
    /// When it likes to.
    Late,
    /// As far as anyone is told, not beyond this.
    HeldAt(Seq),
}

/// How often the last events of channels were looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookUps {
    /// Of single channels.
    pub single: usize,
    /// Of many at once.
    pub many: usize,
}

/// What the journal with the faults needs of the one within.
#[async_trait]
pub trait TestStore: Send + Sync + 'static {
    /// The journal itself.
    fn journal(&self) -> &dyn Journal;
    /// Folds everything now.
    async fn fold(&self);
    /// Whether it works on threads that the runtime does not know.
    fn has_threads(&self) -> bool;
    /// The same store, open again after it was closed: a restart.
    fn reopened(&self) -> Arc<dyn TestStore>;
}

/// A journal that can be made to fail. Cheap to clone: clones share the store and the faults.
pub struct FaultyJournal<S: ?Sized> {
    faults: Arc<Mutex<Faults>>,
    gate: Arc<Gate>,
    pub(super) store: Arc<S>,
}

impl<S: ?Sized> Clone for FaultyJournal<S> {
    fn clone(&self) -> Self {
        Self { faults: Arc::clone(&self.faults), gate: Arc::clone(&self.gate), store: Arc::clone(&self.store) }
    }
}

impl FaultyJournal<dyn TestStore> {
    /// The same store, open again after it was closed: a restart. The faults stay.
    #[must_use]
    pub fn reopened(&self) -> Self {
        self.moved_to(self.store.reopened())
    }
}

impl<S: TestStore + ?Sized> FaultyJournal<S> {
    /// A journal without faults so far.
    pub fn around(store: Arc<S>) -> Self {
        Self { faults: Arc::default(), gate: Arc::default(), store }
    }

    /// The same faults around another store.
    pub(super) fn moved_to(&self, store: Arc<S>) -> Self {
        Self { store, ..self.clone() }
    }

    /// Commits events of another node now, and answers whether what the group expects held.
    pub async fn foreign(&self, group: Group) -> bool {
        let is_committed = self.commit_foreign(group).await;
        self.fold_at_once().await;
        is_committed
    }

    /// Commits events of another node just before the next append is evaluated, so that what that expects may not hold.
    pub fn foreign_before_next_append(&self, group: Group) {
        self.faults().foreign_before_next_append.push(group);
    }

    /// The next append answers that the outcome of all its groups is unknown.
    pub fn lose_next_answer(&self, lost: LostAnswer) {
        self.faults().lost_answer = Some(lost);
    }

    /// The next append fails so, with nothing committed.
    pub fn fail_next_append(&self, error: JournalError) {
        self.faults().failure = Some(error);
    }

    /// From now on this happens before every append; where it fails, so does the append.
    pub fn before_append(&self, act: impl FnMut(&mut Faults, &[Group]) -> Result<(), JournalError> + Send + 'static) {
        self.faults().before_append = Some(Box::new(act));
    }

    /// Holds every append, before anything of it is evaluated, until the gate is dropped.
    pub fn hold_appends(&self) -> AppendGate {
        self.gate.holds.send_modify(|holds| *holds += 1);
        AppendGate { gate: Arc::clone(&self.gate) }
    }

    /// Cuts the store off: nothing is appended, and nothing is heard of others. Or ends that.
    pub fn cut(&self, is_cut: bool) {
        self.gate.is_cut.send_replace(is_cut);
    }

    /// The next look-up of many channels answers what the store loses at once, with the end of its life.
    pub fn lose_next_look_up(&self) {
        self.faults().look_up_lost = true;
    }

    /// Lets it hear of what others append only with the answers to its own appends. Or ends that.
    pub fn deafen(&self, is_deaf: bool) {
        self.gate.is_deaf.send_replace(is_deaf);
    }

    /// From now on no sweep comes back.
    pub fn hold_sweeps(&self) {
        self.faults().sweeps_held = true;
    }

    /// From now on the store folds when it likes to.
    pub fn fold_late(&self) {
        self.faults().folding = Folding::Late;
    }

    /// Leaves `folded_through` where it is until [`FaultyJournal::fold`].
    pub fn hold_fold(&self) {
        let through = self.folded_through();
        self.faults().folding = Folding::HeldAt(through);
    }

    /// Folds everything now, and again after each append.
    pub async fn fold(&self) {
        self.faults().folding = Folding::AtOnce;
        self.fold_at_once().await;
    }

    /// How often append was called.
    pub fn appends(&self) -> usize {
        self.faults().appends
    }

    /// How many groups were evaluated or lost.
    pub fn groups(&self) -> usize {
        self.faults().groups
    }

    /// How often it was asked for the last events of channels.
    pub fn look_ups(&self) -> LookUps {
        self.faults().look_ups
    }

    async fn fold_at_once(&self) {
        if self.faults().folding == Folding::AtOnce {
            let _busy = self.busy();
            self.store.fold().await;
        }
    }

    async fn commit_foreign(&self, group: Group) -> bool {
        let _busy = self.busy();
        let journal = self.store.journal();
        let Ok(head) = journal.head().await else { return false };
        let appended = journal.append(head, vec![group]).await;
        appended.is_ok_and(|appended| appended.outcomes == [Outcome::Committed])
    }

    /// What is to go wrong with this append.
    fn next_fault(&self, groups: &[Group]) -> Result<(Vec<Group>, Option<LostAnswer>), JournalError> {
        let mut faults = self.faults();
        if let Some(mut act) = faults.before_append.take() {
            let acted = act(&mut faults, groups);
            faults.before_append = Some(act);
            acted?;
        }
        if let Some(error) = faults.failure.take() {
            return Err(error);
        }
        faults.groups += groups.len();
        Ok((std::mem::take(&mut faults.foreign_before_next_append), faults.lost_answer.take()))
    }

    fn busy(&self) -> Option<Busy> {
        self.store.has_threads().then(Busy::begin)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        // No call under the lock leaves the faults half-changed, so a panic elsewhere is no reason to stop.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: TestStore + ?Sized> Journal for FaultyJournal<S> {
    fn epochs(&self) -> &Epochs {
        self.store.journal().epochs()
    }

    fn node(&self) -> Option<&str> {
        self.store.journal().node()
    }

    fn time(&self) -> Option<Timestamp> {
        self.store.journal().time()
    }

    fn adopt(&self, epoch: Epoch) {
        self.store.journal().adopt(epoch);
    }

    async fn follow(&self, known_head: Seq, limit: usize) -> Tail {
        self.gate.is_connected().await;
        let heard = self.store.journal().follow(known_head, limit).await;
        self.gate.hears().await;
        heard
    }

    fn folded_through(&self) -> Seq {
        match self.faults().folding {
            Folding::HeldAt(seq) => seq,
            Folding::AtOnce | Folding::Late => self.store.journal().folded_through(),
        }
    }

    async fn head(&self) -> Result<Seq, JournalError> {
        self.store.journal().head().await
    }

    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        self.faults().appends += 1;
        self.gate.pass().await;
        if *self.gate.is_cut.borrow() {
            return Err(JournalError::Unavailable("it is cut off".into()));
        }
        if self.faults().before_append.is_some() {
            // As from any other journal, the answer takes a while.
            tokio::task::yield_now().await;
        }
        let (foreign, lost) = self.next_fault(&groups)?;
        for group in foreign {
            self.commit_foreign(group).await;
        }
        let outcomes = vec![Outcome::Unknown; groups.len()];
        let unknown = Appended { outcomes, events: Vec::new() };
        if lost == Some(LostAnswer::NotCommitted) {
            return Ok(unknown);
        }
        let busy = self.busy();
        let appended = self.store.journal().append(known_head, groups).await?;
        drop(busy);
        if lost.is_some() {
            return Ok(unknown);
        }
        self.fold_at_once().await;
        Ok(appended)
    }

    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError> {
        self.store.journal().tail(after, limit).await
    }

    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError> {
        self.store.journal().read(channel, after).await
    }

    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError> {
        self.store.journal().read_many(channels).await
    }

    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError> {
        self.faults().look_ups.single += 1;
        self.store.journal().last(channel).await
    }

    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        self.faults().look_ups.many += 1;
        let mut found = self.store.journal().last_many(channels).await?;
        if std::mem::take(&mut self.faults().look_up_lost) {
            found.iter_mut().flatten().for_each(|stored| stored.last = Seq(stored.last.0 + 1_000));
        }
        Ok(found)
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError> {
        self.store.journal().list(listing).await
    }

    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Counted, JournalError> {
        self.store.journal().count(kind, member).await
    }

    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError> {
        self.store.journal().live(kind, after, limit).await
    }

    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError> {
        self.store.journal().finished_before(at, limit).await
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError> {
        if self.faults().sweeps_held {
            std::future::pending::<()>().await;
        }
        let _busy = self.busy();
        self.store.journal().sweep(at, limit).await
    }

    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError> {
        let _busy = self.busy();
        self.store.journal().trim(kind, at, after, limit).await
    }

    async fn close(&self) -> Result<(), JournalError> {
        let _busy = self.busy();
        self.store.journal().close().await
    }
}

/// While it is held, a paused clock does not move by itself: the runtime sees only its own blocking threads at work.
struct Busy {
    _end: mpsc::SyncSender<()>,
}

impl Busy {
    fn begin() -> Self {
        let (end, ended) = mpsc::sync_channel(0);
        tokio::task::spawn_blocking(move || ended.recv());
        Self { _end: end }
    }
}
