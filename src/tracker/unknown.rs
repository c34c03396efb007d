//! The channels that are in no table because only a newer version knows what they are, or what happened on them: noted, so
//! that they are told and counted.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::event::{ChannelKind, ChannelName, Class, Event};

/// So many are noted.
const UNKNOWN_CHANNELS_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct UnknownChannels(Mutex<HashSet<ChannelName>>);

impl UnknownChannels {
    /// Looks at an event of whatever channel. Tasks and keys are in their table.
    pub(super) fn note(&self, event: &Event) {
        let (channel, class) = (event.channel(), event.class());
        let is_in_table = matches!(channel.kind(), ChannelKind::Task | ChannelKind::Key);
        let is_known = channel.kind() != ChannelKind::Unknown && class.is_known();
        if is_in_table || is_known && class != Class::Tombstone {
            return;
        }
        let mut noted = self.lock();
        if class == Class::Tombstone {
            noted.remove(channel);
        } else if noted.len() < UNKNOWN_CHANNELS_MAX && noted.insert(channel.clone()) {
            tracing::error!(%channel, seq = event.seq.0, "a newer version has written to a channel; it is left as it is");
        }
    }

    /// How many were noted and are there.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ChannelName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
