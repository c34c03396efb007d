//! Several channels as one sequence: a stream delivers in rounds.
//!
//! A round is in seq order, with the ticks of each channel merged to the latest. There is at most one in a tick interval;
//! an event other than a tick ends the round at once and takes everything before it along, so that the cursor never
//! passes something undelivered. Only what is at or before the published mark is looked at: behind it, a channel may have
//! got its event before another got an earlier one.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::{Channel, Delivery, Seat};
use crate::{
    event::{ChannelKind, Class, Seq},
    wire::Frame,
};

/// After so long, what was committed is published.
const PUBLISHING: Duration = Duration::from_millis(1);

/// The number of something that changes which channels a watcher has: while it is not the one that the watcher knows,
/// the watcher is given nothing new. Whoever changes it does so before anything later is published.
#[derive(Clone, Debug)]
pub struct Version {
    /// The number now.
    pub current: Arc<AtomicU64>,
    /// The number that the watcher's channels were chosen by.
    pub known: u64,
}

impl Version {
    fn is_stale(&self) -> bool {
        self.current.load(Ordering::Acquire) != self.known
    }
}

/// A watcher of several channels.
pub(super) struct Rounds {
    seats: Vec<Seat>,
    /// That of the last event that was given.
    position: Seq,
    published: Arc<AtomicU64>,
    versions: Vec<Version>,
    /// What is left of the round under way.
    ready: VecDeque<Arc<Frame>>,
    interval: Duration,
    next_at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Rounds {
    pub(super) fn new(seats: Vec<Seat>, position: Seq, published: Arc<AtomicU64>, interval: Duration) -> Self {
        let next_at = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(next_at));
        Self { seats, position, published, versions: Vec::new(), ready: VecDeque::new(), interval, next_at, timer }
    }

    pub(super) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// From now on these channels are watched: those of `kept` go on, those of `entered` are new.
    pub(super) fn reseat(&mut self, kept: impl Fn(&Channel) -> bool, entered: Vec<Seat>, versions: Vec<Version>) {
        self.seats.retain(|seat| kept(&seat.channel));
        self.seats.extend(entered);
        self.versions = versions;
    }

    /// Whether its channels are to be chosen anew.
    pub(super) fn is_stale(&self) -> bool {
        self.versions.iter().any(Version::is_stale)
    }

    /// Everything at or before it has been given.
    pub(super) fn position(&self) -> Seq {
        self.position
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                self.position = frame.seq();
                return Poll::Ready(Delivery::Frame(frame));
            }
            // Before anything is looked at: what comes meanwhile wakes again.
            self.seats.iter().for_each(|seat| seat.wait(context.waker()));
            let through = Seq(self.published.load(Ordering::Acquire));
            // After the mark is read: what is at or before it came before any change that is not seen here.
            if self.is_stale() {
                return Poll::Pending;
            }
            let looks: Vec<_> = self.seats.iter().map(|seat| seat.look(through)).collect();
            if let Some(end) = looks.iter().find_map(|look| look.end.clone()) {
                return Poll::Ready(end);
            }
            let is_draining = looks.iter().any(|look| look.is_draining);
            let is_over = looks.iter().all(|look| look.is_over);
            let has_more = looks.iter().any(|look| look.has_more);
            let mut frames: Vec<_> = looks.into_iter().flat_map(|look| look.frames).collect();
            frames.sort_unstable_by_key(|frame| frame.seq());
            let is_due = is_draining || Instant::now() >= self.next_at;
            let lasting = frames.iter().rposition(|frame| frame.class() != Class::Tick).map_or(0, |last| last + 1);
            if lasting == 0 && (frames.is_empty() || !is_due) {
                if has_more {
                    // It is being published this very moment.
                    self.poll_at(Instant::now() + PUBLISHING, context);
                    return Poll::Pending;
                }
                if frames.is_empty() && is_over {
                    return Poll::Ready(Delivery::Ended { watchers: 1 });
                }
                if frames.is_empty() && is_draining {
                    return Poll::Ready(Delivery::Draining);
                }
                if !frames.is_empty() {
                    self.poll_at(self.next_at, context);
                }
                return Poll::Pending;
            }
            if !is_due {
                frames.truncate(lasting);
            }
            self.begin(frames);
        }
    }

    /// Gives these next, and nothing but what cannot wait before the interval is over.
    fn begin(&mut self, frames: Vec<Arc<Frame>>) {
        if let Some(last) = frames.last() {
            self.seats.iter_mut().for_each(|seat| seat.move_to(last.seq()));
        }
        self.next_at = Instant::now() + self.interval;
        self.ready = frames.into();
    }

    /// Wakes at this time.
    fn poll_at(&mut self, at: Instant, context: &mut Context<'_>) {
        self.timer.as_mut().reset(at);
        if self.timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

/// What a place has not been given yet, looked at and not taken.
#[derive(Default)]
pub(super) struct Undelivered {
    /// In seq order, the latest tick too, held or not.
    pub(super) frames: Vec<Arc<Frame>>,
    /// Whether there are events beyond those that may be looked at now.
    has_more: bool,
    /// No more events will come.
    is_over: bool,
    is_draining: bool,
    end: Option<Delivery>,
}

impl Seat {
    /// Keeps the waker for the next event.
    fn wait(&self, waker: &Waker) {
        self.channel.lock().waiting.wait(self.slot, waker);
    }

    /// What waits here, at or before `through`.
    pub(super) fn look(&self, through: Seq) -> Undelivered {
        let state = self.channel.lock();
        let mut waiting = Undelivered { is_draining: state.draining, ..Undelivered::default() };
        if self.number < state.hung_up_below {
            waiting.end = Some(Delivery::HungUp);
        } else if state.interrupted {
            waiting.end = Some(Delivery::Interrupted);
        } else if self.position < state.log.floor() && !state.log.has_ended_at(self.position) {
            waiting.end = Some(Delivery::Lapsed);
        }
        let held = state.held.iter().cloned();
        waiting.frames = state.log.after(self.position).cloned().chain(held).collect();
        waiting.frames.retain(|frame| frame.seq() > self.position);
        waiting.is_over = waiting.frames.is_empty() && (state.closed || state.log.has_ended_at(self.position));
        // A topic that was deleted may begin anew, and this place would not see it. The id of a task is not used again.
        if state.closed && waiting.is_over && waiting.end.is_none() && self.channel.name().kind() != ChannelKind::Task {
            waiting.end = Some(Delivery::HungUp);
        }
        waiting.has_more = waiting.frames.last().is_some_and(|last| last.seq() > through);
        waiting.frames.retain(|frame| frame.seq() <= through);
        // A tick that a newer one replaces before it was given is given no more.
        let latest_tick = waiting.frames.iter().rposition(|frame| frame.class() == Class::Tick);
        let mut nth = 0..;
        waiting.frames.retain(|frame| {
            let nth = nth.next();
            frame.class() != Class::Tick || nth == latest_tick
        });
        waiting
    }
}
