//! What a task is: its visible state, and what its owner keeps beside it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    eta::{AttemptPace, Eta},
    lease::Lease,
    payload::Payload,
};
use crate::event::{ChannelName, Class, Event, Seq, Timestamp};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted; nobody works on it yet.
    Pending,
    /// Somebody works on it.
    Processing,
    /// Somebody works on it and has been asked to stop.
    Cancelling,
    /// Done. Final.
    Completed,
    /// Failed. Final.
    Error,
    /// Stopped on request. Final.
    Cancelled,
}

impl Status {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Cancelling, Self::Completed, Self::Error, Self::Cancelled];

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Error | Self::Cancelled)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the weighted steps of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The name of the step.
    pub name: String,
    /// The share of the whole task, relative to the weights of the other steps.
    pub weight: f64,
    /// Progress of the step in percent, 0–100.
    pub progress: f64,
}

/// Why a task failed: a problem (RFC 9457) with a stable code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskError {
    /// A URI that identifies the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short summary, the same for every problem of this kind.
    pub title: String,
    /// The HTTP status that fits best.
    pub status: u16,
    /// What went wrong this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// A stable code for programs.
    pub code: String,
}

impl TaskError {
    /// A problem of the service's own kinds, such as code `worker_lost`.
    pub fn new(code: &str, title: &str, status: u16, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:progressd:problem:{code}"),
            title: title.into(),
            status,
            detail: Some(detail.into()),
            code: code.into(),
        }
    }
}

/// The visible state of a task, as every event of its channel carries it. Members that do not apply are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The id of the task.
    pub task_id: Uuid,
    /// The kind of work; the service itself works on `simulate` and `upload`.
    pub kind: String,
    /// The title, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The user for whom the work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The queue that the task waits in.
    pub queue: String,
    /// The status.
    pub status: Status,
    /// Progress in percent, 0–100; absent if unknown. 100 means completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// The latest message: one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Units done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Total units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What `current` and `total` count, such as `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Index of the current step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The steps of the task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Units per second, exponentially weighted towards the last ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// When the task is expected to end; absent until that can be estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<Eta>,
    /// Whether the task is in work but has had no report for a while.
    pub stalled: bool,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The largest number of attempts.
    pub max_attempts: u32,
    /// When the task was submitted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When this attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When this state was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When the task ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The result of a completed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Payload>,
    /// Why the task failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

/// What is kept beside the visible state: never sent to a watcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memo {
    /// Who alone may report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// When something was last heard of it.
    pub heard_at: Timestamp,
    /// From which rate and ETA come.
    pub pace: AttemptPace,
    /// How far a job of the service has come, so that a later run can go on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Payload>,
}

impl Memo {
    /// Of a task on which nobody works.
    pub(super) fn new(heard_at: Timestamp) -> Self {
        Self { lease: None, heard_at, pace: AttemptPace::default(), checkpoint: None }
    }
}

/// What never changes: kept once, not in each event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// What the job or worker is to work on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// Anything that the submitter wants to find again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Payload>,
    /// Digest of the request that made it: tells a repeated request from another one.
    pub digest: Uuid,
    /// The digest of the idempotency key that it was made with: the key is forgotten with the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
}

impl Origin {
    /// How many bytes it keeps in memory.
    pub(super) fn size_bytes(&self) -> usize {
        payload_bytes([&self.input, &self.metadata])
    }
}

/// The bytes of the text of these.
pub(super) fn payload_bytes(payloads: [&Option<Payload>; 2]) -> usize {
    payloads.into_iter().flatten().map(|payload| payload.as_str().len()).sum()
}

/// A task in the table: its state after its last event. Until the journal has given that a place, `last`, and where the
/// event is visible `visible`, are those of the event before it; both, and `created`, are zero before the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The visible state.
    pub task: Task,
    /// The same as its last visible event carries it (JSON).
    pub data: Bytes,
    /// What is kept beside it.
    pub memo: Memo,
    /// What never changes.
    pub origin: Arc<Origin>,
    /// Seq of its first event: its place among all tasks.
    pub created: Seq,
    /// Seq of its last visible event.
    pub visible: Seq,
    /// Seq of its last event.
    pub last: Seq,
}

impl Entry {
    /// From the first event of a task.
    pub(super) fn from_first(event: &Event) -> Result<Self, InvalidEvent> {
        let draft = &event.draft;
        Ok(Self {
            task: parse(event.seq, &draft.data)?,
            data: draft.data.clone(),
            memo: parse(event.seq, draft.memo.as_ref().ok_or(InvalidEvent(event.seq))?)?,
            origin: Arc::new(parse(event.seq, draft.origin.as_ref().ok_or(InvalidEvent(event.seq))?)?),
            created: event.seq,
            visible: event.seq,
            last: event.seq,
        })
    }

    /// From what the journal keeps of a task: its last visible event, its newest memo, its origin.
    ///
    /// # Errors
    /// When they do not hold what this version writes.
    pub fn from_kept(
        created: Seq,
        last: Seq,
        visible: &Event,
        memo: &[u8],
        origin: &[u8],
    ) -> Result<Self, InvalidEvent> {
        Ok(Self {
            task: parse(visible.seq, &visible.draft.data)?,
            data: visible.draft.data.clone(),
            memo: parse(last, memo)?,
            origin: Arc::new(parse(created, origin)?),
            created,
            visible: visible.seq,
            last,
        })
    }

    /// A task that has left memory, as far as its tombstone says what it was.
    pub(super) fn from_tombstone(event: &Event) -> Option<Self> {
        let memo = event.draft.memo.as_ref().filter(|_| event.class() == Class::Tombstone)?;
        Some(Self {
            task: parse(event.seq, memo).ok()?,
            data: Bytes::new(),
            memo: Memo::new(event.at),
            origin: Arc::default(),
            created: Seq::ZERO,
            visible: Seq::ZERO,
            last: Seq::ZERO,
        })
    }

    /// The state after a later event of this task.
    ///
    /// # Errors
    /// When the event does not hold what this version writes.
    pub fn followed_by(mut self, event: &Event) -> Result<Self, InvalidEvent> {
        if let Some(memo) = &event.draft.memo {
            self.memo = parse(event.seq, memo)?;
        }
        if event.class().is_visible() {
            self.task = parse(event.seq, &event.draft.data)?;
            self.data = event.draft.data.clone();
        }
        self.placed(event.seq, event.class());
        Ok(self)
    }

    pub(super) fn placed(&mut self, seq: Seq, class: Class) {
        if self.created == Seq::ZERO {
            self.created = seq;
        }
        if class.is_visible() {
            self.visible = seq;
        }
        self.last = seq;
    }

    /// The channel of this task.
    pub fn channel(&self) -> ChannelName {
        ChannelName::task(self.task.task_id)
    }
}

fn parse<'a, T: Deserialize<'a>>(seq: Seq, json: &'a [u8]) -> Result<T, InvalidEvent> {
    serde_json::from_slice(json).map_err(|_| InvalidEvent(seq))
}

/// An event in the journal does not hold what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the task state in event {0}")]
pub struct InvalidEvent(pub Seq);
