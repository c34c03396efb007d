//! The contract suite: every journal is held to each sentence of the contract's page.
//!
//! A test is a function over a [`Store`]; the macro at the end runs each on every journal.

mod appending;
mod keeping;
mod listing;
mod newer;
mod random;
mod reading;

use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    Appended, Expect, Group, Journal, JournalError, Outcome,
    postgres::{PostgresJournal, PostgresOptions},
    sqlite::{SqliteJournal, SqliteOptions},
};
use crate::{
    event::{ChannelName, Class, Draft, Event, History, HistoryBounds, Seq, Timestamp},
    testing::{MemoryJournal, PostgresDatabase, PostgresServer},
};

/// A journal under test, and what can be done to it from outside of the contract.
#[async_trait]
trait Store: Send + Sync + Sized {
    /// Whether each start begins an epoch; a shared store begins one when it is restored or a standby is promoted.
    const STARTS_BEGIN_EPOCHS: bool = true;
    /// An empty journal with these bounds.
    async fn open(history: impl Into<HistoryBounds> + Send, log: usize) -> Self;
    fn journal(&self) -> &dyn Journal;
    /// Lets the fold catch up.
    async fn fold(&self);
    /// The journal after it was closed and opened again.
    async fn restarted(self) -> Self;
    /// The journal after it was opened again without having been closed.
    async fn crashed(self) -> Self;
}

struct InMemory(MemoryJournal);

#[async_trait]
impl Store for InMemory {
    async fn open(history: impl Into<HistoryBounds> + Send, log: usize) -> Self {
        Self(MemoryJournal::with_bounds(history, log))
    }

    fn journal(&self) -> &dyn Journal {
        &self.0
    }

    async fn fold(&self) {
        self.0.fold().await;
    }

    async fn restarted(self) -> Self {
        self.0.close().await.unwrap();
        Self(self.0.reopened())
    }

    async fn crashed(self) -> Self {
        Self(self.0.reopened())
    }
}

struct InSqlite {
    journal: SqliteJournal,
    options: SqliteOptions,
    directory: TempDir,
}

#[async_trait]
impl Store for InSqlite {
    async fn open(history: impl Into<HistoryBounds> + Send, log: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions { history: history.into(), log, ..SqliteOptions::default() };
        Self { journal: SqliteJournal::open(directory.path(), &options).unwrap(), options, directory }
    }

    fn journal(&self) -> &dyn Journal {
        &self.journal
    }

    async fn fold(&self) {
        self.journal.fold().await.unwrap();
    }

    async fn restarted(self) -> Self {
        self.journal.close().await.unwrap();
        Self { journal: SqliteJournal::open(self.directory.path(), &self.options).unwrap(), ..self }
    }

    async fn crashed(self) -> Self {
        let Self { journal, options, directory } = self;
        drop(journal);
        Self { journal: SqliteJournal::open(directory.path(), &options).unwrap(), options, directory }
    }
}

struct InPostgres {
    journal: PostgresJournal,
    options: PostgresOptions,
    database: PostgresDatabase,
}

impl InPostgres {
    async fn opened(options: PostgresOptions, database: PostgresDatabase) -> Self {
        Self { journal: PostgresJournal::open(&database.url(), &options).await.unwrap(), options, database }
    }
}

#[async_trait]
impl Store for InPostgres {
    const STARTS_BEGIN_EPOCHS: bool = false;

    async fn open(history: impl Into<HistoryBounds> + Send, log: usize) -> Self {
        let options = PostgresOptions { history: history.into(), log };
        Self::opened(options, PostgresServer::shared().database().await).await
    }

    fn journal(&self) -> &dyn Journal {
        &self.journal
    }

    async fn fold(&self) {
        self.journal.trim_log().await;
    }

    async fn restarted(self) -> Self {
        self.journal.close().await.unwrap();
        Self::opened(self.options, self.database).await
    }

    async fn crashed(self) -> Self {
        drop(self.journal);
        Self::opened(self.options, self.database).await
    }
}

/// When an answer is looked at: it must be the same at each of these moments.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Just after it was appended.
    Fresh,
    Folded,
    Restarted,
    Crashed,
}

const MOMENTS: [Moment; 4] = [Moment::Fresh, Moment::Folded, Moment::Restarted, Moment::Crashed];

