//! The server under test: a process of its own, on a free port and a new data directory.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{Ask, Client};

/// The journal folds what is left when it is left alone for a moment.
const QUIET: Duration = Duration::from_millis(300);
const LAG_SETTLED: u64 = 16;
/// How long the journal may take to fold what it was given.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// What is measured.
pub(crate) struct Subject<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) full: bool,
}

impl Subject<'_> {
    pub(crate) fn start(&self, arguments: &[&str]) -> Server {
        let data = tempfile::tempdir().unwrap();
        let (child, address) = spawn(self.binary, data.path(), arguments);
        Server { child, address, binary: self.binary.to_owned(), data }
    }

    /// A size: the full one where that was asked for.
    pub(crate) fn size(&self, small: usize, full: usize) -> usize {
        if self.full { full } else { small }
    }
}

pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    binary: PathBuf,
    data: TempDir,
}

impl Server {
    /// Ends the process and starts another on the same data; tells how long it took until that listened.
    pub(crate) fn restart(&mut self, signal: Signal, arguments: &[&str]) -> Duration {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
        let started = Instant::now();
        (self.child, self.address) = spawn(&self.binary, self.data.path(), arguments);
        started.elapsed()
    }

    /// CPU seconds that the process has used, user and system.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        // Linux counts in hundredths of a second, on every architecture that matters here.
        ticks / 100.0
    }

    /// Memory that is resident, in KiB.
    pub(crate) fn resident_kib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Tasks that are being worked on, by their paths.
    pub(crate) async fn new_tasks(&self, count: usize) -> Vec<String> {
        let mut client = Client::connect(&self.address).await;
        let mut tasks = Vec::with_capacity(count);
        for _ in 0..count {
            tasks.push(client.submit(&Ask::post("/api/tasks", r#"{"start":true}"#)).await);
        }
        tasks
    }

    pub(crate) async fn metrics(&self) -> String {
        Client::connect(&self.address).await.ask(&Ask::get("/metrics")).await
    }

    /// Waits until the journal has folded all but a few events, so that what has ended has left memory.
    pub(crate) async fn settle(&self) {
        let task = self.new_tasks(1).await.remove(0);
        let mut client = Client::connect(&self.address).await;
        let settled = async {
            loop {
                tokio::time::sleep(QUIET).await;
                // The gauge follows commits only.
                client.ask(&Ask::patch(&task, r#"{"message":"settled?"}"#)).await;
                let metrics = self.metrics().await;
                let lag = metrics.lines().find_map(|line| line.strip_prefix("progressd_fold_lag_events ")).unwrap();
                if lag.parse::<u64>().unwrap() <= LAG_SETTLED {
                    break;
                }
            }
        };
        tokio::time::timeout(SETTLE_MAX, settled).await.unwrap();
    }

    /// A watcher of a task whose first event has arrived.
    pub(crate) async fn watch(&self, task: &str) -> TcpStream {
        self.stream(&format!("{task}/progress"), "event: progress").await
    }

    /// A stream of which this has arrived.
    pub(crate) async fn stream(&self, path: &str, awaited: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains(awaited) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Starts a process and waits until it listens.
fn spawn(binary: &Path, data: &Path, arguments: &[&str]) -> (Child, String) {
    let mut child = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data-dir"])
        .arg(data)
        .args(arguments)
        // No flag: a baseline may not know it yet.
        .env("PROGRESSD_MAX_LIVE_TASKS", "10000000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    (child, address)
}
