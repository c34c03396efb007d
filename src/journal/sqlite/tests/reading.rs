//! Whom a read waits for.

use std::{future::poll_fn, sync::mpsc, task::Poll, time::Duration};

use super::*;

/// Starts a read, which is to wait.
async fn starts<T>(read: impl Future<Output = T>) -> impl Future<Output = T> {
    let mut read = Box::pin(read);
    assert!(poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_pending())).await);
    read
}

#[tokio::test]
async fn who_appends_reads_without_waiting_for_the_reads_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let task = task(1);
    add(&journal, &task, Class::Change, "{}").await;
    let (end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let mut slow = Vec::new();
    for _ in 0..8 {
        let ended = Arc::clone(&ended);
        // It lasts until the sender is dropped.
        let work = move |_: &Connection| Ok(ended.lock().unwrap().recv().is_err());
        slow.push(starts(journal.read_shared(work)).await);
    }
    let waits = starts(journal.last(&task)).await;
    let found = tokio::time::timeout(Duration::from_secs(60), journal.last_many(std::slice::from_ref(&task))).await;
    drop(end);
    for read in slow {
        read.await.unwrap();
    }
    assert_eq!(found.expect("waited for others").unwrap(), [waits.await.unwrap()]);
}

#[tokio::test]
async fn a_read_is_of_one_moment_whatever_is_written_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    add(&journal, &task(1), Class::Change, "before").await;
    let (begin, begun) = oneshot::channel();
    let (end, ended) = mpsc::channel::<()>();
    let work = move |connection: &Connection| {
        let look = || {
            let events = read::events_after(connection, Seq::ZERO, usize::MAX)?;
            Ok::<_, StoreError>((schema::read_facts(connection)?, events))
        };
        let before = look()?;
        begin.send(()).unwrap();
        // It goes on when the sender is dropped.
        let _ended = ended.recv();
        Ok((before, look()?))
    };
    let write = async {
        begun.await.unwrap();
        add(&journal, &task(1), Class::Change, "meanwhile").await;
        journal.fold().await.unwrap();
        drop(end);
    };
    let (read, ()) = tokio::join!(journal.read_shared(work), write);
    let (before, after) = read.unwrap();
    assert_eq!(before, after);
}
