//! The real binary as a process of its own, on a free port.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};
use tempfile::NamedTempFile;

use super::leaks;

/// A running server; dropping it kills it. What it has written is searched for credentials then.
pub(crate) struct Binary {
    child: Child,
    base: String,
    data: PathBuf,
    log: NamedTempFile,
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
        Self::launch(command, data, &[&["--listen", "127.0.0.1:0"], arguments].concat())
    }

    /// The same, where it may have so many files open.
    pub(crate) fn start_with_files(data: &Path, files: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0 && exec \"$@\"", &files.to_string(), env!("CARGO_BIN_EXE_progressd")]);
        Self::launch(command, data, &["--listen", "127.0.0.1:0"])
    }

    /// Starts it on an address.
    pub(crate) fn start_on(data: &Path, listen: &str, arguments: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        Self::launch(command, data, &[&["--listen", listen], arguments].concat())
    }

    /// The same, where it only tells what is wrong; what it wrote if it does not start.
    pub(crate) fn try_start_quiet(data: &Path, listen: &str, arguments: &[&str]) -> Result<Self, String> {
        let command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        Self::launch_telling("warn", command, data, &[&["--listen", listen], arguments].concat())
    }

    fn launch(command: Command, data: &Path, arguments: &[&str]) -> Self {
        Self::launch_telling("progressd=debug", command, data, arguments)
            .unwrap_or_else(|log| panic!("it listens: {log}"))
    }

    fn launch_telling(filter: &str, mut command: Command, data: &Path, arguments: &[&str]) -> Result<Self, String> {
        let log = NamedTempFile::new().expect("a file");
        command.args(["serve", "--log", filter, "--log-format", "json", "--data-dir"]).arg(data);
        command.args(arguments).stdout(Stdio::piped()).stderr(File::create(log.path()).expect("the file"));
        let mut child = command.spawn().expect("the binary was built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it tells its address");
        let Some(base) = line.trim().strip_prefix("listening on ").map(str::to_owned) else {
            child.wait().expect("it ends");
            return Err(std::fs::read_to_string(log.path()).expect("text"));
        };
        Ok(Self { child, base, data: data.to_owned(), log })
    }

    /// The start of its URLs.
    pub(crate) fn base(&self) -> String {
        self.base.clone()
    }

    /// What it has logged so far, as JSON.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("text")
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
        let log = std::fs::read(self.log.path()).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("the end of its log: {}", String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]));
        }
        leaks::search("its log", &log);
        leaks::search_files(&self.data);
    }
}
