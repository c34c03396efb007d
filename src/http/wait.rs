//! Waiting for what a task does next, for clients that would rather ask than listen.
//!
//! Who waits listens like any watcher: nothing is asked for again in between.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::{HeaderMap, HeaderValue};

use super::{
    App,
    negotiate::{PREFERENCE_APPLIED, preferred_wait},
    problem::{Problem, kinds},
    progress::open,
};
use crate::{channel::Delivery, event::Class, task::Entry, tracker::TrackerError};

/// The task after its next visible change, or as it is where there was none within the preferred wait; and the wait
/// that was heeded.
pub(super) async fn next_change(
    app: &App,
    entry: Arc<Entry>,
    headers: &HeaderMap,
) -> Result<(Arc<Entry>, Option<Duration>), Problem> {
    let Some(wait) = preferred_wait(headers) else { return Ok((entry, None)) };
    if entry.task.status.is_final() {
        // Nothing will ever follow.
        return Ok((entry, Some(wait)));
    }
    let cursor = app.tracker.cursor(entry.visible);
    let Ok((_, mut subscriber)) = app.tracker.watch(&entry.channel(), Some(Some(cursor))).await? else {
        // No place to listen, or the service is stopping: the client may ask again.
        return Ok((entry, None));
    };
    let delivery = tokio::time::timeout(wait, subscriber.next()).await;
    let known = app.tracker.find(entry.task.task_id).await?.entry()?;
    // A watcher may be shown what is durable a moment before the table has followed; then the event itself tells.
    let entry = match delivery {
        Ok(Delivery::Frame(frame)) if frame.seq() > known.visible => {
            Arc::new(Entry::clone(&known).followed_by(frame.event()).map_err(TrackerError::from)?)
        }
        _ => known,
    };
    Ok((entry, Some(wait)))
}

/// The task once it has ended. Whoever waits may go away: the task does not notice.
pub(super) async fn end(app: &App, mut entry: Arc<Entry>) -> Result<Arc<Entry>, Problem> {
    let id = entry.task.task_id;
    while !entry.task.status.is_final() {
        let cursor = app.tracker.cursor(entry.visible);
        let (_, mut subscriber) = open(app, &entry.channel(), Some(Some(cursor))).await?;
        loop {
            match subscriber.next().await {
                Delivery::Frame(frame) if frame.class() == Class::Final => break,
                Delivery::Frame(_) => {}
                Delivery::Draining => return Err(Problem::new(&kinds::STOPPING)),
                // Too much at once, or deleted: the table knows.
                Delivery::Ended { .. } | Delivery::Lapsed | Delivery::HungUp => break,
            }
        }
        entry = app.tracker.find(id).await?.entry()?;
    }
    Ok(entry)
}

/// Says which wait was heeded.
pub(super) fn note(response: &mut Response, waited: Option<Duration>) {
    let Some(wait) = waited else { return };
    if let Ok(value) = HeaderValue::from_str(&format!("wait={}", wait.as_secs())) {
        response.headers_mut().insert(PREFERENCE_APPLIED, value);
    }
}
