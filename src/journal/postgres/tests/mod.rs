//! What holds for the PostgreSQL journal only: its lives, how it meets a database that is away, and that nodes share it.

mod faults;
mod lives;
mod outages;

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::*;
use crate::{
    event::{Class, Draft, Event},
    journal::sqlite::{SqliteExport, SqliteJournal, SqliteOptions},
    testing::{PostgresDatabase, PostgresServer},
};

impl PostgresJournal {
    /// Trims the log to its bound, without the slack that saves deletions.
    pub(crate) async fn trim_log(&self) {
        let log = i64::try_from(self.options.log).unwrap();
        self.query(PoolKind::Own, "SELECT progressd.trim_log($1, $2)", &[&log, &(1_i64 << 40)]).await.unwrap();
    }
}

async fn open(url: &str) -> Result<PostgresJournal, DatabaseRefused> {
    PostgresJournal::open(url, &PostgresOptions::default()).await
}

/// A store, and its database.
async fn store() -> (PostgresJournal, PostgresDatabase) {
    let database = PostgresServer::shared().database().await;
    (open(&database.url()).await.unwrap(), database)
}

fn task(number: u128) -> ChannelName {
    ChannelName::task(Uuid::from_u128(number))
}

fn group(channel: &ChannelName, class: Class, data: &str) -> Group {
    let data = Bytes::copy_from_slice(data.as_bytes());
    let draft = Draft { channel: channel.clone(), name: None, class, data, memo: None, origin: None };
    Group { id: Uuid::new_v4(), at: Timestamp::from_millis(1), expects: Vec::new(), drafts: vec![draft] }
}

async fn add(journal: &PostgresJournal, channel: &ChannelName, class: Class, data: &str) -> Vec<Event> {
    let head = journal.head().await.unwrap();
    journal.append(head, vec![group(channel, class, data)]).await.unwrap().events
}

#[tokio::test]
async fn nodes_that_start_together_make_one_store() {
    let database = PostgresServer::shared().database().await;
    let url = database.url();
    let nodes = futures_util::future::join_all((0..4).map(|_| open(&url))).await;
    let names: Vec<_> = nodes.iter().map(|node| node.as_ref().unwrap().epochs().clone()).collect();
    assert!(names.iter().all(|epochs| *epochs == names[0]), "{names:?}");
}

