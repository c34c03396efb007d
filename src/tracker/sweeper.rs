//! The sweeper: forgets finished tasks, the keys of events and quiet topics past their retention, in slices that wait their turn like anything else.
//!
//! It asks the writer as any caller would, so it holds up nobody, and it believes a clock that jumped forward only after
//! a while: what is forgotten does not come back.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Tracker, TrackerError, batch::Ask, clock::JumpWatch};
use crate::{
    event::ChannelKind,
    task::{Intent, Refusal},
    topics::TopicRefusal,
};

/// How often finished tasks are looked over.
const INTERVAL: Duration = Duration::from_secs(60);
/// What is forgotten at a time.
const SLICE: usize = 256;
/// Nothing is forgotten for so long after the clock has jumped forward.
const JUMP_PAUSE: Duration = Duration::from_secs(3_600);

/// Sweeps at once and then at intervals, until it is told to stop.
pub(super) async fn run(tracker: Tracker, retention: Duration, topic_retention: Duration, stop: CancellationToken) {
    let mut jumps = JumpWatch::new(tracker.clock());
    let mut rest_until = Instant::now();
    let rounds = async {
        loop {
            if let Some(jump) = jumps.look() {
                tracing::warn!(
                    clock.jump_seconds = jump.as_secs(),
                    "the system clock jumped forward; retention is paused for one hour"
                );
                rest_until = Instant::now() + JUMP_PAUSE;
            }
            if Instant::now() >= rest_until {
                if let Err(error) = sweep(&tracker, retention).await {
                    tracing::warn!(%error, "cannot remove expired tasks; retrying");
                }
                if let Err(error) = sweep_topics(&tracker, topic_retention).await {
                    tracing::warn!(%error, "cannot remove quiet topics; retrying");
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

async fn sweep(tracker: &Tracker, retention: Duration) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(retention);
    let journal = &tracker.shared.journal;
    loop {
        let expired = journal.finished_before(before, SLICE).await?;
        let is_last = expired.len() < SLICE;
        let asked = expired.into_iter().map(|(channel, last)| match (channel.kind(), channel.id()) {
            (ChannelKind::Task, Some(id)) => Ask::Task(id, Intent::Delete),
            _ => Ask::Forget(channel, Some(last)),
        });
        forget(tracker, asked).await?;
        if is_last {
            break;
        }
    }
    // A deleted task answers 410 for as long again as it was kept.
    while journal.sweep(before, SLICE).await? {}
    Ok(())
}

async fn sweep_topics(tracker: &Tracker, retention: Duration) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(retention);
    loop {
        let quiet = tracker.shared.topics().quiet_since(before, SLICE);
        let is_last = quiet.len() < SLICE;
        forget(tracker, quiet.into_iter().map(|(topic, last)| Ask::Forget(topic, Some(last)))).await?;
        if is_last {
            return Ok(());
        }
    }
}

async fn forget(tracker: &Tracker, asked: impl Iterator<Item = Ask>) -> Result<(), TrackerError> {
    for answer in join_all(asked.map(|ask| tracker.ask(ask))).await {
        match answer {
            Ok(_) => {}
            // Somebody else was quicker.
            Err(TrackerError::Refused(Refusal::Gone | Refusal::NotFound)) => {}
            Err(TrackerError::Topic(TopicRefusal::NotFound)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
