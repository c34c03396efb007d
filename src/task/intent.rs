//! What can be asked of a task, with the bounds of each member.

use std::{borrow::Cow, time::Duration};

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Ref,
        schema::{Object, OneOf, Schema, Type},
    },
};
use uuid::Uuid;

use super::{key::digest, lease::Lease, payload::Payload, state::TaskError};
use crate::event::{Name, check_name};

/// Longest title, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Largest `input`, `metadata` or `result`, in bytes of JSON.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most steps of a task.
pub const STEPS_MAX: usize = 100;
/// Most tasks on a page of the list.
pub const LIST_LIMIT_MAX: usize = 500;

/// A new task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewTask {
    /// The kind of work; `task` when absent. The service itself works on `simulate` and `upload`; a task of any other
    /// kind waits for a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(name)))]
    #[schema(value_type = Option<Name>)]
    pub kind: Option<String>,
    /// A title for people: one line, up to 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(bytes, min = 1, max = TITLE_BYTES_MAX), custom(one_line)))]
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub title: Option<String>,
    /// The user for whom the work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(name)))]
    #[schema(value_type = Option<Name>)]
    pub user_id: Option<String>,
    /// The queue that the task waits in; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(name)))]
    #[schema(value_type = Option<Name>)]
    pub queue: Option<String>,
    /// Total units, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub total: Option<u64>,
    /// The unit of `current` and `total`, such as `bytes` or `rows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(name)))]
    #[schema(value_type = Option<Name>)]
    pub unit: Option<String>,
    /// The steps of the task, up to 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(length(max = STEPS_MAX), dive)]
    #[schema(max_items = 100)]
    pub steps: Vec<StepSpec>,
    /// The input of the work, up to 64 KiB of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "Payload::deserialize_sent")]
    #[garde(inner(custom(payload)))]
    #[schema(value_type = Option<serde_json::Value>)]
    pub input: Option<Payload>,
    /// Anything else that belongs to the task, up to 64 KiB of JSON; the service does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "Payload::deserialize_sent")]
    #[garde(inner(custom(payload)))]
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<Payload>,
    /// How many attempts there are if a worker is lost, 1–100; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 100)))]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    pub max_attempts: Option<u32>,
    /// Whether the submitter does the work: the task is `processing` at once, and no other worker takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub start: Option<bool>,
}

impl NewTask {
    /// Tells one request from another: the first 128 bits of BLAKE3 over its JSON, members in order.
    pub fn digest(&self) -> Uuid {
        // A struct of strings, numbers and JSON values always has a JSON text.
        digest(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// A step of a new task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// The name of the step: one line, up to 256 bytes.
    #[garde(length(bytes, min = 1, max = TITLE_BYTES_MAX), custom(one_line))]
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub name: String,
    /// The share of the whole task, relative to the weights of the other steps; above 0, up to 1000000; 1 when absent.
    #[serde(default = "weight_default")]
    #[garde(custom(positive))]
    #[schema(exclusive_minimum = 0, maximum = 1000000, default = 1)]
    pub weight: f64,
}

fn weight_default() -> f64 {
    1.0
}

/// A report on a task. Members that are absent do not change.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// `processing`, or how the task ended: `completed`, `error` or `cancelled`.
    #[garde(skip)]
    #[serde(default)]
    pub status: Option<ReportedStatus>,
    /// Progress of the whole task in percent, 0–100.
    #[garde(inner(range(min = 0.0, max = 100.0)))]
    #[schema(minimum = 0, maximum = 100)]
    #[serde(default)]
    pub progress: Option<f64>,
    /// A message of one line, up to 1024 bytes; an empty one removes the message.
    #[garde(inner(length(bytes, max = MESSAGE_BYTES_MAX)))]
    #[schema(max_length = 1024)]
    #[serde(default)]
    pub message: Option<String>,
    /// Units done.
    #[garde(skip)]
    #[serde(default)]
    pub current: Option<u64>,
    /// Total units.
    #[garde(skip)]
    #[serde(default)]
    pub total: Option<u64>,
    /// The unit of `current` and `total`.
    #[garde(inner(custom(name)))]
    #[serde(default)]
    #[schema(value_type = Option<Name>)]
    pub unit: Option<String>,
    /// Index of the current step, from 0; a lower index than the current one is ignored.
    #[garde(skip)]
    #[serde(default)]
    pub step: Option<usize>,
    /// Progress of the current step in percent, 0–100.
    #[garde(inner(range(min = 0.0, max = 100.0)))]
    #[schema(minimum = 0, maximum = 100)]
    #[serde(default)]
    pub step_progress: Option<f64>,
    /// The result, only with status `completed`; up to 64 KiB of JSON.
    #[garde(inner(custom(payload)))]
    #[serde(default, deserialize_with = "Payload::deserialize_sent")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Payload>,
    /// Why the task failed, only with status `error`: a sentence, or an object with a `code`.
    #[garde(dive)]
    #[serde(default, deserialize_with = "sentence_or_problem")]
    #[schema(schema_with = sentence_or_problem_schema)]
    pub error: Option<ReportedError>,
}

/// The statuses that a report can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReportedStatus {
    /// It is being worked on.
    Processing,
    /// It is done.
    Completed,
    /// It failed.
    Error,
    /// The worker stopped, as it was asked to.
    Cancelled,
}

