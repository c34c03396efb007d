//! Watching as a user: the stream follows the user's groups while it is open.
//!
//! A user is watched on their inbox and on the channels of their groups. When their groups change, their open streams are
//! given nothing that was published later until they watch the channels of the new groups; so the cursor never passes an
//! event of a group that was just joined.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use super::{Tracker, TrackerError, watching::known};
use crate::{
    channel::{
        Channel, Delivery, Joined, Seat, Subscriber, Version, WaitingSince, WakerSlots, Wanted, Watch, WatchError,
    },
    event::{ChannelKind, ChannelName, History, Resume, Seq},
    people::MembershipChange,
};

/// The users whose groups are being followed. Entries are there only while somebody watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Memberships(Arc<Mutex<HashMap<Arc<str>, Weak<Membership>>>>);

/// The groups of one user, for their open streams.
#[derive(Debug, Default)]
struct Membership {
    version: Arc<AtomicU64>,
    waiting: Mutex<WakerSlots>,
}

/// One stream that follows the groups of a user.
#[derive(Debug)]
struct Follower {
    user: ChannelName,
    /// The only channels of groups that are wanted; `None` for all, and the inbox.
    only: Option<Vec<ChannelName>>,
    membership: Arc<Membership>,
    slot: usize,
    memberships: Memberships,
}

impl Memberships {
    /// Tells the streams of a user that their groups have changed.
    pub(super) fn notice(&self, change: Option<MembershipChange>) {
        let Some(change) = change else { return };
        let membership = self.lock().get(&change.user_id).and_then(Weak::upgrade);
        membership.iter().for_each(|membership| membership.change());
    }

    /// The same to all who follow groups: any may have changed.
    pub(super) fn notice_all(&self) {
        let followed: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        followed.iter().for_each(|membership| membership.change());
    }

