//! A view: of many things that change, the latest change of each, released a few times a second as one piece of bytes that
//! all watchers share.
//!
//! A watcher that missed a release gets what changed since its own position; one that is below the view's floor is let
//! go, to begin anew. This module must not know what is viewed, nor what it was chosen by.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use uuid::Uuid;

use super::{Delivery, WakerSlots, Watch};
use crate::{
    event::Seq,
    wire::{Dialect, Frame},
};

/// A view that nobody watches is kept for so long, for clients that come back.
const VIEW_IDLE_MAX: Duration = Duration::from_secs(60);

/// How much a view keeps.
#[derive(Clone, Copy, Debug)]
pub struct ViewBounds {
    /// Most things of which it keeps the latest change.
    pub changes: usize,
    /// Most bytes of these changes.
    pub size_bytes: usize,
}

/// A view. Cheap to clone.
#[derive(Clone)]
pub struct View(Arc<Mutex<ViewState>>);

struct ViewState {
    bounds: ViewBounds,
    /// Changes at or before it are not all here.
    floor: Seq,
    latest: BTreeMap<Seq, (Uuid, Arc<Frame>)>,
    by_id: HashMap<Uuid, Seq>,
    size_bytes: usize,
    released: Release,
    /// What was given out last that has no place among the changes, and in which release.
    beside: (u64, Bytes),
    waiting: WakerSlots,
    watchers: usize,
    idle_since: Instant,
    draining: bool,
}

/// What a view gave out last.
#[derive(Default)]
struct Release {
    number: u64,
    from: Seq,
    to: Seq,
    bytes: Bytes,
}

/// A watcher of a view. Dropping it leaves the view.
pub struct ViewWatcher {
    view: View,
    slot: usize,
    position: Seq,
    /// The last release that it was given, or began after; zero for one that goes on.
    release: u64,
    _permit: OwnedSemaphorePermit,
}

impl View {
    /// An empty view: what changed at or before `through` is not in it.
    pub fn new(through: Seq, bounds: ViewBounds) -> Self {
        Self(Arc::new(Mutex::new(ViewState::new(through, bounds))))
    }

    /// Takes in a change of the thing with this id.
    pub fn push(&self, id: Uuid, frame: &Arc<Frame>) {
        self.lock().push(id, frame);
    }

    /// Gives out what is new, and these bytes, which have no place among the changes; answers whom to wake.
    pub fn release(&self, beside: Option<&Bytes>) -> Vec<Waker> {
        self.lock().release(beside)
    }

    /// Ends all streams after what there is; answers whom to wake.
    pub fn drain(&self) -> Vec<Waker> {
        let mut state = self.lock();
        state.draining = true;
        let released = state.release(None);
        released.into_iter().chain(state.waiting.take()).collect()
    }

    /// All watchers begin anew; answers whom to wake.
    pub fn end(&self) -> Vec<Waker> {
        let mut state = self.lock();
        state.floor = Seq(u64::MAX);
        state.waiting.take()
    }

    /// Whether somebody watches, or did a while ago.
    pub fn is_watched(&self) -> bool {
        let state = self.lock();
        state.watchers > 0 || Instant::now() < state.idle_since + VIEW_IDLE_MAX
    }

    /// Lets a watcher in. It goes on after `cursor` where that is still known, at or before `through`, and the answer
    /// says so; otherwise it begins where the view stands.
    pub fn watch(&self, cursor: Option<Seq>, through: Seq, permit: OwnedSemaphorePermit) -> (bool, ViewWatcher) {
        let mut state = self.lock();
        state.watchers += 1;
        let slot = state.waiting.enter();
        let resumed = cursor.filter(|cursor| (state.floor..=through).contains(cursor));
        // Where changes went before they were released, it begins after those.
        let position = resumed.unwrap_or(state.released.to.max(state.floor));
        // What was released is behind who begins; who goes on may have missed it.
        let release = if resumed.is_some() { 0 } else { state.released.number };
        drop(state);
        (resumed.is_some(), ViewWatcher { view: self.clone(), slot, position, release, _permit: permit })
    }

