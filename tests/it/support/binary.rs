//! The real binary as a process of its own, on a free port.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};
use tempfile::NamedTempFile;

/// A running server; dropping it kills it.
pub(crate) struct Binary {
    child: Child,
    base: String,
    log: Option<NamedTempFile>,
}

impl Binary {
    /// Starts it on this data directory and waits until it listens.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, arguments, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn start_with(data: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        command.envs(environment.iter().copied()).args(["serve", "--log", "error"]);
        Self::launch(command, data, &[&["--listen", "127.0.0.1:0"], arguments].concat(), None)
    }

    /// Starts it on an address, and keeps what it logs, as JSON.
    pub(crate) fn start_logging(data: &Path, listen: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        let log = NamedTempFile::new().expect("a file");
        command.args(["serve", "--log", "progressd=debug", "--log-format", "json", "--listen", listen]);
        command.stderr(File::create(log.path()).expect("the file"));
        Self::launch(command, data, arguments, Some(log))
    }

    fn launch(mut command: Command, data: &Path, arguments: &[&str], log: Option<NamedTempFile>) -> Self {
        command.arg("--data-dir").arg(data).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it tells its address");
        let base = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, base, log }
    }

    /// The start of its URLs.
    pub(crate) fn base(&self) -> String {
        self.base.clone()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.as_ref().expect("its log is kept").path()).expect("text")
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
