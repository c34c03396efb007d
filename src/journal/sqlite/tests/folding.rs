//! When the log is folded, and what is in between.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn folds_by_itself_when_nothing_comes() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "{}").await;
    let folded = async {
        while journal.folded_through() < Seq(1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), folded).await.unwrap();
}

#[tokio::test]
async fn the_fold_is_never_far_behind() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    for _ in 0..5 {
        let mut many = group(&task(1), Class::Tick, "{}");
        many.drafts = vec![many.drafts[0].clone(); 6_000];
        append(&journal, vec![many]).await.unwrap();
        let lag = journal.last_seq().0 - journal.folded_through().0;
        assert!(lag <= 16_384, "{lag} events behind");
    }
}

/// Three tasks; the first has ended, and is in its row with all that the log has of it.
async fn folded_ahead(journal: &SqliteJournal) -> Vec<ChannelName> {
    let channels = [1, 2, 3].map(task);
    let mut all = group(&task(1), Class::Change, "{}");
    for (number, class) in [(2, Class::Change), (3, Class::Change), (1, Class::Final), (1, Class::Tombstone)] {
        all.drafts.extend(group(&task(number), class, "{}").drafts);
    }
    append(journal, vec![all]).await.unwrap();
    with_writer(journal, |writer| writer.fold_or_log(1)).await;
    channels.to_vec()
}

#[tokio::test]
async fn a_row_may_be_ahead_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let channels = folded_ahead(&journal).await;
    let ahead = journal.last_many(&channels).await.unwrap();
    assert_eq!(ahead[0].as_ref().unwrap().floor, Seq(5));
    add(&journal, &channels[0], Class::Change, "anew").await;
    let anew = journal.last_many(&channels).await.unwrap();
    assert_eq!(anew[0].as_ref().unwrap().created, Seq(6));
    drop(journal);
    let journal = open(directory.path()).unwrap();
    assert_eq!(journal.last_many(&channels).await.unwrap(), anew);
}

#[tokio::test]
async fn what_the_log_still_has_is_not_swept() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let channels = folded_ahead(&journal).await;
    // The fold may have gone on meanwhile.
    let swept = journal.sweep(Timestamp::from_millis(2), 1).await.unwrap();
    let found = journal.last(&channels[0]).await.unwrap();
    assert_eq!(found.is_none(), swept, "{found:?}");
    journal.fold().await.unwrap();
    while journal.sweep(Timestamp::from_millis(2), 1).await.unwrap() {}
    assert_eq!(journal.last(&channels[0]).await.unwrap(), None);
}

#[tokio::test]
async fn a_bound_that_was_lowered_is_in_force_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    for class in [Class::Change, Class::Tick, Class::Notice, Class::Notice, Class::Notice, Class::Tick] {
        add(&journal, &ChannelName::topic("a").unwrap(), class, &"x".repeat(40)).await;
    }
    journal.close().await.unwrap();
    for (bytes, floor, kept) in [(120, 1, &[1, 3, 4, 5, 6][..]), (119, 3, &[1, 4, 5, 6]), (1, 4, &[1, 5, 6])] {
        let history = HistoryBounds::from(9).of_bytes(bytes);
        let options = SqliteOptions { history, ..SqliteOptions::default() };
        let journal = SqliteJournal::open(directory.path(), &options).unwrap();
        let topic = ChannelName::topic("a").unwrap();
        let found = journal.read(&topic, Seq::ZERO).await.unwrap();
        let seqs: Vec<u64> = found.events.iter().map(|event| event.seq.0).collect();
        assert_eq!((found.floor, &seqs[..]), (Seq(floor), kept), "{bytes}");
        assert_eq!(journal.last(&topic).await.unwrap().unwrap().floor, found.floor);
    }
}
