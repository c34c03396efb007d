//! What time alone asks for: the writer asks the table whose time has come, and decides it like any other request.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Request,
    writer::{BATCH_MAX, Writer},
};
use crate::task::Intent;

/// After the clock has jumped forward, nobody's time is over before this pause: who is there can say so first.
const JUMP_PAUSE: Duration = Duration::from_secs(30);

impl Writer {
    /// When something is to be done that nobody asks for.
    pub(super) fn timers_at(&self) -> Instant {
        let now = Instant::now();
        let due_at = self.shared.table().next_due().map(|at| now + at.since(self.shared.clock.now()));
        let behind_until = self.is_behind.then_some(now);
        let at = due_at.into_iter().chain(behind_until).min();
        at.map_or(now + JUMP_PAUSE, |at| at.max(self.rest_until))
    }

    pub(super) fn take_timers(&mut self, taken: &mut Vec<Request>) {
        if let Some(jump) = self.jumps.look() {
            tracing::warn!(
                clock.jump_seconds = jump.as_secs(),
                "the system clock jumped forward; timeouts are paused for 30 seconds"
            );
            self.rest_until = self.rest_until.max(Instant::now() + JUMP_PAUSE);
        }
        let shared = &self.shared;
        let now = shared.clock.now();
        let is_due = shared.table().next_due().is_some_and(|at| at <= now);
        if !is_due || Instant::now() < self.rest_until {
            return;
        }
        let rank = shared.rank();
        let due = shared.table_mut().due(now, BATCH_MAX, |entry, at| shared.turn(rank, now, entry, at));
        taken.extend(due.iter().map(|entry| {
            let renewal = entry.memo.lease.as_ref().filter(|lease| lease.expires_at <= now).and_then(|lease| {
                // Its holder lives in this process: what kept it from renewing was not its fault.
                let length = shared.holders.length(lease.token)?;
                Some(Intent::Renew { token: lease.token, lease: length })
            });
            Request::timer(entry.task.task_id, renewal.unwrap_or(Intent::Due))
        }));
    }
}
