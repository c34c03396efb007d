//! The job `simulate`: counts steps at a pace, tells its user of each, and fails where it is told to.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Job, JobContext, JobError};
use crate::task::{Payload, Report, TaskError};

const STEPS_MAX: u64 = 10_000;
const INTERVAL_MS_MAX: u64 = 3_600_000;
/// Maximum number of these tasks that run at once. They only sleep: each costs some 20 KB of memory and the renewals of
/// its lease.
const SLEEPING_MAX: usize = 4_096;

/// Does tasks of kind `simulate`.
pub(super) struct Simulate;

/// What its input may hold.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Input {
    /// How many steps, 1–10000.
    steps: u64,
    /// How long each takes, 0–3600000 ms.
    interval_ms: u64,
    /// The step, from 1, in which it fails.
    fail_at: Option<u64>,
    /// What is said to the user: the first with the first step; those without a step at the end, all at once.
    messages: Vec<String>,
}

impl Default for Input {
    fn default() -> Self {
        Self { steps: 10, interval_ms: 1000, fail_at: None, messages: Vec::new() }
    }
}

#[async_trait]
impl Job for Simulate {
    fn kind(&self) -> &'static str {
        "simulate"
    }

    fn places(&self, _working: usize) -> usize {
        SLEEPING_MAX
    }

    fn check(&self, input: Option<&Payload>) -> Result<(), String> {
        Input::read(input).map(drop)
    }

    async fn run(&self, context: &JobContext) -> Result<Value, JobError> {
        let Input { steps, interval_ms, fail_at, messages } =
            Input::read(context.input()).map_err(|reason| invalid(&reason))?;
        let mut messages = messages.into_iter().map(Bytes::from);
        for step in 1..=steps {
            if let Some(message) = messages.next() {
                context.say(message).await?;
            }
            context.tick(begun(step, steps));
            context.sleep(Duration::from_millis(interval_ms)).await?;
            if fail_at == Some(step) {
                let detail = format!("Step {step} of {steps} failed, as was asked for.");
                return Err(TaskError::new("simulated_failure", "The simulation failed", 500, detail).into());
            }
            context.tick(done(step, steps));
        }
        for message in messages {
            context.say(message).await?;
        }
        Ok(json!({ "steps": steps }))
    }
}

impl Input {
    fn read(input: Option<&Payload>) -> Result<Self, String> {
        let input: Self = match input {
            // The derived reader would take an array for the members in their order.
            Some(input) if !input.as_str().starts_with('{') => return Err("must be an object".into()),
            Some(input) => input.parse().map_err(|error| shortened(error.to_string()))?,
            None => Self::default(),
        };
        if !(1..=STEPS_MAX).contains(&input.steps) {
            return Err(format!("steps must be 1 to {STEPS_MAX}"));
        }
        if input.interval_ms > INTERVAL_MS_MAX {
            return Err(format!("intervalMs must be 0 to {INTERVAL_MS_MAX}"));
        }
        if input.fail_at.is_some_and(|step| !(1..=input.steps).contains(&step)) {
            return Err(format!("failAt must be one of the steps, 1 to {}", input.steps));
        }
        Ok(input)
    }
}

fn invalid(reason: &str) -> TaskError {
    TaskError::new("invalid_input", "The input is not valid", 422, format!("input: {reason}"))
}

/// What the parser says may quote what the client wrote, however long that is.
fn shortened(mut reason: String) -> String {
    reason.truncate(reason.find(" at line ").unwrap_or(reason.len()));
    if let Some((end, _)) = reason.char_indices().nth(200) {
        reason.truncate(end);
    }
    reason
}

fn begun(step: u64, steps: u64) -> Report {
    let unit = Some("steps".into());
    Report { message: Some(format!("Step {step} of {steps}")), total: Some(steps), unit, ..Report::default() }
}

fn done(step: u64, steps: u64) -> Report {
    let progress = Some(step as f64 / steps as f64 * 100.0);
    Report { progress, current: Some(step), ..Report::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_checked() {
        let read = |input: &Value| Input::read(Payload::of(input).as_ref());
        for wrong in [
            json!({"steps": 0}),
            json!({"steps": 10_001}),
            json!({"steps": "ten"}),
            json!({"intervalMs": 3_600_001}),
            json!({"failAt": 11}),
            json!({"failAt": 0}),
            json!({"colour": "red"}),
            json!([10]),
            json!("x".repeat(60_000)),
        ] {
            let refused = read(&wrong).expect_err("out of bounds");
            assert!(!refused.is_empty() && refused.len() < 1000, "{wrong}: {refused}");
        }
        assert!(read(&json!({"steps": 10_000, "intervalMs": 3_600_000, "failAt": 10_000, "messages": ["a"]})).is_ok());
        assert_eq!(Input::read(None).map(|input| (input.steps, input.interval_ms)), Ok((10, 1000)));
    }
}
