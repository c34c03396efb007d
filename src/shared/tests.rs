use std::{fs, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    event::Seq,
    journal::{Journal, JournalError},
    testing::{LostAnswer, MemoryJournal},
};

/// A store that nodes share, and its name.
fn store() -> (SharedFacts, String) {
    let journal = MemoryJournal::new();
    let name = journal.epochs().store().to_string();
    (SharedFacts::of(Arc::new(journal)), name)
}

#[tokio::test]
async fn a_fact_is_written_by_one_of_those_who_knew_the_same() {
    let (facts, _) = store();
    assert_eq!(facts.read("one").await.unwrap(), None);
    assert!(facts.write("one", None, b"a".to_vec()).await.unwrap());
    assert!(!facts.write("one", None, b"b".to_vec()).await.unwrap());
    let first = facts.read("one").await.unwrap().unwrap();
    assert_eq!((&first.content[..], first.created), (&b"a"[..], first.seq));
    assert!(facts.write("one", Some(first.seq), b"c".to_vec()).await.unwrap());
    assert!(!facts.write("one", Some(first.seq), b"d".to_vec()).await.unwrap());
    assert!(facts.write("two", None, b"e".to_vec()).await.unwrap());
    let all = facts.since(Seq::ZERO).await.unwrap();
    let said: Vec<_> = all.iter().map(|fact| (fact.name.as_str(), &fact.content[..])).collect();
    assert_eq!(said, [("one", &b"c"[..]), ("two", b"e")]);
    assert_eq!(facts.since(first.created).await.unwrap(), all[1..]);
    // What was changed meanwhile stays.
    facts.remove(&[first, all[1].clone()]).await.unwrap();
    assert_eq!(facts.since(Seq::ZERO).await.unwrap(), all[..1]);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_tried_again_with_pauses_and_once_written() {
    let journal = MemoryJournal::new();
    let facts = SharedFacts::of(Arc::new(journal.clone()));
    let mut tries = 0;
    journal.before_append(move |faults, _| {
        tries += 1;
        faults.lost_answer = (tries == 1).then_some(LostAnswer::Committed);
        // Not reached: it says nothing of what was written before.
        if tries == 2 { Err(JournalError::Unavailable("away".into())) } else { Ok(()) }
    });
    assert!(facts.write("one", None, b"a".to_vec()).await.unwrap());
    assert_eq!((journal.appends(), journal.head().await.unwrap()), (3, Seq(1)));

    let started = Instant::now();
    journal.before_append(|faults, _| {
        faults.lost_answer = Some(LostAnswer::NotCommitted);
        Ok(())
    });
    let error = facts.write("two", None, b"b".to_vec()).await.unwrap_err().to_string();
    assert!(error.contains("may be there: look before you try again"), "{error}");
    assert_eq!(journal.appends(), 3 + 5);
    assert!(started.elapsed() >= Duration::from_millis(750), "{:?}", started.elapsed());

    journal.before_append(|_, _| Err(JournalError::Unavailable("away".into())));
    let error = facts.write("two", None, b"b".to_vec()).await.unwrap_err().to_string();
    assert!(error.ends_with("away") && journal.appends() == 9, "nothing was written: {error}");
}

#[tokio::test]
async fn a_directory_is_proved_by_its_marker() {
    let (facts, store) = store();
    let [shared, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let files = SharedFiles::prove(&facts, &store, shared.path()).await.unwrap();
    assert_eq!(files.check(), Ok(()));
    // For the next node it is the same; a directory that is empty, as one that is not mounted, is not.
    SharedFiles::prove(&facts, &store, shared.path()).await.unwrap().check().unwrap();
    let refused = SharedFiles::prove(&facts, &store, other.path()).await.unwrap_err();
    assert!(refused.to_string().contains("it has no marker. Is it mounted?"), "{refused}");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    fs::write(other.path().join("store"), format!("{store} x")).unwrap();
    let refused = SharedFiles::prove(&facts, &store, other.path()).await.unwrap_err();
    assert!(matches!(&refused, SharedFilesError::NotShared { problem: "it is another one", .. }), "{refused}");

    // It is put in place of the shared one as the message says.
    let (_, line) = refused.to_string().rsplit_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    fs::write(other.path().join("store"), line).unwrap();
    SharedFiles::prove(&facts, &store, other.path()).await.unwrap();

    fs::rename(shared.path().join("store"), shared.path().join("away")).unwrap();
    assert_eq!(files.check(), Err(FilesAway::NotThere));
    fs::rename(shared.path().join("away"), shared.path().join("store")).unwrap();
    assert_eq!(files.check(), Ok(()));
}

#[tokio::test]
async fn the_directory_of_another_store_is_refused() {
    let (theirs, their_name) = store();
    let (ours, our_name) = store();
    let directory = tempfile::tempdir().unwrap();
    SharedFiles::prove(&theirs, &their_name, directory.path()).await.unwrap();
    for _ in 0..2 {
        let refused = SharedFiles::prove(&ours, &our_name, directory.path()).await.unwrap_err();
        assert!(refused.to_string().contains(&format!("of another store ({their_name})")), "{refused}");
    }
    // Nothing was noted that would refuse the right one.
    SharedFiles::prove(&ours, &our_name, tempfile::tempdir().unwrap().path()).await.unwrap();
}

#[tokio::test]
async fn of_nodes_that_start_together_all_have_the_same_directory_or_are_refused() {
    let (facts, store) = store();
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let proofs =
        [one.path(), other.path(), one.path(), other.path()].map(|path| SharedFiles::prove(&facts, &store, path));
    let proved: Vec<_> = futures_util::future::join_all(proofs).await.into_iter().filter_map(Result::ok).collect();
    assert!(!proved.is_empty());
    assert!(proved.iter().all(|files| files.directory() == proved[0].directory()), "{proved:?}");
}
