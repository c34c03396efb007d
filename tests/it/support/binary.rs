//! The real binary as a process of its own, on a free port.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};

/// A running server; dropping it kills it.
pub(crate) struct Binary {
    child: Child,
    address: String,
}

impl Binary {
    /// Starts it on this data directory and waits until it listens.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, arguments, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn start_with(data: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        command.envs(environment.iter().copied());
        Self::spawn(&mut command, data, arguments)
    }

    /// The same, where it may have so many files open.
    pub(crate) fn start_with_files(data: &Path, files: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0 && exec \"$@\"", &files.to_string(), env!("CARGO_BIN_EXE_progressd")]);
        Self::spawn(&mut command, data, &[])
    }

    fn spawn(command: &mut Command, data: &Path, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data-dir"])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it tells its address");
        let address = line.trim().strip_prefix("listening on http://").expect("it listens").to_owned();
        Self { child, address }
    }

    /// The start of its URLs.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its memory that is resident, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, with SIGTERM, and waits until it has.
    pub(crate) fn terminate(&mut self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it was running");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // It may have been killed already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
