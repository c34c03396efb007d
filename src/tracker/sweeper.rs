//! The sweeper: forgets finished tasks and the keys of events past their retention, in slices that wait their turn like anything else.
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
};

/// How often finished tasks are looked over.
const INTERVAL: Duration = Duration::from_secs(60);
/// What is forgotten at a time.
const SLICE: usize = 256;
/// Nothing is forgotten for so long after the clock has jumped forward.
const JUMP_PAUSE: Duration = Duration::from_secs(3_600);

/// Sweeps at once and then at intervals, until it is told to stop.
pub(super) async fn run(tracker: Tracker, retention: Duration, stop: CancellationToken) {
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
            if Instant::now() >= rest_until
                && let Err(error) = sweep(&tracker, retention).await
            {
                tracing::warn!(%error, "cannot remove expired tasks; retrying");
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
            _ => Ask::Forget(channel, last),
        });
        for answer in join_all(asked.map(|ask| tracker.ask(ask))).await {
            match answer {
                // Somebody else was quicker.
                Ok(_) | Err(TrackerError::Refused(Refusal::Gone | Refusal::NotFound)) => {}
                Err(error) => return Err(error),
            }
        }
        if is_last {
            break;
        }
    }
    // A deleted task answers 410 for as long again as it was kept.
    while journal.sweep(before, SLICE).await? {}
    Ok(())
}
