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
