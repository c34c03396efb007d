//! What folding some events of one channel comes to: pure, so that readers can answer as though it had been done.

use super::{error::StoreError, record::Record};
use crate::{
    event::{ChannelKind, Class, Draft, Event, HistorySize, Seq},
    journal::{Members, Stored},
};

/// What a channel's history has, where a plan depends on it.
pub(super) trait Past {
    /// Goes through the changes, notices and finals above the floor, the oldest first, with the bytes of each, as long as
    /// the answer is true.
    fn each_lasting(&self, visit: &mut Visit<'_>) -> Result<(), StoreError>;
    /// The seq of the newest change at or below this one, if there is any.
    fn newest_change(&self, through: Seq) -> Result<Option<Seq>, StoreError>;
}

/// Is given the seq of an event and its bytes.
pub(super) type Visit<'a> = dyn FnMut(Seq, u64) -> Result<bool, StoreError> + 'a;

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
    bound: HistorySize,
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
    plan.trim(bound, past)?;
    if let Some(event) = events.last().and(plan.record.stored.visible.as_ref()) {
        plan.record.members = Members::of(&event.draft);
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
        let (size, tick, members) = Default::default();
        let record = Record { stored, last_at: event.at, size, tick, members };
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
            Class::Change | Class::Notice | Class::Final | Class::Unknown(_) => self.lasting(event),
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
        record.size = record.size.with(event);
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
        (record.size, record.tick, record.members) = Default::default();
        self.cleared = true;
        self.kept.clear();
    }

    /// Trims the history to its bound and raises the floor.
    pub(super) fn trim(&mut self, bound: HistorySize, past: &impl Past) -> Result<(), StoreError> {
        let mut left = HistoryRest { bound, size: self.record.size, floor: self.record.stored.floor };
        if left.size.is_within(bound) {
            return Ok(());
        }
        let mut gained = self.kept.iter().filter(|event| event.class() != Class::Tick);
        let gained_events = gained.clone().count() as u64;
        if left.size.events > gained_events {
            past.each_lasting(&mut |seq, bytes| left.trim(seq, bytes))?;
            if left.size.events > gained_events && !left.size.is_within(bound) {
                return Err(miscounted());
            }
        }
        // The rest of the excess lies among what was gained.
        while let Some(event) = gained.next()
            && left.trim(event.seq, event.size_bytes())?
        {}
        let floor = left.floor;
        self.trimmed_through = floor;
        if self.record.stored.channel.kind() == ChannelKind::Topic {
            let is_value = |event: &&Event| event.class() == Class::Change && event.seq <= floor;
            let gained = self.kept.iter().rfind(is_value).map(|event| event.seq);
            self.value = match gained {
                Some(value) => value,
                // What the history has is of an earlier life.
                None if self.cleared => Seq::ZERO,
                None => past.newest_change(floor)?.unwrap_or_default(),
            };
        }
        self.kept.retain(|event| event.seq > floor || event.seq == self.value);
        self.record.stored.floor = floor;
        self.record.size = left.size;
        if self.record.tick <= floor {
            self.record.tick = Seq::ZERO;
        }
        Ok(())
    }
}

/// What is left of a history while its oldest events are trimmed.
struct HistoryRest {
    bound: HistorySize,
    size: HistorySize,
    floor: Seq,
}

impl HistoryRest {
    /// Trims one more event, unless the rest is within the bound.
    fn trim(&mut self, seq: Seq, bytes: u64) -> Result<bool, StoreError> {
        let is_beyond = !self.size.is_within(self.bound);
        if is_beyond {
            (self.size, self.floor) = (self.size.without(bytes).ok_or_else(miscounted)?, seq);
        }
        Ok(is_beyond)
    }
}

