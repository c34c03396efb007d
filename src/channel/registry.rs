//! Which channels are being watched.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Channel, Join, Joined, Seat, Subscriber, WaitingSince, Wanted,
    pacer::Pacer,
    rounds::Rounds,
    waking::{Wake, Waking},
};
use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Epochs, Event, History, HistoryBounds, HistorySize, Resume, Seq},
    wire::{self, Frame},
};

/// The bounds of the fan-out.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// What is kept in memory per channel: as much as in the journal.
    pub history: HistoryBounds,
    /// Time between two ticks of one channel.
    pub tick_interval: Duration,
    /// Watchers in all.
    pub streams: usize,
    /// Watchers of one channel.
    pub streams_per_channel: usize,
}

/// Why a watcher cannot be let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefused {
    /// There are as many streams as this server allows.
    #[error("too many open streams on this server")]
    TooManyStreams,
    /// There are as many streams on this channel as are allowed.
    #[error("too many open streams on this channel")]
    TooManyOnChannel,
    /// The service is stopping.
    #[error("the service is stopping")]
    Draining,
}

/// Why a channel cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError<E> {
    /// No watcher is let in now.
    #[error(transparent)]
    Refused(#[from] StreamRefused),
    /// Its history could not be loaded.
    #[error("{0}")]
    Load(E),
}

/// All channels that are being watched. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Channels>,
}

#[derive(Debug)]
pub(super) struct Channels {
    limits: StreamLimits,
    epochs: Epochs,
    head: AtomicU64,
    /// Everything at or before it is in the logs of the channels that are watched.
    published: Arc<AtomicU64>,
    draining: AtomicBool,
    permits: Arc<Semaphore>,
    channels: Mutex<HashMap<ChannelName, Weak<Channel>>>,
    pacer: Pacer,
    pub(super) waking: Arc<Waking>,
}

impl Registry {
    /// An empty registry of the store with these epochs.
    pub fn new(epochs: impl Into<Epochs>, limits: StreamLimits) -> Self {
        Self {
            shared: Arc::new(Channels {
                limits,
                epochs: epochs.into(),
                head: AtomicU64::new(0),
                published: Arc::default(),
                draining: AtomicBool::new(false),
                permits: Arc::new(Semaphore::new(limits.streams)),
                channels: Mutex::new(HashMap::new()),
                pacer: Pacer::default(),
                waking: Arc::default(),
            }),
        }
    }

    /// The last seq of the store that this node has seen.
    pub fn head(&self) -> Seq {
        Seq(self.shared.head.load(Ordering::Acquire))
    }

    /// Raises the head.
    pub fn advance(&self, head: Seq) {
        self.shared.head.fetch_max(head.0, Ordering::AcqRel);
    }

    /// The channels that are watched now.
    pub fn watched(&self) -> Vec<ChannelName> {
        self.shared.lock_channels().keys().cloned().collect()
    }

    /// Takes in what was not published on a channel, from all that the journal holds of it. Its streams go on, except
    /// where some of that is not kept any more. They are woken when the answer is dropped.
    pub fn make_up(&self, name: &ChannelName, history: History) -> Wake {
        let Some(channel) = self.find(name) else { return Wake::none() };
        let is_one = name != ChannelName::all_topics();
        let is_gone = is_one && history.events.is_empty() && history.floor != channel.last();
        if is_gone {
            self.shared.detach(&channel);
            return channel.close();
        }
        if !history.is_known() {
            return self.put_aside(&channel);
        }
        channel.fill(history, &self.shared.epochs)
    }

    /// Ends the streams of a channel that has an event which this version cannot show: their clients resume by their
    /// cursors, at a node that can.
    fn put_aside(&self, channel: &Arc<Channel>) -> Wake {
        self.shared.detach(channel);
        channel.interrupt()
    }

    /// How much is kept of a channel of this kind.
    pub fn history_bound(&self, kind: ChannelKind) -> HistorySize {
        self.shared.limits.history.of(kind)
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.shared.limits.streams.saturating_sub(self.shared.permits.available_permits())
    }

    /// How many channels are being watched.
    pub fn channels(&self) -> usize {
        self.shared.lock_channels().len()
    }

    /// Hands an event that has become durable to those who watch its channel, who are woken when the answer is dropped.
    /// `decided` is when it was decided here.
    pub fn publish(&self, event: &Event, decided: std::time::Instant) -> Wake {
        let wake = self.take_in(event, decided);
        self.publish_through(event.seq);
        wake
    }

    /// Notes that there is nothing to be published at or before this seq.
    pub fn publish_through(&self, seq: Seq) {
        self.shared.published.fetch_max(seq.0, Ordering::AcqRel);
    }

