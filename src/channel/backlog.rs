//! The bounded log of one channel: what its watchers read, each at their own place.

use std::{collections::VecDeque, sync::Arc};

use super::join::{Join, WaitingSince};
use crate::{
    event::{Class, Epochs, History, HistorySize, Resume, Seq},
    wire::Frame,
};

/// Every event other than a tick, up to the bound of the journal's history, and the latest tick; of a topic, its value too.
#[derive(Debug)]
pub(super) struct Backlog {
    bound: HistorySize,
    floor: Seq,
    kept: VecDeque<Arc<Frame>>,
    /// That of all that is kept.
    size: HistorySize,
    tick: Option<Arc<Frame>>,
    /// The newest change that was trimmed.
    value: Option<Arc<Frame>>,
}

impl Backlog {
    pub(super) fn new(bound: HistorySize) -> Self {
        let size = HistorySize::default();
        Self { bound, floor: Seq::ZERO, kept: VecDeque::new(), size, tick: None, value: None }
    }

    /// Takes in what the journal holds. What is here already is older, newer, or the same: where they overlap, the
    /// journal's counts. Whoever stands before a gap is below the floor then.
    pub(super) fn fill(&mut self, history: History, epochs: &Epochs) {
        let known = std::mem::replace(self, Self::new(self.bound));
        self.floor = history.floor;
        for event in history.events {
            let frame = Arc::new(Frame::new(epochs.of(event.seq), event, None));
            if frame.seq() <= self.floor {
                self.value = Some(frame);
            } else {
                self.push(frame);
            }
        }
        self.value = known.value.into_iter().chain(self.value.take()).max_by_key(|frame| frame.seq());
        if known.floor > self.last() {
            self.floor = known.floor;
        }
        let mut later: Vec<_> = known.kept.into_iter().chain(known.tick).collect();
        later.sort_by_key(|frame| frame.seq());
        later.into_iter().for_each(|frame| self.push(frame));
    }

    /// Adds a frame; one that is not newer than the last changes nothing.
    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        if frame.seq() <= self.last() {
            return;
        }
        if frame.class() == Class::Tick {
            self.tick = Some(frame);
            return;
        }
        self.size = self.size.with(frame.event());
        self.kept.push_back(frame);
        while !self.size.is_within(self.bound)
            && let Some(trimmed) = self.kept.pop_front()
        {
            self.size = self.size.without(trimmed.event().size_bytes()).unwrap_or_default();
            self.floor = self.floor.max(trimmed.seq());
            self.value = Some(trimmed).filter(|trimmed| trimmed.class() == Class::Change).or(self.value.take());
        }
    }

    /// Seq of the last frame, or of the floor where that is all there is.
    pub(super) fn last(&self) -> Seq {
        self.latest().map_or(self.floor, |frame| frame.seq().max(self.floor))
    }

    /// Whether a watcher who stands here has seen the end.
    pub(super) fn has_ended_at(&self, position: Seq) -> bool {
        self.latest().is_some_and(|frame| frame.class() == Class::Final && frame.seq() <= position)
    }

    /// The newest event that is a state of the channel.
    fn state(&self) -> Option<&Arc<Frame>> {
        let kept = self.kept.iter().rev().find(|frame| frame.class() != Class::Notice);
        kept.into_iter().chain(&self.tick).chain(&self.value).max_by_key(|frame| frame.seq())
    }

    /// The newest event.
    pub(super) fn latest(&self) -> Option<&Arc<Frame>> {
        self.kept.back().into_iter().chain(&self.tick).max_by_key(|frame| frame.seq())
    }

    pub(super) fn floor(&self) -> Seq {
        self.floor
    }

    /// The first frame after `position`.
    pub(super) fn next(&self, position: Seq) -> Option<&Arc<Frame>> {
        let index = self.kept.partition_point(|frame| frame.seq() <= position);
        let tick = self.tick.as_ref().filter(|tick| tick.seq() > position);
        self.kept.get(index).into_iter().chain(tick).min_by_key(|frame| frame.seq())
    }

    /// The frames after `position`, in seq order.
    pub(super) fn after(&self, position: Seq) -> impl Iterator<Item = &Arc<Frame>> {
        let mut next = self.next(position);
        std::iter::from_fn(move || {
            let frame = next?;
            next = self.next(frame.seq());
            Some(frame)
        })
    }

    /// How a watcher begins, and where it then stands. A held tick is newer than the log.
    pub(super) fn join(&self, resume: Resume, epochs: &Epochs, head: Seq, held: Option<&Arc<Frame>>) -> (Join, Seq) {
        let latest = held.or(self.state()).cloned();
        let last = held.map_or(self.last(), |held| held.seq());
        let seq = match resume {
            Resume::First => return (Join::First(latest), last),
            Resume::After(cursor) if epochs.know(cursor) && cursor.seq <= head.max(last) => cursor.seq,
            Resume::After(_) | Resume::Unreadable => return (Join::Reset(latest), last),
        };
        if self.has_ended_at(seq) {
            (Join::Ended, last)
        } else if seq < self.floor {
            (Join::Reset(latest), last)
        } else {
            (Join::Resumed, seq)
        }
    }

    /// The same for a watcher for whom events wait.
    pub(super) fn join_waiting(
        &self,
        waiting: &WaitingSince,
        resume: Resume,
        epochs: &Epochs,
        head: Seq,
    ) -> (Join, Seq) {
        let too_old = self.kept.iter().take_while(|frame| frame.event().at < waiting.not_before);
        let floor = too_old.last().map_or(self.floor, |frame| frame.seq().max(self.floor));
        let first = waiting.seen.max(waiting.joined).max(floor);
        match resume {
            Resume::First => (Join::Waiting, first),
            Resume::After(cursor) if epochs.know(cursor) && cursor.seq <= head.max(self.last()) => {
                let seq = cursor.seq.max(waiting.joined);
                if seq >= floor { (Join::Resumed, seq) } else { (Join::Reset(None), first) }
            }
            Resume::After(_) | Resume::Unreadable => (Join::Reset(None), first),
        }
    }
}