fn miscounted() -> StoreError {
    StoreError::Damaged("a channel's history has less than its row counts".into())
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
        fn fold(&mut self, events: &[Event], bound: HistorySize) {
            let events: Vec<&Event> = events.iter().collect();
            let Some(plan) = plan(self.record.clone(), &events, bound, self).unwrap() else { return };
            let stays = |seq: Seq| seq > plan.trimmed_through || seq == plan.value;
            self.history.retain(|seq, _| !plan.cleared && stays(*seq) && *seq != plan.replaced_tick);
            self.history.extend(plan.kept.into_iter().map(|event| (event.seq, event)));
            self.record = Some(plan.record);
            self.check(bound);
        }

        fn check(&self, bound: HistorySize) {
            let record = self.record.as_ref().unwrap();
            let floor = record.stored.floor;
            let below: Vec<_> = self.history.range(..=floor).map(|(_, event)| event.class()).collect();
            assert!(below.is_empty() || below == [Class::Change], "{below:?}");
            let above = self.history.range(floor.next()..).map(|(_, event)| event);
            let (found, lasting): (Vec<&Event>, Vec<_>) = above.partition(|event| event.class() == Class::Tick);
            assert_eq!(lasting.into_iter().fold(HistorySize::default(), HistorySize::with), record.size);
            assert!(record.size.is_within(bound));
            let ticks = if record.tick > Seq::ZERO { vec![record.tick] } else { Vec::new() };
            assert_eq!(found.iter().map(|event| event.seq).collect::<Vec<_>>(), ticks);
        }
    }

    impl Past for Tables {
        fn each_lasting(&self, visit: &mut Visit<'_>) -> Result<(), StoreError> {
            let above = self.history.range(self.record.as_ref().unwrap().stored.floor.next()..);
            for (seq, event) in above.filter(|(_, event)| event.class() != Class::Tick) {
                if !visit(*seq, event.size_bytes())? {
                    break;
                }
            }
            Ok(())
        }

        fn newest_change(&self, through: Seq) -> Result<Option<Seq>, StoreError> {
            let mut before = self.history.range(..=through).rev();
            Ok(before.find(|(_, event)| event.class() == Class::Change).map(|(seq, _)| *seq))
        }
    }

    fn event(channel: &ChannelName, seq: u64, class: Class, memo: Option<u8>, more: usize) -> Event {
        let draft = Draft {
            channel: channel.clone(),
            name: Some("n".repeat(more % 3).into()),
            class,
            data: Bytes::from(format!("{{\"status\":\"{seq}{}\"}}", "-".repeat(more))),
            memo: memo.map(|byte| Bytes::from(vec![byte])),
            origin: Some(Bytes::from(seq.to_string())),
        };
        Event { seq: Seq(seq), at: Timestamp::default(), group: Uuid::nil(), draft }
    }

    fn classes() -> impl Strategy<Value = Class> {
        prop_oneof![
            6 => Just(Class::Change), 8 => Just(Class::Tick), 3 => Just(Class::Hidden),
            2 => Just(Class::Final), 2 => Just(Class::Notice), 1 => Just(Class::Tombstone), 1 => Just(Class::Unknown(99)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn it_makes_no_difference_how_the_log_is_sliced(
            (events, bytes) in (1..5_u64, 1..120_u64),
            channel in prop_oneof![Just(ChannelName::task(Uuid::nil())), Just(ChannelName::topic("a").unwrap())],
            steps in prop::collection::vec((classes(), any::<Option<u8>>(), 0..60_usize, prop::bool::weighted(0.4)), 1..30),
        ) {
            let bound = HistorySize { events, bytes };
            let (mut sliced, mut single, mut whole) = (Tables::default(), Tables::default(), Tables::default());
            let mut again = Tables::default();
            let mut all = Vec::new();
            let mut slice = Vec::new();
            for (seq, (class, memo, more, cut)) in (1..).zip(steps) {
                let event = event(&channel, seq, class, memo, more);
                single.fold(std::slice::from_ref(&event), bound);
                all.push(event.clone());
                again.fold(&all, bound);
                slice.push(event);
                if cut {
                    sliced.fold(&std::mem::take(&mut slice), bound);
                }
            }
            sliced.fold(&slice, bound);
            whole.fold(&all, bound);
            prop_assert_eq!(&sliced, &whole);
            prop_assert_eq!(&single, &whole);
            prop_assert_eq!(&again, &whole);
        }
    }
}
