//! The sweeper: forgets what is past its retention, in slices that wait their turn like anything else: finished tasks, the
//! keys of events, quiet topics, users who were away for long, and the texts to those who were never seen.
//!
//! It asks the writer as any caller would, so it holds up nobody, and it believes a clock that jumped forward only after
//! a while: what is forgotten does not come back.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Tracker, TrackerError,
    batch::{Ask, EventAsk},
    clock::JumpWatch,
};
use crate::{
    event::{ChannelKind, ChannelName, Seq},
    journal::Stored,
    people::{PeopleRefusal, PresenceStatus, UserIntent, UserState},
    task::{Intent, Refusal},
    topics::TopicRefusal,
};

/// How often finished tasks are looked over.
const INTERVAL: Duration = Duration::from_secs(60);
/// How many of these looks for one at the texts to those who were never seen, which takes longer.
const STRANGERS_ROUNDS: u64 = 60;
/// What is forgotten at a time.
const SLICE: usize = 256;
/// Nothing is forgotten for so long after the clock has jumped forward.
const JUMP_PAUSE: Duration = Duration::from_secs(3_600);

/// Sweeps at once and then at intervals, until it is told to stop.
pub(super) async fn run(tracker: Tracker, retention: Duration, topic_retention: Duration, stop: CancellationToken) {
    let mut jumps = JumpWatch::new(tracker.clock());
    let mut rest_until = Instant::now();
    let rounds = async {
        for round in 0u64.. {
            if let Some(jump) = jumps.look() {
                tracing::warn!(
                    clock.jump_seconds = jump.as_secs(),
                    "the system clock jumped forward; retention is paused for one hour"
                );
                rest_until = Instant::now() + JUMP_PAUSE;
            }
            if Instant::now() >= rest_until {
                let swept = async {
                    sweep(&tracker, retention).await?;
                    sweep_topics(&tracker, topic_retention).await?;
                    sweep_users(&tracker).await?;
                    if round % STRANGERS_ROUNDS == 0 { sweep_strangers(&tracker).await } else { Ok(()) }
                };
                if let Err(error) = swept.await {
                    tracing::warn!(%error, "cannot remove what has expired; retrying");
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
        ask_all(tracker, asked).await?;
        if is_last {
            break;
        }
    }
    // A deleted task answers 410 for as long again as it was kept.
    while journal.sweep(before, SLICE).await? {}
    Ok(())
}

/// Forgets the topics that were quiet for their retention.
async fn sweep_topics(tracker: &Tracker, retention: Duration) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(retention);
    loop {
        let quiet = tracker.shared.topics().quiet_since(before, SLICE);
        let is_last = quiet.len() < SLICE;
        ask_all(tracker, quiet.into_iter().map(|(topic, last)| Ask::Forget(topic, Some(last)))).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Forgets the users who left before their retention, with their notifications.
async fn sweep_users(tracker: &Tracker) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(tracker.shared.people_config.user_retention);
    let is_gone = |(user_id, state): (&Arc<str>, &Arc<UserState>)| {
        let is_gone = state.status == PresenceStatus::Disconnected && state.since < before;
        // A user who is known has a valid name.
        is_gone.then(|| ChannelName::user(user_id).ok()).flatten()
    };
    loop {
        let gone = tracker.users(None, SLICE, is_gone);
        let is_last = gone.len() < SLICE;
        let forget = |user| Ask::Events(EventAsk::User(user, UserIntent::Forget(before)), None);
        ask_all(tracker, gone.into_iter().map(forget)).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Forgets the texts to users who are not known: nobody has a cursor from which to resume.
async fn sweep_strangers(tracker: &Tracker) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(tracker.shared.people_config.user_retention);
    let mut after = Seq::ZERO;
    loop {
        let page = tracker.shared.journal.live(ChannelKind::User, after, SLICE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.created;
        let is_old = |stored: &Stored| {
            stored.memo.is_none() && stored.visible.as_ref().is_none_or(|visible| visible.at < before)
        };
        let old = page.into_iter().filter(is_old);
        ask_all(tracker, old.map(|stored| Ask::Forget(stored.channel, Some(stored.last)))).await?;
    }
}

async fn ask_all(tracker: &Tracker, asked: impl Iterator<Item = Ask>) -> Result<(), TrackerError> {
    for answer in join_all(asked.map(|ask| tracker.ask(ask))).await {
        match answer {
            // Somebody else was quicker.
            Ok(_)
            | Err(
                TrackerError::Refused(Refusal::Gone | Refusal::NotFound)
                | TrackerError::People(PeopleRefusal::NoUser)
                | TrackerError::Topic(TopicRefusal::NotFound),
            ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
