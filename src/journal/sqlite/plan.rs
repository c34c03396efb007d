//! What folding some events of one channel comes to: pure, so that readers can answer as though it had been done.

use super::{error::StoreError, record::Record};
use crate::{
    event::{Class, Draft, Event, Seq},
    journal::{Stored, member::Members},
};

/// The outcome of folding events of one channel into its row and history.
#[derive(Debug)]
pub(super) struct Plan {
    /// The row after it.
    pub(super) record: Record,
    /// Whether the channel began (anew), so that nothing of an earlier life is left.
    pub(super) began: bool,
    /// Whether everything that the history had before is trimmed.
    pub(super) cleared: bool,
    /// Everything in the history at or before it is trimmed.
    pub(super) trimmed_through: Seq,
    /// The tick in the history that a later one replaced, or zero.
    pub(super) replaced_tick: Seq,
    /// What the history gains, in seq order. A tick that is the last visible event is not among them.
    pub(super) kept: Vec<Event>,
}

/// Folds `events`, all of one channel and in seq order, into what was `before`.
///
/// `nth_lasting` finds the seq of the n-th oldest change or final in the history, counted from one.
/// None when there is neither a row nor an event.
pub(super) fn plan(
    before: Option<Record>,
    events: &[&Event],
    history_max: u64,
    nth_lasting: impl FnOnce(u64) -> Result<Seq, StoreError>,
) -> Result<Option<Plan>, StoreError> {
    let mut plan = before.map(Plan::of);
    for event in events {
        match &mut plan {
            Some(plan) => plan.add(event),
            none => *none = Some(Plan::begin(event)),
        }
    }
    let Some(mut plan) = plan else { return Ok(None) };
    plan.trim(history_max, nth_lasting)?;
    if let Some(event) = events.last().and(plan.record.stored.visible.as_ref()) {
        plan.record.members = Members::of(&event.draft.data);
    }
    Ok(Some(plan))
}

impl Plan {
    fn of(record: Record) -> Self {
        Self {
            record,
            began: false,
            cleared: false,
            trimmed_through: Seq::ZERO,
            replaced_tick: Seq::ZERO,
            kept: Vec::new(),
        }
    }

    fn begin(event: &Event) -> Self {
        let stored = Stored {
            channel: event.channel().clone(),
            created: event.seq,
            last: event.seq,
            floor: Seq::ZERO,
            visible: None,
            memo: None,
            origin: event.draft.origin.clone(),
            finished_at: None,
            gone: false,
        };
        let record = Record { stored, last_at: event.at, lasting: 0, tick: Seq::ZERO, members: Members::default() };
        let mut plan = Self { began: true, ..Self::of(record) };
        plan.apply(event);
        plan
    }

    fn add(&mut self, event: &Event) {
        if self.record.stored.gone {
            let floor = self.record.stored.floor;
            *self = Self { cleared: true, ..Self::begin(event) };
            self.record.stored.floor = self.record.stored.floor.max(floor);
        } else {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: &Event) {
        let record = &mut self.record;
        record.stored.last = event.seq;
        record.last_at = event.at;
        if event.draft.memo.is_some() {
            record.stored.memo.clone_from(&event.draft.memo);
        }
        match event.class() {
            Class::Hidden => {}
            Class::Tick => self.tick(event),
            Class::Change | Class::Final => self.lasting(event),
            Class::Tombstone => self.end(event.seq),
        }
    }

    fn tick(&mut self, event: &Event) {
        let record = &mut self.record;
        if record.tick > Seq::ZERO {
            self.replaced_tick = record.tick;
            self.kept.retain(|kept| kept.seq != record.tick);
            record.tick = Seq::ZERO;
        }
        record.stored.visible = Some(framed(event));
    }

    fn lasting(&mut self, event: &Event) {
        let record = &mut self.record;
        if let Some(tick) = record.stored.visible.take_if(|visible| visible.class() == Class::Tick) {
            record.tick = tick.seq;
            self.kept.push(tick);
        }
        record.lasting += 1;
        record.stored.visible = Some(framed(event));
        self.kept.push(framed(event));
        if event.class() == Class::Final {
            record.stored.finished_at = Some(event.at);
        }
    }

    fn end(&mut self, tombstone: Seq) {
        let record = &mut self.record;
        let stored = &mut record.stored;
        stored.gone = true;
        stored.floor = tombstone;
        (stored.visible, stored.memo, stored.origin) = (None, None, None);
        (record.lasting, record.tick, record.members) = (0, Seq::ZERO, Members::default());
        self.cleared = true;
        self.kept.clear();
    }

    /// Trims the history to its bound and raises the floor.
    fn trim(
        &mut self,
        history_max: u64,
        nth_lasting: impl FnOnce(u64) -> Result<Seq, StoreError>,
    ) -> Result<(), StoreError> {
        let excess = self.record.lasting.saturating_sub(history_max);
        if excess == 0 {
            return Ok(());
        }
        let gained: Vec<Seq> =
            self.kept.iter().filter(|event| event.class() != Class::Tick).map(|event| event.seq).collect();
        let before = self.record.lasting - gained.len() as u64;
        let floor = if excess <= before {
            nth_lasting(excess)?
        } else {
            // The excess is more than the history had, so its end lies among what was gained.
            let index = usize::try_from(excess - before - 1).unwrap_or(usize::MAX);
            gained.get(index).copied().unwrap_or(self.record.stored.floor)
        };
        self.trimmed_through = floor;
        self.kept.retain(|event| event.seq > floor);
        self.record.stored.floor = floor;
        self.record.lasting = history_max;
        if self.record.tick <= floor {
            self.record.tick = Seq::ZERO;
        }
        Ok(())
    }
}

/// The event without what is never framed.
fn framed(event: &Event) -> Event {
    Event { draft: Draft { memo: None, origin: None, ..event.draft.clone() }, ..event.clone() }
}