    fn take_in(&self, event: &Event, decided: std::time::Instant) -> Wake {
        let channel = self.find(event.channel());
        let is_of_topic = event.channel().kind() == ChannelKind::Topic;
        let all_topics = is_of_topic.then(|| self.find(ChannelName::all_topics())).flatten();
        if channel.is_none() && all_topics.is_none() {
            return Wake::none();
        }
        if event.class() == Class::Tombstone {
            channel.iter().for_each(|channel| self.shared.detach(channel));
            return channel.map_or(Wake::none(), |channel| channel.close());
        }
        if !event.class().is_known() {
            let wakes = channel.iter().chain(&all_topics).map(|channel| self.put_aside(channel));
            return wakes.reduce(Wake::and).unwrap_or_else(Wake::none);
        }
        if !event.class().is_visible() {
            return Wake::none();
        }
        // Nobody is shown the memo and the origin, so the log does not keep them.
        let draft = Draft { memo: None, origin: None, ..event.draft.clone() };
        let frame = self.frame(Event { draft, ..*event }, Some(decided));
        let wakes = channel.into_iter().chain(all_topics).map(|channel| {
            let (wake, due) = channel.publish(Arc::clone(&frame), self.shared.limits.tick_interval);
            due.into_iter().for_each(|due| self.shared.pacer.hold(due, &channel));
            wake
        });
        wakes.reduce(Wake::and).unwrap_or_else(Wake::none)
    }

    /// Lets a watcher in. `load` brings the channel's history where nobody watches it yet.
    ///
    /// # Errors
    /// When `load` fails, when a bound is reached, and when the service is stopping.
    pub async fn open<E>(
        &self,
        name: &ChannelName,
        resume: Resume,
        load: impl AsyncFnOnce() -> Result<History, E>,
    ) -> Result<(Join, Subscriber), WatchError<E>> {
        let permit = self.admit()?;
        // It is registered before it is loaded, so that what is committed meanwhile is not missed.
        let channel = self.shared.register(name);
        channel
            .loaded
            .get_or_try_init::<WatchError<E>, _, _>(async || {
                drop(channel.fill(load().await.map_err(WatchError::Load)?, &self.shared.epochs));
                Ok(())
            })
            .await?;
        let (join, seat) = self.join(&channel, None, resume)?;
        Ok((join, Subscriber::of_one(seat, permit)))
    }

    /// Lets a watcher in on several channels, as one stream. `load` brings the histories of those which nobody watches
    /// yet, in their order.
    ///
    /// # Errors
    /// When `load` fails, when a bound is reached, and when the service is stopping.
    pub async fn open_several<E>(
        &self,
        wanted: &[Wanted],
        resume: Resume,
        load: impl AsyncFnOnce(&[ChannelName]) -> Result<Vec<History>, E>,
    ) -> Result<(Joined, Subscriber), WatchError<E>> {
        let permit = self.admit()?;
        let channels = self.loaded(wanted, load).await?;
        // All are joined at one place: what is at or before it is in every log by now.
        let position = Seq(self.shared.published.load(Ordering::Acquire));
        let (mut joins, mut seats, mut has_waiting) = (Vec::new(), Vec::new(), false);
        for (channel, wanted) in channels.into_iter().zip(wanted) {
            let (join, mut seat) = self.join(&channel, wanted.waiting.as_ref(), resume)?;
            match join {
                Join::Resumed => {}
                Join::Waiting | Join::Reset(_) if wanted.waiting.is_some() => {
                    has_waiting |= !seat.look(position).frames.is_empty();
                }
                _ => seat.move_to(position),
            }
            joins.push((wanted.channel.clone(), join));
            seats.push(seat);
        }
        let goes_on = joins.iter().any(|(_, join)| matches!(join, Join::Resumed));
        let from = match resume {
            Resume::After(cursor) if goes_on => cursor.seq,
            _ => position,
        };
        let position = (!goes_on).then_some(self.shared.epochs.cursor(position));
        let rounds = Rounds::new(seats, from, Arc::clone(&self.shared.published), self.shared.limits.tick_interval);
        Ok((Joined { channels: joins, position, has_waiting }, Subscriber::of_several(rounds, permit)))
    }

    /// Places on channels for a watcher that is there already, from what waits for it.
    ///
    /// # Errors
    /// See [`Registry::open_several`].
    pub async fn enter<E>(
        &self,
        wanted: &[Wanted],
        load: impl AsyncFnOnce(&[ChannelName]) -> Result<Vec<History>, E>,
    ) -> Result<Vec<Seat>, WatchError<E>> {
        let channels = self.loaded(wanted, load).await?.into_iter().zip(wanted);
        let seats = channels.map(|(channel, wanted)| self.join(&channel, wanted.waiting.as_ref(), Resume::First));
        Ok(seats.map(|joined| joined.map(|(_, seat)| seat)).collect::<Result<_, _>>()?)
    }

