//! The state of a channel, worked out from all its events: the contract's sentences as code.

use crate::{
    event::{ChannelKind, Class, Draft, Event, HistoryBounds, HistorySize, Seq, Timestamp},
    journal::Stored,
};

/// What a channel's events amount to.
pub(super) struct ChannelModel {
    pub(super) stored: Stored,
    /// Its history: the visible events that are kept, without their `memo` and `origin`.
    pub(super) kept: Vec<Event>,
}

/// Works out the state of a channel from all its events, or `None` when it has none.
pub(super) fn state(events: &[Event], bounds: HistoryBounds, trimmed: Seq) -> Option<ChannelModel> {
    let last = events.last()?;
    let bound = bounds.of(last.channel().kind());
    let gone = last.class() == Class::Tombstone;
    // Its present life: what is after its last tombstone, or, when it is gone, the life that this one ended.
    let ended = if gone { events.len() - 1 } else { events.len() };
    let born = events[..ended].iter().rposition(|event| event.class() == Class::Tombstone).map_or(0, |at| at + 1);
    let life = &events[born..];
    let before_birth = born.checked_sub(1).map_or(Seq::ZERO, |tombstone| events[tombstone].seq);

    let floor = floor(life, bound).unwrap_or(before_birth).max(trimmed);
    let floor = if gone { last.seq } else { floor };
    let kept = if gone { Vec::new() } else { kept(life, floor) };
    let newest_memo = life.iter().rev().find_map(|event| event.draft.memo.clone());
    let stored = Stored {
        channel: last.channel().clone(),
        created: life.first().unwrap_or(last).seq,
        last: last.seq,
        floor,
        visible: kept.last().filter(|last| last.seq > floor).cloned(),
        memo: newest_memo.filter(|_| !gone),
        origin: life.first().and_then(|first| first.draft.origin.clone()).filter(|_| !gone),
        finished_at: life.iter().rev().find(|event| event.class() == Class::Final).map(|event| event.at),
        gone,
    };
    Some(ChannelModel { stored, kept })
}

/// The last change or final that is beyond the bound.
fn floor(life: &[Event], bound: HistorySize) -> Option<Seq> {
    let mut lasting = life.iter().rev().filter(|event| is_lasting(event));
    let fitting = bound.fitting(lasting.clone());
    lasting.nth(fitting).map(|event| event.seq)
}

fn kept(life: &[Event], floor: Seq) -> Vec<Event> {
    let last_tick = life.iter().rev().find(|event| event.class() == Class::Tick).map(|event| event.seq);
    let trimmed = life.iter().filter(|event| event.seq <= floor && event.channel().kind() == ChannelKind::Topic);
    let value = trimmed.rev().find(|event| event.class() == Class::Change).map(|event| event.seq);
    life.iter()
        .filter(|event| event.seq > floor || value == Some(event.seq))
        .filter(|event| is_lasting(event) || last_tick == Some(event.seq))
        .map(|event| Event { draft: Draft { memo: None, origin: None, ..event.draft.clone() }, ..event.clone() })
        .collect()
}

/// The last of the oldest events that were decided before a time.
pub(super) fn older(state: &ChannelModel, at: Timestamp) -> Option<Seq> {
    let lasting = state.kept.iter().filter(|event| is_lasting(event) && event.seq > state.stored.floor);
    lasting.take_while(|event| event.at < at).last().map(|event| event.seq)
}

fn is_lasting(event: &Event) -> bool {
    matches!(event.class(), Class::Change | Class::Notice | Class::Final | Class::Unknown(_))
}