    fn lock(&self) -> MutexGuard<'_, ViewState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ViewState {
    fn new(through: Seq, bounds: ViewBounds) -> Self {
        Self {
            bounds,
            floor: through,
            latest: BTreeMap::new(),
            by_id: HashMap::new(),
            size_bytes: 0,
            released: Release { from: through, to: through, ..Release::default() },
            beside: (0, Bytes::new()),
            waiting: WakerSlots::default(),
            watchers: 0,
            idle_since: Instant::now(),
            draining: false,
        }
    }

    fn push(&mut self, id: Uuid, frame: &Arc<Frame>) {
        let seq = frame.seq();
        self.size_bytes += frame.event().draft.data.len();
        if let Some(before) = self.by_id.insert(id, seq) {
            self.forget(before);
        }
        self.latest.insert(seq, (id, Arc::clone(frame)));
        while self.latest.len() > self.bounds.changes || self.size_bytes > self.bounds.size_bytes {
            let Some((&oldest, (id, _))) = self.latest.first_key_value() else { break };
            self.by_id.remove(id);
            self.forget(oldest);
            self.floor = oldest;
        }
    }

    fn forget(&mut self, seq: Seq) {
        if let Some((_, frame)) = self.latest.remove(&seq) {
            self.size_bytes -= frame.event().draft.data.len();
        }
    }

    /// Gives out what is new; answers whom to wake.
    fn release(&mut self, beside: Option<&Bytes>) -> Vec<Waker> {
        let to = self.latest.last_key_value().map_or(self.released.to, |(seq, _)| *seq);
        if to == self.released.to && beside.is_none() {
            return Vec::new();
        }
        let Release { number, to: from, .. } = self.released;
        if let Some(beside) = beside {
            self.beside = (number + 1, beside.clone());
        }
        let bytes = self.missed(from, to, number).concat().into();
        self.released = Release { number: number + 1, from, to, bytes };
        self.waiting.take()
    }

    /// What changed after `from`, and what was given out beside the changes after the release of this number.
    fn missed(&self, from: Seq, to: Seq, release: u64) -> Vec<Bytes> {
        let changes = (from < to).then(|| self.latest.range(from.next()..=to)).into_iter().flatten();
        let changes = changes.map(|(_, (_, frame))| frame.bytes(Dialect::Progress));
        let (given_in, beside) = &self.beside;
        changes.chain((*given_in > release).then(|| beside.clone())).collect()
    }
}

impl ViewWatcher {
    /// Everything at or before it is in the page that is read from now on, or has been delivered.
    pub fn position(&self) -> Seq {
        self.position
    }
}

impl Watch for ViewWatcher {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        let mut view = self.view.lock();
        if self.position < view.floor {
            return Poll::Ready(Delivery::Lapsed);
        }
        let Release { number, from, to, .. } = view.released;
        if number != self.release {
            // Most have had all that came before, and share these bytes.
            let is_next = self.position == from && self.release + 1 == number;
            let shared = is_next.then(|| view.released.bytes.clone());
            let missed = if is_next { Vec::new() } else { view.missed(self.position, to, self.release) };
            (self.position, self.release) = (self.position.max(to), number);
            if shared.is_some() || !missed.is_empty() {
                // It may be long: not under the lock, for which the writer waits.
                drop(view);
                return Poll::Ready(Delivery::Bytes(shared.unwrap_or_else(|| missed.concat().into())));
            }
        }
        if view.draining {
            return Poll::Ready(Delivery::Draining);
        }
        view.waiting.wait(self.slot, context.waker());
        Poll::Pending
    }
}

impl Drop for ViewWatcher {
    fn drop(&mut self) {
        let mut view = self.view.lock();
        view.waiting.leave(self.slot);
        view.watchers -= 1;
        view.idle_since = Instant::now();
    }
}