    /// These channels, with what the journal holds of them.
    async fn loaded<E>(
        &self,
        wanted: &[Wanted],
        load: impl AsyncFnOnce(&[ChannelName]) -> Result<Vec<History>, E>,
    ) -> Result<Vec<Arc<Channel>>, WatchError<E>> {
        let channels: Vec<_> = wanted.iter().map(|wanted| self.shared.register(&wanted.channel)).collect();
        let missing: Vec<_> = channels.iter().filter(|channel| !channel.loaded.initialized()).collect();
        let missing_names: Vec<_> = missing.iter().map(|channel| channel.name().clone()).collect();
        let histories =
            if missing.is_empty() { Vec::new() } else { load(&missing_names).await.map_err(WatchError::Load)? };
        for (channel, history) in missing.into_iter().zip(histories) {
            // Where somebody else was quicker, theirs counts.
            let fill = async || drop(channel.fill(history, &self.shared.epochs));
            channel.loaded.get_or_init(fill).await;
        }
        Ok(channels)
    }

    /// These are woken when the answer is dropped; a crowd in slices.
    pub fn wake(&self, wakers: Vec<Waker>) -> Wake {
        Wake::new(wakers, Some(Arc::clone(&self.shared.waking)))
    }

    /// An event with its bytes; nothing is encoded yet. `decided` is when it was decided, where that was a moment ago.
    pub fn frame(&self, event: Event, decided: Option<std::time::Instant>) -> Arc<Frame> {
        Arc::new(Frame::new(self.shared.epochs.of(event.seq), event, decided))
    }

    /// The bytes of an event that has no place in the journal.
    pub fn beside(name: &str, data: &str) -> Bytes {
        wire::event(Some(name), data.as_bytes(), None)
    }

    /// A place among all streams.
    ///
    /// # Errors
    /// When there is none left, and when the service is stopping.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, StreamRefused> {
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(StreamRefused::Draining);
        }
        Arc::clone(&self.shared.permits).try_acquire_owned().map_err(|_| StreamRefused::TooManyStreams)
    }

    fn join(
        &self,
        channel: &Arc<Channel>,
        waiting: Option<&WaitingSince>,
        resume: Resume,
    ) -> Result<(Join, Seat), StreamRefused> {
        let limit = self.shared.limits.streams_per_channel;
        let joined = channel.join(waiting, resume, &self.shared.epochs, self.head(), limit)?;
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(StreamRefused::Draining);
        }
        Ok(joined)
    }

    /// The channel, if somebody watches it.
    pub fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.shared.lock_channels().get(name).and_then(Weak::upgrade)
    }

    /// Ends the streams that there are now, so that their clients resume by their cursors. What they watched is loaded
    /// anew for those who come later: of what was published here, the store has lost what came after `head`, or some of
    /// it is missing here.
    pub fn begin_anew(&self, head: Seq) {
        self.shared.head.store(head.0, Ordering::Release);
        self.shared.published.store(head.0, Ordering::Release);
        let channels: Vec<_> =
            self.shared.lock_channels().drain().filter_map(|(_, channel)| channel.upgrade()).collect();
        channels.iter().for_each(|channel| drop(channel.interrupt()));
    }

    /// Ends all streams after what has been published, and lets nobody in.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.all().iter().for_each(|channel| drop(channel.drain()));
    }

    fn all(&self) -> Vec<Arc<Channel>> {
        self.shared.lock_channels().values().filter_map(Weak::upgrade).collect()
    }

    /// Releases held ticks when their time comes, and wakes crowds. Runs for ever.
    ///
    /// # Cancel safety
    /// It can be run again; meanwhile crowds of watchers hear of nothing.
    pub async fn run(&self) {
        tokio::join!(self.shared.pacer.run(self.shared.limits.tick_interval), self.shared.waking.run());
    }
}

impl Channels {
    fn register(self: &Arc<Self>, name: &ChannelName) -> Arc<Channel> {
        let mut channels = self.lock_channels();
        if let Some(channel) = channels.get(name).and_then(Weak::upgrade) {
            return channel;
        }
        let channel = Arc::new(Channel::new(name.clone(), Arc::downgrade(self), self.limits.history.of(name.kind())));
        channels.insert(name.clone(), Arc::downgrade(&channel));
        channel
    }

    /// Takes a channel out, so that those who come later load it anew.
    fn detach(&self, channel: &Arc<Channel>) {
        let mut channels = self.lock_channels();
        if channels.get(channel.name()).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(channel))) {
            channels.remove(channel.name());
        }
    }

    /// Removes the entry of a channel that is gone, but not that of its successor.
    pub(super) fn forget(&self, name: &ChannelName) {
        let mut channels = self.lock_channels();
        if channels.get(name).is_some_and(|channel| channel.strong_count() == 0) {
            channels.remove(name);
        }
    }

    fn lock_channels(&self) -> MutexGuard<'_, HashMap<ChannelName, Weak<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
