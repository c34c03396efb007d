//! After a crash: everything that was acknowledged is there, and what was cut off is said.

use super::*;

#[tokio::test]
async fn takes_up_what_a_crash_left_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    for data in ["1", "2", "3"] {
        add(&journal, &task(1), Class::Change, data).await;
    }
    let before = everything(&journal).await.unwrap();
    let copy = copy_as_crashed(directory.path(), usize::MAX);
    let (recovered, lines) = logged(|| open(copy.path()).unwrap());
    assert!(lines.contains("WARN") && lines.contains("did not close"), "{lines}");
    assert!(!lines.contains("incomplete write"), "{lines}");
    assert_eq!(everything(&recovered).await.unwrap(), before);
    assert_eq!(recovered.folded_through(), Seq(3));
    assert_eq!(add(&recovered, &task(1), Class::Change, "4").await[0].seq, Seq(4));
}

#[tokio::test]
async fn drops_a_write_that_was_cut_off_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let mut lengths = vec![wal_bytes(directory.path())];
    for _ in 0..6 {
        add(&journal, &task(1), Class::Change, &"x".repeat(6_000)).await;
        lengths.push(wal_bytes(directory.path()));
    }
    let Tail::Events(events) = journal.tail(Seq::ZERO, 100).await.unwrap() else { panic!("nothing was trimmed") };
    for (committed, pair) in lengths.windows(2).enumerate() {
        for cut in [pair[0], pair[0] + 1, pair[0] + 23, pair[0] + 2_000, pair[0] + 4_120, pair[1] - 1] {
            let copy = copy_as_crashed(directory.path(), cut);
            let (recovered, lines) = logged(|| open(copy.path()).unwrap());
            assert_eq!(lines.contains("incomplete write"), cut > pair[0], "cut at {cut}: {lines}");
            let tail = recovered.tail(Seq::ZERO, 100).await.unwrap();
            assert_eq!(tail, Tail::Events(events[..committed].to_vec()), "cut at {cut}");
            let next = add(&recovered, &task(1), Class::Change, "next").await;
            assert_eq!(next[0].seq.0, committed as u64 + 1);
        }
    }
}

#[tokio::test]
async fn refuses_a_write_ahead_log_that_went_bad_before_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    for _ in 0..4 {
        add(&journal, &task(1), Class::Change, &"x".repeat(5_000)).await;
    }
    let bad_before = wal_bytes(directory.path());
    for _ in 0..2 {
        add(&journal, &task(1), Class::Change, "x").await;
    }
    let end = wal_bytes(directory.path());
    let intact = copy_as_crashed(directory.path(), end);
    let wal = fs::read(intact.path().join("journal.db-wal")).unwrap();
    for place in (0..bad_before).step_by(401).chain([17, 25, 33, 37, 41, 49]) {
        let copy = copy_as_crashed(intact.path(), end);
        let mut bad = wal.clone();
        bad[place] ^= 0x10;
        fs::write(copy.path().join("journal.db-wal"), bad).unwrap();
        let refused = open(copy.path()).err().unwrap_or_else(|| panic!("byte {place} of {end}"));
        assert!(matches!(refused, OpenError::Damaged { .. }), "byte {place}: {refused}");
        assert!(refused.to_string().contains("journal.db-wal"), "{refused}");
    }
    assert_eq!(open(intact.path()).unwrap().last_seq(), Seq(6));
}

#[tokio::test]
async fn old_frames_behind_the_end_are_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    for _ in 0..3 {
        add(&journal, &task(1), Class::Change, &"x".repeat(50_000)).await;
    }
    journal.fold().await.unwrap();
    let long = wal_bytes(directory.path());
    // What was carried into the file is written over from the front, and the rest stays behind.
    let other = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    drop(other);
    add(&journal, &task(1), Class::Change, "short").await;
    assert_eq!(wal_bytes(directory.path()), long);
    let before = everything(&journal).await.unwrap();
    let copy = copy_as_crashed(directory.path(), usize::MAX);
    let (recovered, lines) = logged(|| open(copy.path()).unwrap());
    assert!(!lines.contains("incomplete write"), "{lines}");
    assert_eq!(everything(&recovered).await.unwrap(), before);
}
