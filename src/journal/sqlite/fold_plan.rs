//! What folding some events of one channel comes to: pure, so that readers can answer as though it had been done.

use super::{error::StoreError, record::Record};
use crate::{
    event::{ChannelKind, Class, Draft, Event, Seq},
    journal::{Members, Stored},
};

/// What a channel's history has, where a plan depends on it.
pub(super) trait Past {
    /// The seq of the n-th oldest change, notice or final above the floor, counted from one.
    fn nth_lasting(&self, n: u64) -> Result<Seq, StoreError>;
    /// The seq of the newest change at or below this one, if there is any.
    fn newest_change(&self, through: Seq) -> Result<Option<Seq>, StoreError>;
}

/// The outcome of folding events of one channel into its row and history.
#[derive(Debug)]
pub(super) struct FoldPlan {
    /// The row after it.
    pub(super) record: Record,
    /// Whether the channel began (anew), so that nothing of an earlier life is left.
    pub(super) began: bool,
    /// Whether everything that the history had before is trimmed.
    pub(super) cleared: bool,
    /// Everything in the history at or before it is trimmed.
    pub(super) trimmed_through: Seq,
    /// The value of a topic that stays although it is trimmed: its newest change so far, or zero.
    pub(super) value: Seq,
    /// The tick in the history that a later one replaced, or zero.
    pub(super) replaced_tick: Seq,
    /// What the history gains, in seq order. A tick that is the last visible event is not among them.
    pub(super) kept: Vec<Event>,
}

/// Folds `events`, all of one channel and in seq order, into what was `before`, which may hold the first of them already.
///
/// None when there is neither a row nor an event.
pub(super) fn plan(
    before: Option<Record>,
    events: &[&Event],
    history_max: u64,
    past: &impl Past,
) -> Result<Option<FoldPlan>, StoreError> {
    let folded = before.as_ref().map_or(Seq::ZERO, |record| record.stored.last);
    let events = &events[events.partition_point(|event| event.seq <= folded)..];
    let mut plan = before.map(FoldPlan::of);
    for (nth, event) in events.iter().enumerate() {
        let goes_on = plan.as_ref().is_some_and(|plan| !plan.record.stored.gone);
        if goes_on && events.get(nth + 1).is_some_and(|next| replaces(next, event)) {
            continue;
        }
        match &mut plan {
            Some(plan) => plan.add(event),
            none => *none = Some(FoldPlan::begin(event)),
        }
    }
    let Some(mut plan) = plan else { return Ok(None) };
    plan.trim(history_max, past)?;
    if let Some(event) = events.last().and(plan.record.stored.visible.as_ref()) {
        plan.record.members = Members::of(&event.draft.data);
    }
    Ok(Some(plan))
}

impl FoldPlan {
    /// Nothing comes to what was.
    pub(super) fn of(record: Record) -> Self {
        Self {
            record,
            began: false,
            cleared: false,
            trimmed_through: Seq::ZERO,
            value: Seq::ZERO,
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
            Class::Change | Class::Notice | Class::Final => self.lasting(event),
            Class::Tombstone => self.end(event.seq),
        }
    }

