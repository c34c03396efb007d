//! A database that is away, and answers that are lost.

use super::*;

/// Ends the connection on which an append runs or waits.
const CUT_APPENDS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND query LIKE '%progressd.append%' AND state = 'active' \
     AND pid <> pg_backend_pid()";

/// Waits until somebody holds the log's lock.
async fn wait_for_lock(database: &PostgresDatabase) {
    let held = "SELECT 1 / count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted";
    while database.try_execute(held).await.is_err() {}
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_the_groups_id() {
    let (journal, database) = store().await;
    let lost = group(&task(1), Class::Change, "{}");
    // Another node is in the middle of an append, so this one waits for the log's lock; then its connection breaks.
    let holds = database.try_execute("BEGIN; SELECT progressd.lock_log(); SELECT pg_sleep(60)");
    let waits = "SELECT 1 / count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND query LIKE '%progressd.append%' AND wait_event = 'advisory' AND pid <> pg_backend_pid()";
    let cuts = async {
        while database.try_execute(waits).await.is_err() {}
        database.execute(CUT_APPENDS).await;
    };
    let appends = async { tokio::join!(journal.append(Seq::ZERO, vec![lost.clone()]), cuts).0 };
    let unknown = tokio::select! {
        appended = async { wait_for_lock(&database).await; appends.await } => appended.unwrap(),
        held = holds => panic!("the lock is held for longer: {held:?}"),
    };
    assert_eq!((unknown.outcomes, unknown.events), (vec![Outcome::Unknown], vec![]));
    let release = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' \
         AND datname = current_database() AND pid <> pg_backend_pid()";
    database.execute(release).await;
    for _ in 0..2 {
        let again = journal.append(Seq::ZERO, vec![lost.clone()]).await.unwrap();
        assert_eq!((again.outcomes, again.events.len()), (vec![Outcome::Committed], 1));
    }
}

#[tokio::test]
async fn slow_reads_hold_up_neither_appends_nor_whoever_follows() {
    let (journal, database) = store().await;
    let other = open(&database.url()).await.unwrap();
    let (journal, mut head) = (Arc::new(journal), Seq::ZERO);
    let locked = AbortOnDropHandle::new(tokio::spawn({
        let url = database.url();
        async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let holds = async {
                client.batch_execute("BEGIN; LOCK progressd.history; SELECT pg_sleep(60)").await.unwrap();
            };
            tokio::select! { () = holds => {}, _ended = connection => {} }
        }
    }));
    let waiting = "SELECT 1 / count(*) FROM pg_locks l WHERE l.relation = 'progressd.history'::regclass AND l.granted          AND l.mode = 'AccessExclusiveLock'";
    while database.try_execute(waiting).await.is_err() {}
    let reads = (0..20).map(|_| {
        let journal = Arc::clone(&journal);
        AbortOnDropHandle::new(tokio::spawn(async move { journal.read(&task(1), Seq::ZERO).await.map(drop) }))
    });
    let reads: Vec<_> = reads.collect();
    // Also when most of them are told that no connection was free.
    let mut rounds_after = 0;
    while rounds_after < 3 {
        rounds_after += i32::from(reads.iter().skip(8).all(AbortOnDropHandle::is_finished));
        let round = async {
            for journal in [&*journal, &other] {
                let appended = journal.append(head, vec![group(&task(2), Class::Hidden, "")]).await.unwrap();
                assert_eq!(appended.outcomes, [Outcome::Committed]);
                head = appended.events.last().unwrap().seq;
            }
            assert!(matches!(journal.follow(Seq(head.0 - 1), 9).await, Tail::Events(events) if events.len() == 1));
            assert!(journal.live(ChannelKind::Task, Seq::ZERO, 9).await.is_ok());
        };
        tokio::time::timeout(Duration::from_secs(3), round).await.expect("it does not wait for reads");
    }
    drop(locked);
}

#[tokio::test]
async fn a_database_that_comes_back_is_used_again() {
    let server: &'static PostgresServer = Box::leak(Box::new(PostgresServer::start()));
    let database = server.database().await;
    let journal = open(&database.url()).await.unwrap();
    let kept = add(&journal, &task(1), Class::Change, "{}").await;
    server.stop();
    for _ in 0..20 {
        match journal.append(Seq(1), vec![group(&task(1), Class::Tick, "{}")]).await {
            Err(JournalError::Unavailable(_)) => {}
            Ok(appended) => assert_eq!(appended.outcomes, [Outcome::Unknown]),
            Err(other) => panic!("{other}"),
        }
        assert!(matches!(journal.last(&task(1)).await, Err(JournalError::Unavailable(_))));
    }
    server.start_again();
    // It is tried again within the longest pause.
    let back = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match journal.append(Seq(1), vec![group(&task(2), Class::Change, "{}")]).await {
                Ok(appended) if appended.outcomes == [Outcome::Committed] => break appended,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    assert_eq!(back.await.unwrap().events.len(), 1);
    assert_eq!(journal.tail(Seq::ZERO, 1).await.unwrap(), Tail::Events(kept));
    server.end();
}
