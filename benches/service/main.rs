//! What the service can do, measured from outside: a real server process on loopback, its own CPU time and memory.
//!
//! `scripts/bench` runs it. Load generator and server share the machine, so figures per second of the server's CPU
//! time say more than those per second of the wall clock.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot measure is to stop with a backtrace")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const REPORTERS: usize = 64;
const REPORT_SECONDS: u64 = 5;
const WATCHERS: usize = 1_000;
const BROADCASTS: usize = 200;
const BROADCAST_INTERVAL: Duration = Duration::from_millis(25);
const IDLE_WATCHERS: usize = 10_000;

/// A server of its own, on a free port and a new data directory.
struct Server {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_progressd"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        Self { child, address, _data: data }
    }

    /// CPU seconds that the process has used, user and system.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        // Linux counts in hundredths of a second, on every architecture that matters here.
        ticks / 100.0
    }

    /// Memory that is resident, in KiB.
    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn new_task(&self) -> String {
        let mut client = Client::new(self.connect().await);
        let body = client.request("POST", "/api/tasks", r#"{"start":true}"#).await;
        body.split("\"taskId\":\"").nth(1).unwrap()[..36].to_owned()
    }

    async fn metrics(&self) -> String {
        Client::new(self.connect().await).request("GET", "/metrics", "").await
    }

    /// A watcher whose first event has arrived.
    async fn watch(&self, task: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let request = format!("GET /api/tasks/{task}/progress HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        while !contains(&seen, b"event: progress") {
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

/// A keep-alive HTTP/1.1 client that knows only what is needed here.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(8192) }
    }

    async fn request(&mut self, method: &str, path: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server hung up");
            let Some(head) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            let length: usize =
                text.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            if self.buffer.len() >= head + 4 + length {
                assert!(text.starts_with("http/1.1 2"), "{text}");
                return String::from_utf8_lossy(&self.buffer[head + 4..]).into_owned();
            }
        }
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0.0, Duration::as_secs_f64) * 1000.0
}

/// Upper bound in milliseconds of the histogram's bucket in which the given share of observations lies.
fn bucket_ms(metrics: &str, name: &str, percent: f64) -> f64 {
    let rows = metrics.lines().filter(|line| line.starts_with(&format!("{name}_bucket")));
    let rows: Vec<(f64, f64)> = rows
        .map(|row| {
            let bound = row.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            let count = row.split("} ").nth(1).unwrap().split(' ').next().unwrap();
            (bound.parse().unwrap_or(f64::INFINITY), count.parse().unwrap())
        })
        .collect();
    let total = rows.last().map_or(0.0, |(_, count)| *count);
    rows.iter().find(|(_, count)| *count >= total * percent / 100.0).map_or(0.0, |(bound, _)| bound * 1000.0)
}

async fn reports() {
    let server = Server::start(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let mut reporters = JoinSet::new();
    for _ in 0..REPORTERS {
        let (task, mut client) = (server.new_task().await, Client::new(server.connect().await));
        let stop = Arc::clone(&stop);
        reporters.spawn(async move {
            let (path, mut latencies) = (format!("/api/tasks/{task}"), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let body = format!(r#"{{"current":{},"total":1000000,"message":"working"}}"#, latencies.len());
                let sent = Instant::now();
                client.request("PATCH", &path, &body).await;
                latencies.push(sent.elapsed());
            }
            latencies
        });
    }
    let (cpu, started) = (server.cpu_seconds(), Instant::now());
    tokio::time::sleep(Duration::from_secs(REPORT_SECONDS)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies: Vec<_> = reporters.join_all().await.into_iter().flatten().collect();
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), server.cpu_seconds() - cpu);
    latencies.sort_unstable();
    let metrics = server.metrics().await;
    println!("durable reports, {REPORTERS} connections, one task each");
    println!("  reports per second              {:>12.0}", latencies.len() as f64 / seconds);
    println!("  reports per server CPU second   {:>12.0}", latencies.len() as f64 / cpu);
    println!(
        "  answer p50 / p99                {:>9.2} / {:.2} ms",
        percentile(&latencies, 50),
        percentile(&latencies, 99)
    );
    let commit = |percent| bucket_ms(&metrics, "progressd_commit_seconds", percent);
    println!("  commit p50 / p99, at most       {:>9.2} / {:.2} ms", commit(50.0), commit(99.0));
}

async fn fan_out() {
    let server = Server::start(&["--tick-interval", "1ms"]);
    let task = server.new_task().await;
    let epoch = Instant::now();
    let delivered = Arc::new(AtomicU64::new(0));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (mut stream, delivered) = (server.watch(&task).await, Arc::clone(&delivered));
        watchers.spawn(async move {
            let (mut latencies, mut buffer) = (Vec::with_capacity(BROADCASTS), vec![0; 16 * 1024]);
            while latencies.len() < BROADCASTS {
                let Ok(count @ 1..) = stream.read(&mut buffer).await else { break };
                let now = epoch.elapsed();
                for part in String::from_utf8_lossy(&buffer[..count]).split("\"message\":\"sent ").skip(1) {
                    let sent: u64 = part.split('"').next().unwrap().parse().unwrap();
                    latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
                    delivered.fetch_add(1, Ordering::Relaxed);
                }
            }
            latencies
        });
    }
    let (mut client, path) = (Client::new(server.connect().await), format!("/api/tasks/{task}"));
    let cpu = server.cpu_seconds();
    let mut ticker = tokio::time::interval(BROADCAST_INTERVAL);
    for _ in 0..BROADCASTS {
        ticker.tick().await;
        let body = format!(r#"{{"message":"sent {}"}}"#, epoch.elapsed().as_nanos());
        client.request("PATCH", &path, &body).await;
    }
    let end = async {
        while delivered.load(Ordering::Relaxed) < (WATCHERS * BROADCASTS) as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Ticks may have been merged; then not all arrive, and the count says so.
    let _merged = tokio::time::timeout(Duration::from_secs(5), end).await;
    let cpu = server.cpu_seconds() - cpu;
    client.request("PATCH", &path, r#"{"status":"completed"}"#).await;
    drop(server);
    let mut latencies: Vec<_> = watchers.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    println!("one task, {WATCHERS} watchers, {BROADCASTS} reports {} ms apart", BROADCAST_INTERVAL.as_millis());
    println!("  deliveries                      {:>12}", latencies.len());
    println!("  deliveries per server CPU second{:>12.0}", latencies.len() as f64 / cpu);
    println!(
        "  report to watcher p50 / p99     {:>9.2} / {:.2} ms",
        percentile(&latencies, 50),
        percentile(&latencies, 99)
    );
}

async fn idle() {
    let server = Server::start(&["--max-streams-per-channel", "15000"]);
    let task = server.new_task().await;
    let before = server.resident_kib();
    let mut watchers = Vec::with_capacity(IDLE_WATCHERS);
    for _ in 0..IDLE_WATCHERS {
        watchers.push(server.watch(&task).await);
    }
    let after = server.resident_kib();
    println!("{IDLE_WATCHERS} idle watchers of one task");
    println!("  resident memory per watcher     {:>9.2} KiB", (after - before) as f64 / IDLE_WATCHERS as f64);
    println!("  resident memory in all          {:>9.2} MiB", after as f64 / 1024.0);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let which: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| which.is_empty() || which.iter().any(|which| which == name);
    if wanted("reports") {
        runtime.block_on(reports());
    }
    if wanted("watchers") {
        runtime.block_on(fan_out());
    }
    if wanted("idle") {
        runtime.block_on(idle());
    }
}
