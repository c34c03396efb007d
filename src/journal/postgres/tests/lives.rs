//! Lives of a store on a real server: files that are put back as they were earlier, and a standby that is promoted.

use super::*;
use crate::testing::PostgresCluster;

/// Tries until there is an answer that is about the store, and not about connections that broke.
async fn settled(journal: &PostgresJournal, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
    tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match journal.append(known_head, groups.clone()).await {
                Err(JournalError::Unavailable(_)) => {}
                Ok(appended) if appended.outcomes.contains(&Outcome::Unknown) => {}
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the store comes back")
}

fn latest(journal: &PostgresJournal) -> Epoch {
    journal.epochs().of(Seq(u64::MAX))
}

#[tokio::test]
async fn what_is_lost_with_files_that_are_put_back_is_known() {
    let server: &'static PostgresServer = Box::leak(Box::new(PostgresServer::start()));
    let database = server.database().await;
    let [one, other] = [open(&database.url()).await.unwrap(), open(&database.url()).await.unwrap()];
    let readers = [open(&database.url()).await.unwrap(), open(&database.url()).await.unwrap()];
    let kept = add(&one, &task(1), Class::Change, "kept").await[0].seq;
    let before = one.epochs().cursor(kept);
    server.stop();
    server.copy_files();
    server.start_again();
    // Nothing is lost by a start: whoever knows the store goes on.
    let appended = settled(&one, kept, vec![group(&task(1), Class::Change, "lost")]).await.unwrap();
    let lost = one.epochs().cursor(appended.events[0].seq);
    assert_eq!((lost.seq, one.epochs().know(before)), (Seq(2), true));
    assert_eq!(readers[0].read(&task(1), Seq::ZERO).await.unwrap().events.len(), 2);
    assert!(readers[1].last(&task(1)).await.unwrap().is_some_and(|stored| stored.last == lost.seq));
    server.stop();
    server.put_back();
    server.start_again();

    // A node that starts now, and knows nothing of what was lost.
    let new = open(&database.url()).await.unwrap();
    assert!(new.epochs().know(before) && !new.epochs().know(lost));
    let again = new.append(kept, vec![group(&task(2), Class::Change, "again")]).await.unwrap().events[0].clone();
    assert_eq!(again.seq, lost.seq);
    assert_ne!(new.epochs().cursor(again.seq), lost);
    // One that was there and knows of it: nothing is decided upon that until it has loaded what is there.
    for _ in 0..2 {
        let stale = settled(&one, lost.seq, vec![group(&task(1), Class::Change, "stale")]).await;
        assert!(matches!(stale, Err(JournalError::Lapsed)), "{stale:?}");
    }
    assert_eq!(one.follow(lost.seq, 9).await, Tail::Lapsed);
    assert!(one.epochs().know(before) && !one.epochs().know(lost));
    let epoch = latest(&one);
    assert_eq!(one.head().await.unwrap(), again.seq);
    one.adopt(epoch);
    assert_eq!(add(&one, &task(1), Class::Change, "{}").await[0].seq, Seq(3));
    // One that was there and does not goes on.
    let heard = settled(&other, kept, Vec::new()).await.unwrap().events;
    assert_eq!((heard.len(), &heard[0]), (2, &again));
    // One that was only shown it knows of it, too.
    for reader in &readers {
        let stale = settled(reader, kept, Vec::new()).await;
        assert!(matches!(stale, Err(JournalError::Lapsed)), "{stale:?}");
    }
    drop(([one, other, new], readers));
    server.end();
}

#[tokio::test]
async fn a_store_that_ends_before_what_a_node_knows_begins_a_life() {
    let (journal, database) = store().await;
    let kept = add(&journal, &task(1), Class::Change, "{}").await[0].seq;
    let lost = journal.epochs().cursor(add(&journal, &task(2), Class::Change, "{}").await[0].seq);
    // As a machine whose memory was put back, too: the same server runs on.
    let put_back = "UPDATE progressd.store SET head = 1; DELETE FROM progressd.events WHERE seq > 1; \
         DELETE FROM progressd.channels WHERE created > 1; DELETE FROM progressd.history WHERE seq > 1; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid()";
    database.execute(put_back).await;
    let stale = settled(&journal, lost.seq, Vec::new()).await;
    assert!(matches!(stale, Err(JournalError::Lapsed)), "{stale:?}");
    assert!(!journal.epochs().know(lost) && journal.epochs().know(journal.epochs().cursor(kept)));
    let epoch = latest(&journal);
    assert_eq!(journal.head().await.unwrap(), kept);
    journal.adopt(epoch);
    assert_eq!(add(&journal, &task(2), Class::Change, "{}").await[0].seq, lost.seq);
    // Once is enough.
    assert_eq!((latest(&journal), open(&database.url()).await.unwrap().epochs()), (epoch, journal.epochs()));
}

#[tokio::test]
async fn a_node_goes_on_when_a_standby_is_promoted() {
    let mut cluster = PostgresCluster::start().await;
    let journal = open(&cluster.url()).await.unwrap();
    let kept = add(&journal, &task(1), Class::Change, "kept").await.remove(0);
    let (cursor, life) = (journal.epochs().cursor(kept.seq), latest(&journal));
    cluster.kill_primary();
    cluster.promote().await;
    let appended = settled(&journal, kept.seq, vec![group(&task(1), Class::Change, "{}")]).await.unwrap();
    let next = appended.events.last().unwrap().seq;
    assert!(latest(&journal) != life && journal.epochs().know(cursor) && journal.epochs().of(next) != life);
    assert_eq!(journal.tail(Seq::ZERO, 1).await.unwrap(), Tail::Events(vec![kept]));
    assert_eq!(open(&cluster.url()).await.unwrap().epochs(), journal.epochs());
}
