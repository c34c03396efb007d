//! A gate before the appends of a journal, which a test opens and shuts.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds appends until it is dropped.
pub struct AppendGate {
    pub(super) gate: Arc<Gate>,
}

impl AppendGate {
    /// Waits until an append stands at the gate.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn reached(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.gate.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }

    /// Lets the appends pass; the same as dropping the gate.
    pub fn release(self) {}
}

impl Drop for AppendGate {
    fn drop(&mut self) {
        self.gate.holds.send_modify(|holds| *holds -= 1);
    }
}

/// How many hold the gate, and how many appends wait at it.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) holds: watch::Sender<usize>,
    waiting: watch::Sender<usize>,
    /// Whether the store is cut off.
    pub(super) is_cut: watch::Sender<bool>,
    /// Whether nothing is heard of others by itself.
    pub(super) is_deaf: watch::Sender<bool>,
}

impl Gate {
    pub(super) async fn is_connected(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.is_cut.subscribe().wait_for(|is_cut| !is_cut).await;
    }

    pub(super) async fn hears(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.is_deaf.subscribe().wait_for(|is_deaf| !is_deaf).await;
    }

    pub(super) async fn pass(&self) {
        let mut holds = self.holds.subscribe();
        if *holds.borrow_and_update() == 0 {
            return;
        }
        let _waiting = WaitingAppend::at(self);
        // The sender is held by `self`, so waiting cannot fail.
        let _ = holds.wait_for(|holds| *holds == 0).await;
    }
}

/// Counts one append that waits, also when its future is dropped.
struct WaitingAppend<'a>(&'a Gate);

impl<'a> WaitingAppend<'a> {
    fn at(gate: &'a Gate) -> Self {
        gate.waiting.send_modify(|waiting| *waiting += 1);
        Self(gate)
    }
}

impl Drop for WaitingAppend<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