/// Why a task failed, as a worker tells it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportedError {
    /// Ignored: the service derives it from the code.
    #[garde(skip)]
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A stable code for programs; `failed` when absent.
    #[garde(inner(custom(name)))]
    #[schema(value_type = Option<Name>)]
    pub code: Option<String>,
    /// A short summary; `The task failed` when absent.
    #[garde(inner(length(bytes, max = TITLE_BYTES_MAX)))]
    #[schema(max_length = 256)]
    pub title: Option<String>,
    /// What went wrong this time.
    #[garde(inner(length(bytes, max = MESSAGE_BYTES_MAX)))]
    #[schema(max_length = 1024)]
    pub detail: Option<String>,
    /// The HTTP status that fits best; 500 when absent.
    #[garde(inner(range(min = 400, max = 599)))]
    #[schema(minimum = 400, maximum = 599, default = 500)]
    pub status: Option<u16>,
}

/// Reads a sentence, which is the detail, or a problem.
fn sentence_or_problem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ReportedError>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::String(detail)) => Ok(Some(ReportedError { detail: Some(detail), ..ReportedError::default() })),
        Some(problem @ Value::Object(_)) => serde_json::from_value(problem).map(Some).map_err(de::Error::custom),
        Some(_) => Err(de::Error::custom("expected a sentence, or an object with code, title, detail and status")),
    }
}

fn sentence_or_problem_schema() -> Schema {
    let problem = Ref::from_schema_name(ReportedError::name());
    let description = "Why the task failed, only with status `error`: a sentence, or an object with a `code`.";
    let item = OneOf::builder().item(String::schema()).item(problem).item(Object::with_type(Type::Null));
    item.description(Some(description)).build().into()
}

impl From<&ReportedError> for TaskError {
    fn from(reported: &ReportedError) -> Self {
        let code = reported.code.as_deref().unwrap_or("failed");
        let title = reported.title.as_deref().unwrap_or("The task failed");
        Self { detail: reported.detail.clone(), ..Self::new(code, title, reported.status.unwrap_or(500), "") }
    }
}

