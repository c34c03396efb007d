//! How the service ends: in stages, each bounded, in one written order.
//!
//! A [`Stage`] is a group of tasks with two tokens: `stop` asks its tasks to end, `cut`, the parent of `stop`, drops
//! those that do not. Whoever starts a task takes the stage as a parameter and owns what the task owns; this module
//! must not know what the tasks do.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What jobs and the tracker get to end once nobody is connected any more: time for one slow commit.
const STAGE_BOUND: Duration = Duration::from_secs(5);

/// The stages of the service, in the order in which they end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Asks streams to say their last word, the accept loop to stop, and connections to end after the current request.
    /// Its tasks are the accept loop and, through it, the connections.
    pub server: Stage,
    /// Asks jobs to end and to give back their leases.
    pub jobs: Stage,
    /// Asks the tracker to write what it has accepted, and the journal to close.
    pub tracker: Stage,
    /// The parent of all tokens.
    root: CancellationToken,
}

impl Default for Shutdown {
    fn default() -> Self {
        let root = CancellationToken::new();
        let stage = |name| {
            let cut = root.child_token();
            Stage { name, stop: cut.child_token(), cut, tasks: TaskTracker::new() }
        };
        Self { server: stage("server"), jobs: stage("jobs"), tracker: stage("tracker"), root }
    }
}

impl Shutdown {
    /// Ends the stages one after the other; a further signal drops all that is left and returns at once.
    ///
    /// Connections have `drain_timeout` to end. True means that everything ended by itself.
    pub async fn run(self, drain_timeout: Duration, signals: &mut Signals) -> bool {
        let in_order = async {
            let drained = self.server.end(drain_timeout).await;
            let jobs_ended = self.jobs.end(STAGE_BOUND).await;
            self.tracker.end(STAGE_BOUND).await && jobs_ended && drained
        };
        tokio::select! {
            ended = in_order => ended,
            () = signals.next() => {
                tracing::warn!("second signal: stopping at once");
                self.root.cancel();
                false
            }
        }
    }
}

/// A group of tasks that ends as a whole.
#[derive(Debug, Clone)]
pub struct Stage {
    name: &'static str,
    stop: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    /// The token that asks this stage's tasks to end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task of this stage. It should end soon after [`Stage::stop`]; it is dropped if it does not, and the
    /// handle then gives `None`. The handle tells of a panic: whoever cannot live without the task must look.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // Boxed, since the future around it would make room for it twice.
        self.tasks.spawn(self.cut.clone().run_until_cancelled_owned(Box::pin(task)))
    }

    /// Asks the tasks to end, waits for them, and drops those that take longer than `bound`. True means that all ended
    /// by themselves.
    pub async fn end(&self, bound: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(bound, self.tasks.wait()).await.is_ok();
        if !ended {
            tracing::warn!(
                stage = self.name,
                tasks = self.tasks.len(),
                "shutdown stage timed out; dropping its remaining tasks"
            );
            self.cut.cancel();
            self.tasks.wait().await;
        }
        ended
    }
}

/// The signals that ask the service to end: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on, so that no signal is lost between two waits.
    ///
    /// # Errors
    ///
    /// When the system refuses a signal handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost when this is dropped.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Starts a task in `stage` that notes its stage's end.
    fn note(stage: &Stage, order: &Arc<Mutex<Vec<&'static str>>>) {
        let (name, stop, order) = (stage.name, stage.stop(), Arc::clone(order));
        stage.spawn(async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            order.lock().expect("no panic").push(name);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn stages_end_in_order() {
        let shutdown = Shutdown::default();
        let order = Arc::default();
        for stage in [&shutdown.tracker, &shutdown.jobs, &shutdown.server] {
            note(stage, &order);
        }
        let mut signals = Signals::listen().expect("signals");
        assert!(shutdown.run(Duration::from_secs(2), &mut signals).await);
        assert_eq!(*order.lock().expect("no panic"), ["server", "jobs", "tracker"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_dropped_after_the_bound() {
        let shutdown = Shutdown::default();
        let task = shutdown.server.spawn(std::future::pending::<()>());
        let started = tokio::time::Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(60), shutdown.server.end(Duration::from_secs(2))).await;
        assert!(!ended.expect("the bound holds"));
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        assert_eq!(task.await.expect("no panic"), None);
        assert!(!shutdown.jobs.stop().is_cancelled());
    }
}
