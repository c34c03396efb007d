//! The checked settings, one struct per section. The `Default`s here are the one
//! place where default values are written down.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: u64 = 1024 * 1024 * 1024;

/// Every setting of `progressd serve`, checked. Tests build `Config::default()`
/// and change fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `--listen`, `PROGRESSD_LISTEN`: address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `--data-dir`, `PROGRESSD_DATA_DIR`: the directory of the journal and of uploaded files.
    pub data_dir: PathBuf,
    /// `--drain-timeout`, `PROGRESSD_DRAIN_TIMEOUT`: how long SIGTERM waits for open requests.
    pub drain_timeout: Duration,
    /// Bounds of connections.
    pub connections: ConnectionConfig,
    /// Bounds and permissions of requests.
    pub http: HttpConfig,
    /// Bounds and pace of streams.
    pub streams: StreamConfig,
    /// How long tasks wait and are kept.
    pub tasks: TaskConfig,
    /// What may be uploaded.
    pub uploads: UploadConfig,
    /// How jobs run.
    pub jobs: JobConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data_dir: PathBuf::from("./data"),
            drain_timeout: Duration::from_secs(10),
            connections: ConnectionConfig::default(),
            http: HttpConfig::default(),
            streams: StreamConfig::default(),
            tasks: TaskConfig::default(),
            uploads: UploadConfig::default(),
            jobs: JobConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// Bounds of connections, whatever is asked on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// `--max-connections`, `PROGRESSD_MAX_CONNECTIONS`: connections at once; more wait in the
    /// kernel's backlog.
    pub max_connections: usize,
    /// `--first-byte-timeout`, `PROGRESSD_FIRST_BYTE_TIMEOUT`: silence after connecting.
    pub first_byte_timeout: Duration,
    /// `--header-timeout`, `PROGRESSD_HEADER_TIMEOUT`: from the first byte of a request's head to
    /// its last.
    pub header_timeout: Duration,
    /// `--body-timeout`, `PROGRESSD_BODY_TIMEOUT`: silence inside a request's body.
    pub body_timeout: Duration,
    /// `--idle-timeout`, `PROGRESSD_IDLE_TIMEOUT`: silence between two requests.
    pub idle_timeout: Duration,
    /// `--write-timeout`, `PROGRESSD_WRITE_TIMEOUT`: how long a client may take nothing of what is
    /// ready for it.
    pub write_timeout: Duration,
    /// `--max-header`, `PROGRESSD_MAX_HEADER`: size of a request's head.
    pub max_header_bytes: usize,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            // Room for 10,000 watchers with the reports beside them. An idle watcher costs about 11 KiB in its
            // connection, so the bound is reached before memory is in danger.
            max_connections: 16_384,
            first_byte_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            // Longer than the 60 s for which common reverse proxies keep their side, so that
            // it is they who close, and no request crosses our close on the wire.
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            max_header_bytes: 16 * KIB,
        }
    }
}

/// Bounds and permissions of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `--allowed-hosts`, `PROGRESSD_ALLOWED_HOSTS`: lower-case names, with or without a port, which
    /// a request's `Host` may carry besides loopback.
    pub allowed_hosts: Vec<String>,
    /// `--allowed-origins`, `PROGRESSD_ALLOWED_ORIGINS`: lower-case origins that may make cross-site
    /// requests.
    pub allowed_origins: Vec<String>,
    /// `--max-body`, `PROGRESSD_MAX_BODY`: size of a request's body, uploads aside.
    pub max_body_bytes: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { allowed_hosts: Vec::new(), allowed_origins: Vec::new(), max_body_bytes: MIB }
    }
}

/// Bounds and pace of streams and of the channels that feed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// `--max-streams`, `PROGRESSD_MAX_STREAMS`: streams at once; below `max_connections`.
    pub max_streams: usize,
    /// `--max-streams-per-channel`, `PROGRESSD_MAX_STREAMS_PER_CHANNEL`: watchers of one channel.
    pub max_streams_per_channel: usize,
    /// `--tick-interval`, `PROGRESSD_TICK_INTERVAL`: least time between two ticks of one task on
    /// one stream.
    pub tick_interval: Duration,
    /// `--keep-alive`, `PROGRESSD_KEEP_ALIVE`: silence on a stream before a comment is sent.
    pub keep_alive: Duration,
    /// `--history`, `PROGRESSD_HISTORY`: events other than ticks kept per channel.
    pub history: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            // 1,024 connections stay free for those who submit, report and ask.
            max_streams: 15_360,
            max_streams_per_channel: 15_360,
            tick_interval: Duration::from_millis(50),
            keep_alive: Duration::from_secs(15),
            history: 1_000,
        }
    }
}

/// How long tasks wait and are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskConfig {
    /// `--stalled-after`, `PROGRESSD_STALLED_AFTER`: silence of a processing task before it counts
    /// as stalled.
    pub stalled_after: Duration,
    /// `--retention`, `PROGRESSD_RETENTION`: how long a finished task is kept, from its finish.
    pub retention: Duration,
    /// `--queue-length`, `PROGRESSD_QUEUE_LENGTH`: changes that may wait for the writer.
    pub queue_length: usize,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            stalled_after: Duration::from_secs(30),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            // About a third of a second of work for the journal at its usual pace: a longer queue
            // would only make callers wait longer before they hear of the overload.
            queue_length: 8_192,
        }
    }
}

/// What may be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    /// `--max-upload`, `PROGRESSD_MAX_UPLOAD`: size of one uploaded file.
    pub max_upload_bytes: u64,
    /// `--upload-types`, `PROGRESSD_UPLOAD_TYPES`: lower-case media types, as found in the file's
    /// own bytes, that are accepted; `image/*` stands for a family; empty accepts any.
    pub types: Vec<String>,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self { max_upload_bytes: 10 * GIB, types: Vec::new() }
    }
}

/// How jobs run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobConfig {
    /// `--job-concurrency`, `PROGRESSD_JOB_CONCURRENCY`: jobs at once; more wait as `pending`.
    pub concurrency: usize,
    /// `--lease`, `PROGRESSD_LEASE`: how long a silent job keeps its task before it counts as lost.
    pub lease: Duration,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self {
            // Jobs wait for disks and clients far more than they compute, so several times the
            // cores of a small machine; few enough that sixteen files hashed at once still move.
            concurrency: 16,
            lease: Duration::from_secs(30),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `--log-format`, `PROGRESSD_LOG_FORMAT`: how a line looks.
    pub format: LogFormat,
    /// `--log`, `PROGRESSD_LOG`: which lines are written, in the directives of `tracing_subscriber`'s
    /// `EnvFilter`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}
