//! What the keys of requests stand for, with what their batch makes of them.

use uuid::Uuid;

use super::batch::Batch;
use crate::{
    event::{ChannelName, Seq},
    task::{EventKey, Intent, Keyed, Refusal, Row},
};

impl Batch<'_> {
    /// The last event that was appended with this key, if it is taken.
    pub(super) fn known(&self, key: Option<EventKey>) -> Result<Option<Seq>, Refusal> {
        let Some(key) = key else { return Ok(None) };
        match self.row(&key.channel()) {
            Some(Row::Key(Keyed::Events { content, last })) if key.matches(*content) => Ok(Some(*last)),
            Some(Row::Key(_)) => Err(Refusal::Mismatch),
            Some(Row::Unreadable) => Err(Refusal::Unreadable),
            Some(Row::Gone | Row::Task(_)) | None => Ok(None),
        }
    }

    /// The task that an intent is about: with a key that is known, the one that was made with it.
    pub(super) fn task_of(&self, id: Uuid, intent: &Intent) -> Result<Uuid, Refusal> {
        let Intent::Create { key: Some(key), .. } = intent else { return Ok(id) };
        match self.row(&ChannelName::key(*key)) {
            Some(Row::Key(Keyed::Task(task_id))) => Ok(*task_id),
            Some(Row::Key(Keyed::Events { .. })) => Err(Refusal::Mismatch),
            Some(Row::Gone) => Err(Refusal::Gone),
            Some(Row::Unreadable) => Err(Refusal::Unreadable),
            Some(Row::Task(_)) | None => Ok(id),
        }
    }
}