    fn follow(&self, user: &ChannelName, only: Option<Vec<ChannelName>>) -> Follower {
        let mut followed = self.lock();
        let known = followed.get(&*user.name()).and_then(Weak::upgrade);
        let membership = known.unwrap_or_else(|| {
            let membership = Arc::<Membership>::default();
            followed.insert(user.name().into(), Arc::downgrade(&membership));
            membership
        });
        drop(followed);
        let slot = membership.waiting().enter();
        Follower { user: user.clone(), only, membership, slot, memberships: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Membership>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    fn change(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        let wakers = self.waiting().take();
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, WakerSlots> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    fn version(&self) -> Version {
        let current = Arc::clone(&self.membership.version);
        let known = current.load(Ordering::Acquire);
        Version { current, known }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.membership.waiting().leave(self.slot);
        // Whoever else begins to follow takes the lock first.
        let mut followed = self.memberships.lock();
        if Arc::strong_count(&self.membership) == 1 {
            followed.remove(&*self.user.name());
        }
    }
}

type Entering = Pin<Box<dyn Future<Output = Result<Vec<Seat>, WatchError<TrackerError>>> + Send>>;

/// A watcher of several channels, and of users with their groups.
pub struct MemberWatcher {
    subscriber: Subscriber,
    tracker: Tracker,
    followed: Vec<Follower>,
    /// Those that are watched whatever groups the users are in.
    chosen: Vec<ChannelName>,
    /// The channels of inboxes and groups, each from where it is theirs.
    joined: HashMap<ChannelName, Seq>,
    moving: Option<Moving>,
    on_taken: Option<OnTaken>,
    is_shown: Option<IsShown>,
    /// What was given last, until it is known to be taken.
    given: Option<Seq>,
}

/// Whether events of a channel are given.
type IsShown = Box<dyn Fn(&ChannelName) -> bool + Send + Sync>;

/// Is told up to where deliveries were taken.
type OnTaken = Box<dyn Fn(Seq) + Send + Sync>;

/// Channels of groups on their way in.
struct Moving {
    entering: Entering,
    joined: HashMap<ChannelName, Seq>,
    versions: Vec<Version>,
}

impl Tracker {
    /// Lets a watcher in on several channels, and on what these users are notified of, as one stream. A member watches
    /// the groups among the channels only from where they joined, and as long as they are in them.
    ///
    /// # Errors
    /// See [`Tracker::watch`].
    pub async fn watch_several(
        &self,
        channels: &[ChannelName],
        users: &[ChannelName],
        member: Option<&ChannelName>,
        resume: Resume,
    ) -> Result<(Joined, MemberWatcher), WatchError<TrackerError>> {
        self.catch_up_to(resume).await?;
        let is_followed = |channel: &&ChannelName| member.is_some() && channel.kind() == ChannelKind::Group;
        let (groups, channels): (Vec<_>, Vec<_>) = channels.iter().partition(is_followed);
        let mut followed: Vec<_> = users.iter().map(|user| self.shared.members.follow(user, None)).collect();
        if let Some(member) = member.filter(|_| !groups.is_empty()) {
            followed.push(self.shared.members.follow(member, Some(groups.into_iter().cloned().collect())));
        }
        // Before the groups are read: a change in between is seen.
        let versions = followed.iter().map(Follower::version).collect();
        let theirs = self.wanted(&followed);
        let joined = joined_since(&theirs);
        let chosen: Vec<_> = channels.into_iter().cloned().collect();
        let others = chosen.iter().filter(|channel| !joined.contains_key(*channel));
        let wanted: Vec<_> = others.map(Wanted::state).chain(theirs).collect();
        let load = async |missing: &[ChannelName]| self.load_many(missing).await;
        let (joins, mut subscriber) = self.shared.registry.open_several(&wanted, resume, load).await?;
        subscriber.reseat(|_| true, Vec::new(), versions);
        Ok((
            joins,
            MemberWatcher {
                subscriber,
                tracker: self.clone(),
                followed,
                chosen,
                joined,
                moving: None,
                on_taken: None,
                is_shown: None,
                given: None,
            },
        ))
    }

    /// The inboxes of users, and the channels of their groups.
    fn wanted(&self, followed: &[Follower]) -> Vec<Wanted> {
        let not_before = self.shared.clock.now().before(self.shared.people_config.inbox_max_age);
        let people = self.shared.people();
        let mut wanted: Vec<Wanted> = Vec::new();
        for Follower { user, only, .. } in followed {
            let Some(state) = people.get(&user.name()) else { continue };
            let groups = state.groups.iter().map(|(group, joined)| (ChannelName::group(group), *joined));
            for (channel, joined) in groups.chain([(ChannelName::inbox(&user.name()), Seq::ZERO)]) {
                // The names of users and groups are valid.
                let Ok(channel) = channel else { continue };
                if only.as_ref().is_some_and(|only| !only.contains(&channel)) {
                    continue;
                }
                let since = WaitingSince { seen: state.seen, joined, not_before };
                let known = wanted.iter_mut().find(|known| known.channel == channel);
                match known.and_then(|known| known.waiting.as_mut()) {
                    // Of two users in one group, the one who has been there longer.
                    Some(known) => {
                        known.joined = known.joined.min(joined);
                        known.seen = known.seen.min(state.seen);
                    }
                    None => wanted.push(Wanted { channel, waiting: Some(since) }),
                }
            }
        }
        wanted
    }

    async fn load_many(&self, missing: &[ChannelName]) -> Result<Vec<History>, TrackerError> {
        let histories = self.shared.histories(missing).await?;
        missing.iter().zip(histories).map(|(channel, history)| known(channel, history)).collect()
    }
}

fn joined_since(wanted: &[Wanted]) -> HashMap<ChannelName, Seq> {
    let since = wanted.iter().filter_map(|wanted| Some((wanted.channel.clone(), wanted.waiting?.joined)));
    since.collect()
}

impl MemberWatcher {
    /// Everything at or before it has been delivered.
    pub fn position(&self) -> Seq {
        self.subscriber.position()
    }

    /// Keeps something until the watcher leaves.
    pub fn hold(&mut self, guard: impl std::any::Any + Send + Sync) {
        self.subscriber.hold(guard);
    }

    /// Tells what was taken: whoever asks for the next delivery has taken the one before.
    pub fn on_taken(&mut self, on_taken: impl Fn(Seq) + Send + Sync + 'static) {
        self.on_taken = Some(Box::new(on_taken));
    }

    /// Gives events of these channels only.
    pub fn show_only(&mut self, is_shown: impl Fn(&ChannelName) -> bool + Send + Sync + 'static) {
        self.is_shown = Some(Box::new(is_shown));
    }

    /// The next delivery.
    ///
    /// # Cancel safety
    /// See [`Subscriber::next`].
    pub async fn next(&mut self) -> Delivery {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Begins to watch the channels that the groups of now say.
    fn begin_move(&mut self) -> Moving {
        let versions = self.followed.iter().map(Follower::version).collect();
        let mut wanted = self.tracker.wanted(&self.followed);
        let joined = joined_since(&wanted);
        let is_new = |channel: &ChannelName| self.joined.get(channel) != joined.get(channel);
        wanted.retain(|wanted| is_new(&wanted.channel) && !self.chosen.contains(&wanted.channel));
        for waiting in wanted.iter_mut().filter_map(|wanted| wanted.waiting.as_mut()) {
            // What was sent since they joined is new here, whatever was seen elsewhere.
            waiting.seen = waiting.joined;
        }
        let tracker = self.tracker.clone();
        let entering = Box::pin(async move {
            let load = async |missing: &[ChannelName]| tracker.load_many(missing).await;
            tracker.shared.registry.enter(&wanted, load).await
        });
        Moving { entering, joined, versions }
    }

    fn finish_move(&mut self, moving: Moving, entered: Vec<Seat>) {
        let (before, after) = (&self.joined, &moving.joined);
        let is_same = |channel: &ChannelName| before.get(channel) == after.get(channel);
        let chosen = &self.chosen;
        let stays = |channel: &Channel| is_same(channel.name()) || chosen.contains(channel.name());
        self.subscriber.reseat(stays, entered, moving.versions);
        self.joined = moving.joined;
    }
}

impl Watch for MemberWatcher {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        if let (Some(given), Some(on_taken)) = (self.given.take(), &self.on_taken) {
            on_taken(given);
        }
        loop {
            if let Some(mut moving) = self.moving.take() {
                match moving.entering.as_mut().poll(context) {
                    Poll::Ready(Ok(entered)) => self.finish_move(moving, entered),
                    Poll::Ready(Err(error)) => {
                        // Its cursor brings the client back to where it was.
                        tracing::warn!(%error, "cannot follow the groups of a user; the stream is closed");
                        return Poll::Ready(Delivery::Interrupted);
                    }
                    Poll::Pending => {
                        self.moving = Some(moving);
                        return Poll::Pending;
                    }
                }
            }
            for Follower { membership, slot, .. } in &self.followed {
                membership.waiting().wait(*slot, context.waker());
            }
            let polled = self.subscriber.poll_next(context);
            if polled.is_pending() && self.subscriber.is_stale() {
                self.moving = Some(self.begin_move());
                continue;
            }
            let delivery = ready!(polled);
            if let Delivery::Frame(frame) = &delivery {
                if self.is_shown.as_ref().is_some_and(|is_shown| !is_shown(frame.event().channel())) {
                    continue;
                }
                self.given = Some(frame.seq());
            }
            return Poll::Ready(delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_followed_as_long_as_somebody_watches() {
        let memberships = Memberships::default();
        let ann = ChannelName::user("ann").unwrap();
        let (one, two) = (memberships.follow(&ann, None), memberships.follow(&ann, None));
        drop(one);
        assert_eq!(memberships.lock().len(), 1);
        drop(two);
        assert_eq!(memberships.lock().len(), 0, "not even the name is kept");
    }
}
