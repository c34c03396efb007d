//! One watcher's place in its channels, with everything that its stream holds for its life.
//!
//! A watcher of one channel gets what the channel releases, at the channel's pace. A watcher of several gets it in
//! rounds: see [`super::rounds`].

use std::{
    any::Any,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Channel, Seat,
    rounds::{Rounds, Version},
};
use crate::{event::Seq, wire::Frame};

/// What a watcher gets next.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Frame(Arc<Frame>),
    /// Several events, ready for the socket.
    Bytes(Bytes),
    /// The final event of each channel has been delivered; there were so many watchers.
    Ended {
        /// How many watched to the end.
        watchers: usize,
    },
    /// What comes next has been trimmed: the watcher was too slow, and its cursor leads to a reset.
    Lapsed,
    /// The stream was asked to end.
    HungUp,
    /// Events may be missing here; the watcher's cursor resumes.
    Interrupted,
    /// The service is stopping.
    Draining,
}

/// Who is given deliveries.
pub trait Watch {
    /// The next delivery, or the context's waker is kept for it.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery>;
}

impl Watch for Subscriber {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        match &mut self.places {
            Places::One(seat) => seat.poll_next(context),
            Places::Several(rounds) => rounds.poll_next(context),
        }
    }
}

/// A watcher. Dropping it leaves its channels.
pub struct Subscriber {
    places: Places,
    _permit: OwnedSemaphorePermit,
    held: Vec<Box<dyn Any + Send + Sync>>,
}

enum Places {
    One(Seat),
    Several(Box<Rounds>),
}

impl Subscriber {
    pub(super) fn of_one(seat: Seat, permit: OwnedSemaphorePermit) -> Self {
        Self { places: Places::One(seat), _permit: permit, held: Vec::new() }
    }

    pub(super) fn of_several(rounds: Rounds, permit: OwnedSemaphorePermit) -> Self {
        Self { places: Places::Several(Box::new(rounds)), _permit: permit, held: Vec::new() }
    }

    /// The channels that are watched.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        let seats = match &self.places {
            Places::One(seat) => std::slice::from_ref(seat),
            Places::Several(rounds) => rounds.seats(),
        };
        seats.iter().map(|seat| &*seat.channel)
    }

    /// Everything at or before it has been delivered.
    pub fn position(&self) -> Seq {
        match &self.places {
            Places::One(seat) => seat.position,
            Places::Several(rounds) => rounds.position(),
        }
    }

    /// From now on it watches these of its channels, and the entered ones; nothing that it was to be given is lost. Only
    /// for a watcher of several channels.
    pub fn reseat(&mut self, kept: impl Fn(&Channel) -> bool, entered: Vec<Seat>, versions: Vec<Version>) {
        if let Places::Several(rounds) = &mut self.places {
            rounds.reseat(kept, entered, versions);
        }
    }

    /// Whether its channels are to be chosen anew; until then it is given nothing new.
    pub fn is_stale(&self) -> bool {
        matches!(&self.places, Places::Several(rounds) if rounds.is_stale())
    }

    /// Keeps something until the watcher leaves: a gauge, a mark of presence.
    pub fn hold(&mut self, guard: impl Any + Send + Sync) {
        self.held.push(Box::new(guard));
    }

    /// The next delivery.
    ///
    /// # Cancel safety
    /// A frame counts as delivered when this returns it; nothing is lost by not polling again.
    pub async fn next(&mut self) -> Delivery {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channels: Vec<_> = self.channels().map(Channel::name).collect();
        f.debug_struct("Subscriber").field("channels", &channels).finish_non_exhaustive()
    }
}
