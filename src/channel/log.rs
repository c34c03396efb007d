//! The bounded log of one channel, and how a watcher joins it.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    event::{ChannelName, Class, Cursor, Epochs, History, Resume, Seq, Timestamp},
    wire::Frame,
};

/// A channel that is to be watched.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The channel.
    pub channel: ChannelName,
    /// Which of its events wait for this watcher; `None` for a channel whose state is shown.
    pub waiting: Option<WaitingSince>,
}

impl Wanted {
    /// A channel whose state is shown.
    pub fn state(channel: &ChannelName) -> Self {
        Self { channel: channel.clone(), waiting: None }
    }
}

/// Which events of a channel wait for a watcher.
#[derive(Clone, Copy, Debug)]
pub struct WaitingSince {
    /// Those after it, if the watcher has no cursor.
    pub seen: Seq,
    /// None at or before it, whatever the cursor.
    pub joined: Seq,
    /// None that are older.
    pub not_before: Timestamp,
}

/// How a watcher of several channels begins.
#[derive(Clone, Debug)]
pub struct Joined {
    /// How it begins on each.
    pub channels: Vec<(ChannelName, Join)>,
    /// Where it stands once it has been shown that; `None` where it goes on from where it was on some of them.
    pub position: Option<Cursor>,
    /// Whether events at or before that position wait for it: it stands there only after them.
    pub has_waiting: bool,
}

/// How a watcher begins.
#[derive(Clone, Debug)]
pub enum Join {
    /// With the current state, where there is one.
    First(Option<Arc<Frame>>),
    /// With what waits for it.
    Waiting,
    /// With what comes after its cursor.
    Resumed,
    /// Its cursor is of no use: with the current state, declared as a reset.
    Reset(Option<Arc<Frame>>),
    /// It has seen the end.
    Ended,
}

impl Join {
    /// The state that is shown first, where there is one.
    pub fn state(&self) -> Option<&Arc<Frame>> {
        match self {
            Self::First(state) | Self::Reset(state) => state.as_ref(),
            Self::Waiting | Self::Resumed | Self::Ended => None,
        }
    }

    /// The same, where nothing is shown first.
    pub(super) fn without_state(self) -> Self {
        match self {
            Self::First(_) => Self::First(None),
            Self::Reset(_) => Self::Reset(None),
            other => other,
        }
    }

    /// Whether what the watcher knew is void.
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Reset(_))
    }
}

/// Every event other than a tick, up to a bound, and the latest tick; of a topic, its value too.
#[derive(Debug)]
pub(super) struct Backlog {
    bound: usize,
    floor: Seq,
    kept: VecDeque<Arc<Frame>>,
    tick: Option<Arc<Frame>>,
    /// The newest change that was trimmed.
    value: Option<Arc<Frame>>,
}

impl Backlog {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound: bound.max(1), floor: Seq::ZERO, kept: VecDeque::new(), tick: None, value: None }
    }

    /// Puts what the journal holds before what the log has got meanwhile; where they overlap, the journal's counts.
    pub(super) fn fill(&mut self, history: History, epochs: &Epochs) {
        let meanwhile = std::mem::replace(self, Self::new(self.bound));
        self.floor = history.floor;
        for event in history.events {
            let frame = Arc::new(Frame::new(epochs.of(event.seq), event, None));
            if frame.seq() <= self.floor {
                self.value = Some(frame);
            } else {
                self.push(frame);
            }
        }
        self.value = meanwhile.value.or(self.value.take());
        if meanwhile.floor > self.last() {
            self.floor = meanwhile.floor;
        }
        let mut later: Vec<_> = meanwhile.kept.into_iter().chain(meanwhile.tick).collect();
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
        self.kept.push_back(frame);
        while self.kept.len() > self.bound {
            if let Some(trimmed) = self.kept.pop_front() {
                self.floor = self.floor.max(trimmed.seq());
                self.value = Some(trimmed).filter(|trimmed| trimmed.class() == Class::Change).or(self.value.take());
            }
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