#[tokio::test]
async fn a_newer_store_is_refused_and_stays_what_it_is() {
    let (journal, database) = store().await;
    journal.close().await.unwrap();
    database.execute("UPDATE progressd.store SET version = 99").await;
    let refused = open(&database.url()).await.err().unwrap();
    assert!(matches!(refused, DatabaseRefused::Newer { found: 99, supported: open::VERSION, .. }), "{refused}");
    assert!(refused.to_string().contains("use the newer progressd"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_is_not_lost_with_a_future_that_is_dropped() {
    let (one, database) = store().await;
    let two = open(&database.url()).await.unwrap();
    let (mut head, mut slow) = (Seq::ZERO, 0);
    for nth in 0..60 {
        let appended = one.append(head, vec![group(&task(1), Class::Change, "{}")]).await.unwrap();
        let started = tokio::time::Instant::now();
        let mut heard = None;
        {
            // Dropped wherever it is by then.
            let mut follows = pin!(two.follow(head, 9));
            for _ in 0..nth * 60 {
                heard = heard.or_else(|| follows.as_mut().now_or_never());
                tokio::task::yield_now().await;
            }
        }
        let heard = match heard {
            Some(heard) => heard,
            None => two.follow(head, 9).await,
        };
        assert_eq!(heard, Tail::Events(appended.events.clone()));
        head = appended.events[0].seq;
        slow += u32::from(started.elapsed() > Duration::from_millis(150));
    }
    assert!(slow < 6, "{slow} were not heard of before somebody looked");
}

#[tokio::test]
async fn who_always_finds_something_goes_on_listening() {
    let (one, database) = store().await;
    let two = open(&database.url()).await.unwrap();
    let listeners = "datname = current_database() AND query = 'LISTEN progressd'";
    let is_there = format!("SELECT 1 / (count(*) = 1)::int FROM pg_stat_activity WHERE {listeners}");
    tokio::select! {
        _ = two.follow(Seq::ZERO, 9) => panic!("there is nothing"),
        () = async { while database.try_execute(&is_there).await.is_err() {} } => {}
    }
    database.execute(&format!("CREATE TABLE listening AS SELECT pid FROM pg_stat_activity WHERE {listeners}")).await;
    let (mut head, started) = (Seq::ZERO, tokio::time::Instant::now());
    while started.elapsed() < Duration::from_secs(1) {
        head = one.append(head, vec![group(&task(1), Class::Tick, "{}")]).await.unwrap().events[0].seq;
        assert_ne!(two.follow(Seq(head.0 - 1), 9).await, Tail::Lapsed);
    }
    let is_still_there = "SELECT 1 / (count(*) = 1)::int FROM pg_stat_activity JOIN listening USING (pid)";
    database.execute(is_still_there).await;
}

#[tokio::test]
async fn one_node_hears_of_the_other_with_its_own_append() {
    let (one, database) = store().await;
    let two = open(&database.url()).await.unwrap();
    add(&one, &task(1), Class::Change, "one").await;
    let appended = two.append(Seq::ZERO, vec![group(&task(2), Class::Change, "two")]).await.unwrap();
    let heard: Vec<_> = appended.events.iter().map(|event| (event.seq.0, &event.draft.data[..])).collect();
    assert_eq!(heard, [(1, &b"one"[..]), (2, b"two")]);
}

#[tokio::test]
async fn what_no_index_can_hold_is_kept_all_the_same() {
    let (journal, _database) = store().await;
    let long = format!(r#"{{"status":"{}","kind":"a\u0000b"}}"#, "x".repeat(10_000));
    add(&journal, &task(1), Class::Change, &long).await;
    assert_eq!(journal.last(&task(1)).await.unwrap().unwrap().visible.unwrap().draft.data, long);
    let members = vec![(Member::Kind, vec!["a\0b".to_owned()])];
    let listing = Listing { kind: ChannelKind::Task, members, created_before: None, limit: 9 };
    assert_eq!(journal.list(listing).await.unwrap(), []);
}

#[tokio::test]
async fn a_life_begins_when_a_standby_is_promoted() {
    let (journal, database) = store().await;
    let seen = add(&journal, &task(1), Class::Change, "{}").await[0].seq;
    let lost = [Seq(2), Seq(3)].map(|seq| journal.epochs().cursor(seq));
    let kept = journal.epochs().cursor(seen);
    let held = journal.epochs().clone();
    // As the new primary sees it: its WAL goes on in another timeline than the store was last used in.
    database.execute("UPDATE progressd.store SET timeline = '00000000'").await;
    let other = open(&database.url()).await.unwrap();
    assert!(other.epochs().know(kept) && !lost.iter().any(|lost| other.epochs().know(*lost)));

    // A node that was there all the time, and knows of nothing that may be lost, goes on in the new life, as do those who
    // hold its epochs.
    assert_eq!(add(&journal, &task(1), Class::Change, "{}").await[0].seq, Seq(2));
    assert_eq!((&held, journal.epochs()), (other.epochs(), other.epochs()));
    assert_eq!(other.follow(seen, 9).await, Tail::Events(vec![journal.tail(seen, 9).await.map(first).unwrap()]));
    // It is the same life for whoever comes now.
    assert_eq!(open(&database.url()).await.unwrap().epochs(), &held);
}

fn first(tail: Tail) -> Event {
    match tail {
        Tail::Events(mut events) => events.remove(0),
        Tail::Lapsed => panic!("it has lapsed"),
    }
}

#[tokio::test]
async fn the_log_is_trimmed_in_slices_while_it_grows() {
    let database = PostgresServer::shared().database().await;
    let options = PostgresOptions { log: 100, ..PostgresOptions::default() };
    let journal = PostgresJournal::open(&database.url(), &options).await.unwrap();
    let mut head = Seq::ZERO;
    for _ in 0..3 {
        let groups = (0..500).map(|number| group(&task(number % 7), Class::Tick, "{}")).collect();
        head = journal.append(head, groups).await.unwrap().events.last().unwrap().seq;
    }
    assert_eq!(journal.tail(Seq(1_399), 1).await.unwrap(), Tail::Lapsed);
    assert!(matches!(journal.tail(Seq(1_400), 1_000).await.unwrap(), Tail::Events(events) if events.len() == 100));
}

#[tokio::test]
async fn a_bound_that_was_lowered_is_in_force_at_once() {
    let (journal, database) = store().await;
    let topic = ChannelName::topic("a").unwrap();
    for class in [Class::Change, Class::Tick, Class::Notice, Class::Notice, Class::Notice, Class::Tick] {
        add(&journal, &topic, class, &"x".repeat(40)).await;
    }
    for (bytes, floor, kept) in [(120, 1, &[1, 3, 4, 5, 6][..]), (119, 3, &[1, 4, 5, 6]), (1, 4, &[1, 5, 6])] {
        let history = HistoryBounds::from(9).of_bytes(bytes);
        let options = PostgresOptions { history, ..PostgresOptions::default() };
        let journal = PostgresJournal::open(&database.url(), &options).await.unwrap();
        let found = journal.read(&topic, Seq::ZERO).await.unwrap();
        let seqs: Vec<u64> = found.events.iter().map(|event| event.seq.0).collect();
        assert_eq!((found.floor, &seqs[..]), (Seq(floor), kept), "{bytes}");
        assert_eq!(journal.last(&topic).await.unwrap().unwrap().floor, found.floor);
    }
    // A bound that is raised again brings nothing back.
    let raised = open(&database.url()).await.unwrap();
    assert_eq!(raised.read(&topic, Seq::ZERO).await.unwrap().floor, Seq(4));
}

#[tokio::test]
async fn an_older_store_is_upgraded_once_and_used_by_both_versions() {
    let database = PostgresServer::shared().database().await;
    database.execute(include_str!("../../../../tests/fixtures/stores/postgres-1/store.sql")).await;
    let counted = "DO $$ BEGIN ASSERT (SELECT count(*) FROM progressd.channels c WHERE c.bytes IS DISTINCT FROM
        (SELECT coalesce(sum(octet_length(h.data) + octet_length(h.name)), 0) FROM progressd.history h
         WHERE h.channel = c.created AND h.class <> 2)) = 0 AND (SELECT sum(bytes) FROM progressd.channels) > 1000;
        END $$";
    for _ in 0..2 {
        let journal = open(&database.url()).await.unwrap();
        database.execute(counted).await;
        journal.close().await.unwrap();
    }
    // A node of the earlier version still runs: it gives no bound on bytes.
    let append = "SELECT progressd.append(head, epoch, 100, ARRAY[gen_random_uuid()], ARRAY[0], ARRAY[]::int[],
        ARRAY[]::text[], ARRAY[]::bigint[], ARRAY[1], ARRAY['topic:a'], ARRAY['topic'], ARRAY[1000::bigint],
        ARRAY[6::smallint], ARRAY['a'], ARRAY['{}'::bytea], ARRAY[NULL::bytea], ARRAY[NULL::bytea], ARRAY[NULL],
        ARRAY[NULL], ARRAY[NULL], ARRAY[NULL]) FROM progressd.store";
    database.execute(append).await;
    database.execute(counted).await;
}

#[tokio::test]
async fn a_kind_of_channel_that_is_not_known_is_told_apart_by_its_word() {
    let (directory, database) = (tempfile::tempdir().unwrap(), PostgresServer::shared().database().await);
    let embedded = SqliteJournal::open(directory.path(), &SqliteOptions::default()).unwrap();
    let schedules = ["schedule:a", "schedule:b"].map(|name| ChannelName::stored(name).unwrap());
    embedded.append(Seq::ZERO, vec![group(&schedules[0], Class::Unknown(99), "{}")]).await.unwrap();
    embedded.close().await.unwrap();
    let rows = "SELECT count(*) FROM channels WHERE channel_kind = 'schedule'";
    let file = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    assert_eq!(file.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop((file, embedded));

    let source = SqliteExport::open(directory.path()).await.unwrap();
    import(&database.url(), &source, Vec::new(), |_| Ok(()), &mut |_, _| {}).await.unwrap();
    let journal = open(&database.url()).await.unwrap();
    add(&journal, &schedules[1], Class::Change, "{}").await;
    database.execute("SELECT 1 / (count(*) = 2)::int FROM progressd.channels WHERE channel_kind = 'schedule'").await;
    let Tail::Events(moved) = journal.tail(Seq::ZERO, 1).await.unwrap() else { panic!("nothing is trimmed") };
    assert_eq!((moved[0].channel(), moved[0].class()), (&schedules[0], Class::Unknown(99)));
}

#[tokio::test]
async fn an_upgrade_waits_for_an_append_that_is_on_its_way() {
    let database = PostgresServer::shared().database().await;
    database.execute(include_str!("../../../../tests/fixtures/stores/postgres-1/store.sql")).await;
    let (node, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    // As a node of the earlier version does: it has the log's lock, and touches the tables after that.
    node.batch_execute("BEGIN; SELECT progressd.lock_log()").await.unwrap();
    let options = PostgresOptions { history: HistoryBounds::from(9).of_bytes(100), ..PostgresOptions::default() };
    let url = database.url();
    let opening = async move { PostgresJournal::open(&url, &options).await.map(drop) };
    let opening = AbortOnDropHandle::new(tokio::spawn(opening));
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    while !node.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(!opening.is_finished(), "it waits");
    }
    node.batch_execute("UPDATE progressd.channels SET last = last; COMMIT").await.unwrap();
    opening.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_role_needs_no_more_than_to_create_a_schema() {
    let database = PostgresServer::shared().database().await;
    let grant = "DO $$ BEGIN
            CREATE ROLE plain LOGIN;
            EXECUTE format('GRANT CREATE ON DATABASE %I TO plain', current_database());
        END $$";
    database.execute(grant).await;
    let journal = open(&database.url().replace("progressd@", "plain@")).await.unwrap();
    let kept = add(&journal, &task(1), Class::Change, "{}").await;
    journal.check().await.unwrap();
    assert_eq!(journal.tail(Seq::ZERO, 9).await.unwrap(), Tail::Events(kept));
    drop(journal);
    let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'plain'";
    database.execute(&format!("{sessions}; DROP OWNED BY plain; DROP ROLE plain")).await;
}