    fn tick(&mut self, event: &Event) {
        let record = &mut self.record;
        if record.tick > Seq::ZERO {
            let gained = self.kept.len();
            self.kept.retain(|kept| kept.seq != record.tick);
            if self.kept.len() == gained {
                // It was not gained just now, so it stands in the history.
                self.replaced_tick = record.tick;
            }
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
    pub(super) fn trim(&mut self, history_max: u64, past: &impl Past) -> Result<(), StoreError> {
        let excess = self.record.lasting.saturating_sub(history_max);
        if excess == 0 {
            return Ok(());
        }
        let gained: Vec<Seq> =
            self.kept.iter().filter(|event| event.class() != Class::Tick).map(|event| event.seq).collect();
        let before = self.record.lasting - gained.len() as u64;
        let floor = if excess <= before {
            past.nth_lasting(excess)?
        } else {
            // The excess is more than the history had, so its end lies among what was gained.
            let index = usize::try_from(excess - before - 1).unwrap_or(usize::MAX);
            gained.get(index).copied().unwrap_or(self.record.stored.floor)
        };
        self.trimmed_through = floor;
        if self.record.stored.channel.kind() == ChannelKind::Topic {
            let is_value = |event: &&Event| event.class() == Class::Change && event.seq <= floor;
            let gained = self.kept.iter().rfind(is_value).map(|event| event.seq);
            let value = gained.map_or_else(|| past.newest_change(floor), |seq| Ok(Some(seq)))?;
            self.value = value.unwrap_or_default();
        }
        self.kept.retain(|event| event.seq > floor || event.seq == self.value);
        self.record.stored.floor = floor;
        self.record.lasting = history_max;
        if self.record.tick <= floor {
            self.record.tick = Seq::ZERO;
        }
        Ok(())
    }
}

/// Whether nothing is left of a tick once the next event is folded: a tick that brings all that it brought.
fn replaces(next: &Event, event: &Event) -> bool {
    let is_tick = |event: &Event| event.class() == Class::Tick;
    is_tick(event) && is_tick(next) && (next.draft.memo.is_some() || event.draft.memo.is_none())
}

/// The event without what is never framed.
fn framed(event: &Event) -> Event {
    Event { draft: Draft { memo: None, origin: None, ..event.draft.clone() }, ..event.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::event::{ChannelName, Timestamp};

    /// What the tables hold of one channel.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Tables {
        record: Option<Record>,
        history: BTreeMap<Seq, Event>,
    }

    impl Tables {
        fn fold(&mut self, events: &[Event], history_max: u64) {
            let events: Vec<&Event> = events.iter().collect();
            let Some(plan) = plan(self.record.clone(), &events, history_max, self).unwrap() else { return };
            let stays = |seq: Seq| seq > plan.trimmed_through || seq == plan.value;
            self.history.retain(|seq, _| !plan.cleared && stays(*seq) && *seq != plan.replaced_tick);
            self.history.extend(plan.kept.into_iter().map(|event| (event.seq, event)));
            self.record = Some(plan.record);
            self.check(history_max);
        }

        fn check(&self, history_max: u64) {
            let record = self.record.as_ref().unwrap();
            let floor = record.stored.floor;
            let below: Vec<_> = self.history.range(..=floor).map(|(_, event)| event.class()).collect();
            assert!(below.is_empty() || below == [Class::Change], "{below:?}");
            let seqs = |is_tick: bool| {
                let events = self.history.range(floor.next()..).map(|(_, event)| event);
                let events = events.filter(move |event| (event.class() == Class::Tick) == is_tick);
                events.map(|event| event.seq).collect::<Vec<_>>()
            };
            assert_eq!(seqs(false).len() as u64, record.lasting);
            assert!(record.lasting <= history_max);
            let ticks = if record.tick > Seq::ZERO { vec![record.tick] } else { Vec::new() };
            assert_eq!(seqs(true), ticks);
        }
    }

    impl Past for Tables {
        fn nth_lasting(&self, n: u64) -> Result<Seq, StoreError> {
            let above = self.history.range(self.record.as_ref().unwrap().stored.floor.next()..);
            let mut lasting = above.filter(|(_, event)| event.class() != Class::Tick);
            Ok(*lasting.nth(usize::try_from(n).unwrap() - 1).unwrap().0)
        }

        fn newest_change(&self, through: Seq) -> Result<Option<Seq>, StoreError> {
            let mut before = self.history.range(..=through).rev();
            Ok(before.find(|(_, event)| event.class() == Class::Change).map(|(seq, _)| *seq))
        }
    }

    fn event(channel: &ChannelName, seq: u64, class: Class, memo: Option<u8>) -> Event {
        let draft = Draft {
            channel: channel.clone(),
            name: None,
            class,
            data: Bytes::from(format!("{{\"status\":\"{seq}\"}}")),
            memo: memo.map(|byte| Bytes::from(vec![byte])),
            origin: Some(Bytes::from(seq.to_string())),
        };
        Event { seq: Seq(seq), at: Timestamp::default(), group: Uuid::nil(), draft }
    }

    fn classes() -> impl Strategy<Value = Class> {
        prop_oneof![
            6 => Just(Class::Change), 8 => Just(Class::Tick), 3 => Just(Class::Hidden),
            2 => Just(Class::Final), 2 => Just(Class::Notice), 1 => Just(Class::Tombstone),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn it_makes_no_difference_how_the_log_is_sliced(
            history_max in 1..4_u64,
            channel in prop_oneof![Just(ChannelName::task(Uuid::nil())), Just(ChannelName::topic("a").unwrap())],
            steps in prop::collection::vec((classes(), any::<Option<u8>>(), prop::bool::weighted(0.4)), 1..30),
        ) {
            let (mut sliced, mut single, mut whole) = (Tables::default(), Tables::default(), Tables::default());
            let mut again = Tables::default();
            let mut all = Vec::new();
            let mut slice = Vec::new();
            for (seq, (class, memo, cut)) in (1..).zip(steps) {
                let event = event(&channel, seq, class, memo);
                single.fold(std::slice::from_ref(&event), history_max);
                all.push(event.clone());
                again.fold(&all, history_max);
                slice.push(event);
                if cut {
                    sliced.fold(&std::mem::take(&mut slice), history_max);
                }
            }
            sliced.fold(&slice, history_max);
            whole.fold(&all, history_max);
            prop_assert_eq!(&sliced, &whole);
            prop_assert_eq!(&single, &whole);
            prop_assert_eq!(&again, &whole);
        }
    }
}
