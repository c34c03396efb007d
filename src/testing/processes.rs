//! How processes that have children are killed.

use rustix::process::{Pid, Signal, kill_process};

/// Kills a process and its children with SIGKILL.
///
/// # Panics
/// When there is none.
pub fn kill_with_children(id: i32) {
    let process = |id: i32| Pid::from_raw(id).expect("the id of a process");
    // It starts no others meanwhile.
    kill_process(process(id), Signal::STOP).expect("it is running");
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("it is running");
    for id in children.split_whitespace().map(|child| child.parse().expect("an id")).chain([id]) {
        // A child may have ended by itself.
        let _gone = kill_process(process(id), Signal::KILL);
    }
}