/// What can be asked of one task.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// Make it.
    Create {
        /// What it is to be.
        new: NewTask,
        /// The channel of its idempotency key, and its digest.
        key: Option<Uuid>,
        /// Whose it is from the first moment, where somebody works on it already.
        lease: Option<Lease>,
    },
    /// Take it out of its queue and begin.
    Claim(Lease),
    /// Undo a claim of which nothing has come yet: the task is pending again, and the attempt does not count.
    Release {
        /// Proves that the claim is one's own.
        token: Uuid,
    },
    /// Go on with what an earlier run of the service had begun, in the same attempt.
    TakeOver {
        /// The lease of the earlier run.
        token: Uuid,
        /// The one that takes its place.
        lease: Lease,
    },
    /// Keep the right to report.
    Renew {
        /// Proves it.
        token: Uuid,
        /// How long it shall last from now.
        lease: Duration,
    },
    /// Tell how it goes.
    Report {
        /// What is told.
        report: Report,
        /// Proves the right to, where the task is leased.
        token: Option<Uuid>,
    },
    /// Tell how it goes, and from where a later run can go on.
    Checkpoint {
        /// What is told.
        report: Report,
        /// Proves the right to.
        token: Uuid,
        /// What the later run is given.
        checkpoint: Payload,
    },
    /// Ask that it stop.
    Cancel,
    /// Whoever held its lease is gone.
    Abandon {
        /// Only if the lease is still this holder's.
        holder: String,
        /// And still this one, where given.
        token: Option<Uuid>,
    },
    /// One of its times has come: see [`super::Entry::due`].
    Due,
    /// Forget it, once it is finished.
    Delete,
}

fn name(value: &str, _: &()) -> garde::Result {
    check_name(value).map_err(garde::Error::new)
}

fn one_line(value: &str, _: &()) -> garde::Result {
    if value.chars().any(char::is_control) {
        Err(garde::Error::new("must not contain control characters"))
    } else {
        Ok(())
    }
}

fn positive(value: &f64, _: &()) -> garde::Result {
    if *value > 0.0 && *value <= 1e6 { Ok(()) } else { Err(garde::Error::new("must be above 0 and at most 1000000")) }
}

fn payload(value: &Payload, _: &()) -> garde::Result {
    let size = value.as_str().len();
    if size <= PAYLOAD_BYTES_MAX {
        Ok(())
    } else {
        Err(garde::Error::new(Cow::from(format!("must be at most {PAYLOAD_BYTES_MAX} bytes of JSON, is {size}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_members() {
        let digest = |json: &str| serde_json::from_str::<NewTask>(json).map(|new| new.digest()).expect("valid");
        assert_eq!(digest(r#"{"kind":"a","input":{"x":1,"y":2}}"#), digest(r#"{"input":{"y":2,"x":1},"kind":"a"}"#));
        assert_ne!(digest(r#"{"kind":"a"}"#), digest(r#"{"kind":"b"}"#));
    }

    #[test]
    fn names_the_member_that_is_out_of_bounds() {
        let member = |json: &str| {
            let new: NewTask = serde_json::from_str(json).expect("well-formed");
            new.validate().expect_err("out of bounds").iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(member(r#"{"kind":"a b"}"#), ["kind"]);
        assert_eq!(member(r#"{"title":"a\nb"}"#), ["title"]);
        assert_eq!(member(r#"{"steps":[{"name":"x"},{"name":"y","weight":0}]}"#), ["steps[1].weight"]);
        assert_eq!(member(r#"{"maxAttempts":0}"#), ["max_attempts"]);
        assert_eq!(member(&format!(r#"{{"metadata":"{}"}}"#, "x".repeat(PAYLOAD_BYTES_MAX))), ["metadata"]);
    }

    #[test]
    fn an_error_is_a_sentence_or_a_problem() {
        let error = |json: &str| serde_json::from_str::<Report>(json).map(|report| report.error);
        assert_eq!(error(r#"{"error":"no"}"#).ok().flatten().and_then(|error| error.detail).as_deref(), Some("no"));
        assert_eq!(
            error(r#"{"error":{"code":"x"}}"#).ok().flatten().and_then(|error| error.code).as_deref(),
            Some("x")
        );
        assert!(error(r#"{"error":[1]}"#).is_err() && error(r#"{"error":{"colour":1}}"#).is_err());
    }
}
