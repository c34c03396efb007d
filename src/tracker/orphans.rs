//! What nodes that are gone have left behind: those who were connected to them, and what their jobs worked on.
//!
//! The first node takes from a dead one what was its own; the attempts that can be resumed are left to whoever can. This
//! must not know who is connected here, nor how a job is resumed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Core, Tracker, TrackerError,
    batch::{Ask, EventAsk},
    nodes::TURN,
    sweeper::ask_all,
};
use crate::{
    event::{ChannelName, Seq, Timestamp},
    nodes::{NodeTable, Turns},
    people::{PresenceStatus, UserIntent, UserState},
    task::{Entry, Intent, Lease, Status},
};

/// So many users or tasks are looked at at a time, and what was a dead node's of them is taken: nobody waits long for it.
const SLICE: usize = 256;

impl Tracker {
    /// Changes when there may be tasks to resume, see [`Tracker::left_tasks`]; `None` where there are no others.
    pub fn left_behind(&self) -> Option<watch::Receiver<()>> {
        self.shared.own_node.as_ref().map(|own| own.left_behind.subscribe())
    }

    /// The tasks that jobs of other nodes have left behind with a checkpoint: any node that can may resume them.
    pub fn left_tasks(&self) -> Vec<Uuid> {
        // What somebody here holds is not left, whatever others think of this node.
        let is_held = |entry: &Entry| {
            entry.memo.lease.as_ref().is_some_and(|lease| self.shared.holders.length(lease.token).is_some())
        };
        let (mut page, mut next) = self.tasks_of_the_gone(None);
        let mut tasks = Vec::new();
        loop {
            let left = page.iter().filter(|entry| can_resume(entry) && !is_held(entry));
            tasks.extend(left.map(|entry| entry.task.task_id));
            if next.is_none() {
                break;
            }
            (page, next) = self.tasks_of_the_gone(next);
        }
        tasks.sort_unstable();
        // One that was renewed between two pages is in both.
        tasks.dedup();
        tasks
    }

    /// Out of a page of tasks, those that jobs on nodes that are gone worked on; and where the next page begins.
    fn tasks_of_the_gone(&self, after: Option<(Timestamp, Uuid)>) -> (Vec<Arc<Entry>>, Option<(Timestamp, Uuid)>) {
        let (table, nodes) = (self.shared.table(), self.shared.nodes());
        let page: Vec<_> = table.leased(after, |lease| is_gone(lease, &nodes)).take(SLICE).collect();
        let next = page.last().filter(|_| page.len() == SLICE).map(|(place, _)| *place);
        (page.into_iter().filter_map(|(_, entry)| entry.cloned()).collect(), next)
    }

    /// Whether a task is still left behind with this lease.
    pub fn is_left(&self, id: Uuid, token: Uuid) -> bool {
        let (table, nodes) = (self.shared.table(), self.shared.nodes());
        let is_such = |lease: &Lease| lease.token == token && is_gone(lease, &nodes);
        table.get(id).is_some_and(|entry| entry.memo.lease.as_ref().is_some_and(is_such) && can_resume(entry))
    }

    /// How long this node leaves a task that any of them may take to those whose turn is before its own.
    pub fn turns(&self) -> impl Fn(Uuid) -> Duration + use<> {
        let shared = &self.shared;
        let turns = shared.own_node.as_ref().map(|own| shared.nodes().turns(own.name(), shared.clock.now()));
        let turns = turns.unwrap_or(Turns::ALONE);
        move |task| TURN * turns.before(task)
    }

    /// Takes from dead nodes what was theirs.
    pub(super) async fn bereave(&self) -> Result<(), TrackerError> {
        let now = self.shared.clock.now();
        let lapsed = self.shared.nodes().lapsed(now);
        for (node, _) in &lapsed {
            tracing::warn!(%node, "a node has not renewed its lease; it is taken for dead");
        }
        let bury = |(node, last): (Arc<str>, Seq)| Some(Ask::Forget(ChannelName::node(&node).ok()?, Some(last)));
        ask_all(self, lapsed.into_iter().filter_map(bury)).await?;
        let mut after: Option<Arc<str>> = None;
        loop {
            // Anew each time: a node may have entered meanwhile.
            let known: Arc<BTreeSet<Arc<str>>> = Arc::new(self.shared.nodes().names().cloned().collect());
            let looked_at = |(user_id, state): (&Arc<str>, &Arc<UserState>)| {
                Some((Arc::clone(user_id), is_left_behind(state, |node| known.contains(node))))
            };
            let users = self.users(after.as_deref(), SLICE, looked_at);
            // A user who is known has a valid name.
            let orphans =
                users.iter().filter(|(_, is_orphan)| *is_orphan).filter_map(|(id, _)| ChannelName::user(id).ok());
            let bereave = |user| Ask::Events(EventAsk::User(user, UserIntent::Bereave(Arc::clone(&known))), None);
            ask_all(self, orphans.map(bereave)).await?;
            after = match users.into_iter().nth(SLICE - 1) {
                Some((last, _)) => Some(last),
                None => break,
            };
        }
        let mut after = None;
        loop {
            let (tasks, next) = self.tasks_of_the_gone(after);
            let lost = tasks.iter().filter(|entry| !can_resume(entry));
            ask_all(self, lost.filter_map(|entry| Some(Ask::Task(entry.task.task_id, abandoned(entry)?)))).await?;
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }
}

impl Core {
    /// What was just appended may be of a node that is gone, which said it last of all.
    pub(super) fn check_holder(&self, lease: Option<&Lease>) {
        if lease.is_some_and(|lease| is_gone(lease, &self.nodes())) {
            self.note_orphans();
        }
    }

    /// The same of a user.
    pub(super) fn check_places(&self, user: &ChannelName) {
        let nodes = self.nodes();
        if self.people().get(&user.name()).is_some_and(|state| is_left_behind(state, |node| nodes.has(node))) {
            self.note_orphans();
        }
    }
}

/// Whether a user is connected to a node that is gone, or to none.
fn is_left_behind(state: &UserState, is_known: impl Fn(&str) -> bool) -> bool {
    let is_at = &state.nodes;
    state.status == PresenceStatus::Connected && (is_at.is_empty() || !is_at.iter().all(|node| is_known(node)))
}

/// What takes a task from the job that holds it.
fn abandoned(entry: &Entry) -> Option<Intent> {
    let lease = entry.memo.lease.as_ref()?;
    Some(Intent::Abandon { holder: lease.holder.clone(), token: Some(lease.token) })
}

/// Whether a job holds it whose node is not there any more.
fn is_gone(lease: &Lease, nodes: &NodeTable) -> bool {
    lease.node().is_some_and(|node| !nodes.has(node))
}

/// Whether a job has made a checkpoint: when its node is gone, another one can resume it, or its own when it comes back,
/// until the lease of the task ends.
pub(super) fn can_resume(entry: &Entry) -> bool {
    entry.memo.checkpoint.is_some() && entry.task.status == Status::Processing
}