impl Moment {
    async fn of<S: Store>(self, store: S) -> S {
        match self {
            Self::Fresh => store,
            Self::Folded => {
                store.fold().await;
                store
            }
            Self::Restarted => store.restarted().await,
            Self::Crashed => store.crashed().await,
        }
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn task(number: u128) -> ChannelName {
    ChannelName::task(Uuid::from_u128(number))
}

fn key(number: u128) -> ChannelName {
    ChannelName::key(Uuid::from_u128(number))
}

fn draft(channel: &ChannelName, class: Class, data: &str) -> Draft {
    let data = Bytes::copy_from_slice(data.as_bytes());
    Draft { channel: channel.clone(), name: Some(Cow::Borrowed("progress")), class, data, memo: None, origin: None }
}

/// A group that expects nothing, decided at time zero.
fn group(drafts: impl Into<Vec<Draft>>) -> Group {
    Group { id: Uuid::new_v4(), at: at(0), expects: Vec::new(), drafts: drafts.into() }
}

fn group_at(millis: i64, drafts: impl Into<Vec<Draft>>) -> Group {
    Group { at: at(millis), ..group(drafts) }
}

fn expecting(channel: &ChannelName, expect: Expect, drafts: impl Into<Vec<Draft>>) -> Group {
    Group { expects: vec![(channel.clone(), expect)], ..group(drafts) }
}

/// Appends as one who knows everything, and expects that all of it is committed.
async fn commit(journal: &dyn Journal, groups: impl Into<Vec<Group>>) -> Vec<Event> {
    let appended = append(journal, groups).await.unwrap();
    assert!(appended.outcomes.iter().all(|outcome| *outcome == Outcome::Committed), "{:?}", appended.outcomes);
    appended.events
}

async fn append(journal: &dyn Journal, groups: impl Into<Vec<Group>>) -> Result<Appended, JournalError> {
    let head = journal.head().await?;
    journal.append(head, groups.into()).await
}

/// Appends one event in a group of its own and returns its seq.
async fn add(journal: &dyn Journal, channel: &ChannelName, class: Class, data: &str) -> Seq {
    commit(journal, [group([draft(channel, class, data)])]).await.last().unwrap().seq
}

/// Sweeps all that may go, with the last of it folded.
async fn sweep_all<S: Store>(store: &S, before: i64) {
    store.fold().await;
    while store.journal().sweep(at(before), 3).await.unwrap() {}
}

/// The event as readers get it.
fn framed(event: &Event) -> Event {
    Event { draft: Draft { memo: None, origin: None, ..event.draft.clone() }, ..event.clone() }
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq.0).collect()
}

/// Leaves out the ticks that a later one replaced: a journal may have them or not.
fn settled(events: Vec<Event>) -> Vec<Event> {
    let last_tick = events.iter().rev().find(|event| event.class() == Class::Tick).map(|event| event.seq);
    events.into_iter().filter(|event| event.class() != Class::Tick || Some(event.seq) == last_tick).collect()
}

macro_rules! hold_to_contract {
    ($($group:ident { $($test:ident),+ $(,)? })+) => {
        mod memory { $(mod $group { $(
            #[tokio::test]
            async fn $test() {
                super::super::$group::$test::<super::super::InMemory>().await;
            }
        )+ })+ }
        mod sqlite { $(mod $group { $(
            #[tokio::test]
            async fn $test() {
                super::super::$group::$test::<super::super::InSqlite>().await;
            }
        )+ })+ }
        mod postgres { $(mod $group { $(
            #[tokio::test]
            async fn $test() {
                super::super::$group::$test::<super::super::InPostgres>().await;
            }
        )+ })+ }
    };
}

hold_to_contract! {
    appending {
        gives_each_event_the_next_seq_and_keeps_all_that_was_given,
        writes_only_where_what_is_expected_holds,
        leaves_out_a_conflicting_group_whole,
        counts_the_groups_before_in_the_same_call,
        asks_nothing_of_channels_that_are_not_named,
        brings_the_events_of_others,
        brings_them_to_a_group_without_events,
        brings_the_events_of_others_also_when_nothing_was_written,
        does_not_write_a_group_twice,
        takes_nothing_as_well,
        refuses_a_head_that_it_never_gave,
        refuses_a_head_below_the_trimmed_log,
        puts_appends_that_come_together_in_one_order,
    }
    reading {
        tells_the_state_of_a_channel,
        tells_nothing_of_a_channel_that_is_not_there,
        tells_the_states_of_many_channels_in_the_order_asked,
        keeps_the_newest_memo_and_the_first_origin,
        reads_the_visible_events_after_a_seq,
        tails_every_event_in_order,
        tail_lapses_where_the_log_was_trimmed,
        answers_nothing_once_closed,
    }
    keeping {
        keeps_of_ticks_at_least_the_last,
        keeps_a_tick_before_a_change,
        a_tick_is_replaced_whatever_was_folded_between,
        trims_the_oldest_beyond_the_bound_and_raises_the_floor,
        a_topic_keeps_its_value_below_the_floor,
        each_kind_of_channel_has_its_own_bound,
        bounds_the_bytes_of_every_kind_of_channel,
        the_value_of_a_topic_outlives_the_bound_on_bytes,
        neither_ticks_nor_hidden_events_push_others_out,
        a_tombstone_leaves_only_that_it_was_there,
        a_channel_begins_anew_after_its_tombstone,
        nothing_of_a_topic_outlives_its_deletion,
        sweeps_old_tombstones_and_nothing_else,
        sweeps_no_more_than_it_is_asked_to,
        sweeps_no_channel_that_has_begun_anew,
        trims_what_is_old_a_slice_at_a_time,
        never_gives_a_seq_again,
        keeps_its_name_and_head,
        begins_an_epoch_with_each_life_and_keeps_those_before,
        folds_all_that_there_is,
    }
    listing {
        lists_a_kind_newest_first_in_pages,
        lists_by_members_of_the_visible_state,
        lists_live_channels_only,
        pages_through_the_live_channels_oldest_first,
        never_lists_tombstones,
        finds_what_finished_before_a_time,
        lists_with_memo_and_origin,
        counts_by_a_member,
    }
    newer {
        keeps_events_of_classes_that_are_not_known,
        keeps_channels_of_kinds_that_are_not_known,
        the_value_of_a_topic_is_of_a_class_that_is_known,
    }
}
