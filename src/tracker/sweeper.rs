//! The sweeper: forgets what is past its retention, in slices that wait their turn like anything else: finished tasks, the
//! keys of events, quiet topics, users who were away for long, notifications that nobody is given any more, and what is addressed to nobody: texts to those who were
//! never seen, messages to groups without members.
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
    people::{Census, PeopleRefusal, PresenceStatus, UserIntent, UserState},
    task::{Intent, Refusal},
    topics::TopicRefusal,
};

/// How often finished tasks are looked over.
const INTERVAL: Duration = Duration::from_secs(60);
/// How many of these looks for one at all channels of users and groups, which takes longer.
const LONG_ROUNDS: u64 = 60;
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
            // One node is enough; where two do it, one is beaten to it.
            if Instant::now() >= rest_until && tracker.is_first_node() {
                let swept = async {
                    sweep(&tracker, retention).await?;
                    sweep_topics(&tracker, topic_retention).await?;
                    sweep_users(&tracker).await?;
                    if round % LONG_ROUNDS != 0 {
                        return Ok(());
                    }
                    sweep_unaddressed(&tracker).await?;
                    trim_inboxes(&tracker).await
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
        let answered = ask_all(tracker, asked).await?;
        // Those that this version cannot read stay, and are found again.
        if is_last || answered == 0 {
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

/// Forgets the texts to users who are not known: nobody has a cursor from which to resume. And what was sent to groups
/// without members: nobody may read it, now or later.
async fn sweep_unaddressed(tracker: &Tracker) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(tracker.shared.people_config.user_retention);
    let is_unknown =
        |stored: &Stored| stored.memo.is_none() && stored.visible.as_ref().is_none_or(|visible| visible.at < before);
    let is_empty = |stored: &Stored| tracker.shared.people().members(&stored.channel.name()) == 0;
    forget_live(tracker, ChannelKind::User, is_unknown).await?;
    forget_live(tracker, ChannelKind::Group, is_empty).await
}

/// Trims the notifications that have waited for so long that nobody is given them any more.
async fn trim_inboxes(tracker: &Tracker) -> Result<(), TrackerError> {
    let before = tracker.clock().now().before(tracker.shared.people_config.inbox_max_age);
    for kind in [ChannelKind::Inbox, ChannelKind::Group] {
        let mut after = Seq::ZERO;
        while let Some(next) = tracker.shared.journal.trim(kind, before, after, SLICE).await? {
            after = next;
        }
    }
    Ok(())
}

/// Forgets the channels of a kind for which `is_over` holds.
async fn forget_live(
    tracker: &Tracker,
    kind: ChannelKind,
    is_over: impl Fn(&Stored) -> bool,
) -> Result<(), TrackerError> {
    let mut after = Seq::ZERO;
    loop {
        let page = tracker.shared.journal.live(kind, after, SLICE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.created;
        let over = page.into_iter().filter(|stored| stored.is_known() && is_over(stored));
        ask_all(tracker, over.map(|stored| Ask::Forget(stored.channel, Some(stored.last)))).await?;
    }
}

/// Asks for all of these, and answers how many of them are not left to nodes of a newer version.
pub(super) async fn ask_all(tracker: &Tracker, asked: impl Iterator<Item = Ask>) -> Result<usize, TrackerError> {
    let mut answered = 0;
    for answer in join_all(asked.map(|ask| tracker.ask(ask))).await {
        match answer {
            Err(TrackerError::Refused(Refusal::Unreadable) | TrackerError::People(PeopleRefusal::Unreadable)) => {}
            // Somebody else was quicker.
            Ok(_)
            | Err(
                TrackerError::Refused(Refusal::Gone | Refusal::NotFound)
                | TrackerError::People(PeopleRefusal::NoUser)
                | TrackerError::Topic(TopicRefusal::NotFound),
            ) => answered += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(answered)
}
