//! Facts: small contents under names, in the store. Each is a hidden event on a channel of its own, written on the condition
//! that nobody else has written meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    event::{ChannelKind, ChannelName, Class, Draft, Seq, Timestamp},
    journal::{Expect, Group, Journal, JournalError, Outcome, Stored},
};

/// How often a write is tried whose answer is lost, with a growing pause in between.
const TRIES: u32 = 5;
/// The first of these pauses.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Facts that are read at once.
const PAGE: usize = 1_000;

/// The facts of one store. Cheap to clone.
#[derive(Clone)]
pub struct SharedFacts(Arc<dyn Journal>);

/// What is written under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Where it was written first.
    pub created: Seq,
    /// Where it was written last.
    pub seq: Seq,
    /// What it says.
    pub content: Bytes,
}

impl SharedFacts {
    /// Those of this store.
    pub fn of(journal: Arc<dyn Journal>) -> Self {
        Self(journal)
    }

    /// What time it is by the clock of the store.
    pub fn now(&self) -> Timestamp {
        self.0.time().unwrap_or_else(Timestamp::now)
    }

    /// What is written under a name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read(&self, name: &str) -> Result<Option<Fact>, JournalError> {
        Ok(self.0.last(&channel(name)?).await?.and_then(fact))
    }

    /// All facts that were first written after a seq, in that order.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn since(&self, created: Seq) -> Result<Vec<Fact>, JournalError> {
        let (mut facts, mut after) = (Vec::new(), created);
        loop {
            let page = self.0.live(ChannelKind::Shared, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(facts) };
            after = last.created;
            facts.extend(page.into_iter().filter_map(fact));
        }
    }

    /// Writes under a name, if what is there is still that of this seq, or nothing; says whether it was.
    ///
    /// # Errors
    /// When the store does not answer, and perhaps nothing was written.
    pub async fn write(&self, name: &str, before: Option<Seq>, content: Vec<u8>) -> Result<bool, JournalError> {
        let expect = before.map_or(Expect::Absent, Expect::At);
        let written = self.append(vec![group(channel(name)?, expect, Class::Hidden, Some(content.into()))]).await?;
        Ok(written.iter().all(|outcome| *outcome == Outcome::Committed))
    }

    /// The same for a store that has no such fact, as a group to append.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn group(name: &str, content: Vec<u8>) -> Result<Group, JournalError> {
        Ok(group(channel(name)?, Expect::Absent, Class::Hidden, Some(content.into())))
    }

    /// Removes facts, but for those that somebody has changed or removed.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remove(&self, facts: &[Fact]) -> Result<(), JournalError> {
        let remove = |fact: &Fact| Ok(group(channel(&fact.name)?, Expect::At(fact.seq), Class::Tombstone, None));
        let groups = facts.iter().map(remove).collect::<Result<Vec<_>, JournalError>>()?;
        self.append(groups).await.map(drop)
    }

    async fn append(&self, groups: Vec<Group>) -> Result<Vec<Outcome>, JournalError> {
        // The same through all tries, so that a group whose answer was lost is found again.
        let head = self.0.head().await?;
        let mut pause = Duration::ZERO;
        for nth in 0..TRIES {
            tokio::time::sleep(pause).await;
            match self.0.append(head, groups.clone()).await {
                Ok(appended) if !appended.outcomes.contains(&Outcome::Unknown) => return Ok(appended.outcomes),
                // Once an answer was lost, no error means that nothing was written.
                Err(error) if nth == 0 => return Err(error),
                // What would tell is trimmed.
                Err(JournalError::Lapsed) => break,
                Ok(_) | Err(_) => pause = PAUSE_MIN.max(pause * 2),
            }
        }
        let reason = "it did not confirm what was to be written, which may be there: look before you try again";
        Err(JournalError::Unavailable(reason.into()))
    }
}

fn channel(name: &str) -> Result<ChannelName, JournalError> {
    ChannelName::shared(name).map_err(|_| JournalError::Damaged(format!("{name} cannot be the name of a fact")))
}

fn fact(stored: Stored) -> Option<Fact> {
    let Stored { channel, created, last, memo, gone, .. } = stored;
    let content = memo.filter(|_| !gone)?;
    Some(Fact { name: channel.name().into_owned(), created, seq: last, content })
}

fn group(channel: ChannelName, expect: Expect, class: Class, memo: Option<Bytes>) -> Group {
    let draft = Draft { channel: channel.clone(), name: None, class, data: Bytes::new(), memo, origin: None };
    Group { id: Uuid::now_v7(), at: Timestamp::now(), expects: vec![(channel, expect)], drafts: vec![draft] }
}
