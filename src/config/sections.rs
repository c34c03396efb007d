//! The checked settings, one struct per section. A field is a setting, and the only place where it is written down: its
//! flag, its default, and its comment, which is what `--help` and `docs/settings.md` print.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command};

use super::value::{
    KeySource, List, Networks, Rate, Secret, address, count, directory, duration, file, filter, hosts, key_source,
    log_format, media_types, memory_size, networks, origins, rate, secret, size, text, topics, yes_or_no,
};

/// Every setting of `progressd serve`, checked. Tests build `Config::default()` and change fields.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Service")]
pub struct Config {
    /// Address and port to listen on; port 0 picks a free one; beyond loopback, set allowed-hosts too
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Directory of the journal and of uploaded files; created if it does not exist
    #[arg(long, value_name = "DIRECTORY", value_parser = directory, default_value = "./data")]
    pub data_dir: PathBuf,
    /// URL of a PostgreSQL database for the journal, such as postgres://user:password@host/database, which any number of
    /// nodes share; @ and a file name reads it from that file; the journal is in data-dir if not set
    #[arg(long, value_name = "URL|@FILE", value_parser = secret)]
    pub store: Option<Secret>,
    /// Directory of uploaded files that all nodes of the store share, such as a network file system; it must be there;
    /// needs store, without which files are in data-dir; a node of a store that has none refuses uploads
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pub files_dir: Option<PathBuf>,
    /// How long open requests may take to finish after SIGTERM before they are cut off
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub drain_timeout: Duration,
    /// Limits of connections.
    #[command(flatten)]
    pub connections: ConnectionConfig,
    /// Encryption.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// Limits and permissions of requests.
    #[command(flatten)]
    pub http: HttpConfig,
    /// Who may do what.
    #[command(flatten)]
    pub access: AccessConfig,
    /// How much one client may use.
    #[command(flatten)]
    pub limits: LimitConfig,
    /// Limits and pace of streams.
    #[command(flatten)]
    pub streams: StreamConfig,
    /// How long tasks wait and are kept.
    #[command(flatten)]
    pub tasks: TaskConfig,
    /// How many topics there are, and what is kept of them.
    #[command(flatten)]
    pub topics: TopicConfig,
    /// How long users and their notifications are kept.
    #[command(flatten)]
    pub people: PeopleConfig,
    /// What may be uploaded.
    #[command(flatten)]
    pub uploads: UploadConfig,
    /// How jobs run.
    #[command(flatten)]
    pub jobs: JobConfig,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogConfig,
}

/// Limits of connections, whatever their requests are.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionConfig {
    // Room for 10,000 watchers with the reports beside them. An idle watcher costs about 11 KiB in its connection, so
    // the limit is reached before memory is in danger.
    /// Maximum number of open connections; further ones wait until one closes
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "16384")]
    pub max_connections: usize,
    // Off: behind a proxy, all connections come from its address.
    /// Maximum number of open connections of one address, that of the proxy if there is one; further ones are answered
    /// with 429 and closed; no limit if not set
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub max_connections_per_address: Option<usize>,
    /// How long the TLS handshake of a connection may take
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub handshake_timeout: Duration,
    // A handshake takes about a millisecond of computing, and some 20 KiB of memory.
    /// Maximum number of TLS handshakes in progress; further ones wait, which counts towards their time
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "1024")]
    pub max_handshakes: usize,
    /// How long a new connection may stay silent before it is closed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub first_byte_timeout: Duration,
    /// How long a client may take to send the head of a request, from the first byte to the last
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub header_timeout: Duration,
    /// How long a client may pause while it sends the body of a request; a client that pauses longer in all must send
    /// 256 bytes a second on average
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1m")]
    pub body_timeout: Duration,
    // Longer than the 60 s for which common reverse proxies keep their side, so that the proxy closes first and no
    // request is sent into a connection that is being closed here.
    /// How long a connection is kept open between two requests
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "75s")]
    pub idle_timeout: Duration,
    /// How long a client may read nothing of a response that waits for it before the response is cut off
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub write_timeout: Duration,
    /// Maximum size of the head of a request; at least 8KiB
    #[arg(long = "max-header", value_name = "SIZE", value_parser = memory_size, default_value = "16KiB")]
    pub max_header_bytes: usize,
}

/// Encryption. Without these, plain HTTP is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsConfig {
    /// File with the certificate of the service and those that lead to its authority (PEM); read again when it changes;
    /// needs tls-key
    #[arg(long = "tls-cert", value_name = "FILE", value_parser = file)]
    pub cert: Option<PathBuf>,
    /// File with the private key of the certificate (PEM); read again when it changes
    #[arg(long = "tls-key", value_name = "FILE", value_parser = file)]
    pub key: Option<PathBuf>,
}

/// Limits and permissions of requests.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Requests")]
pub struct HttpConfig {
    /// Host names besides loopback that requests may use, separated by commas; a name without a port allows every port
    #[arg(long, value_name = "HOST,…", value_parser = hosts, default_value = "")]
    pub allowed_hosts: List,
    /// Origins of other sites whose pages may send requests, separated by commas, such as `https://app.example`
    #[arg(long, value_name = "ORIGIN,…", value_parser = origins, default_value = "")]
    pub allowed_origins: List,
    /// Addresses and networks of reverse proxies, separated by commas, such as 127.0.0.1,10.0.0.0/8: their Forwarded or
    /// X-Forwarded-For, -Proto and -Host headers say who the client is; those of others are ignored
    #[arg(long, value_name = "NETWORK,…", value_parser = networks, default_value = "")]
    pub trusted_proxies: Networks,
    /// Maximum size of a page of a list, with the input and metadata of its tasks; a page ends before it grows further;
    /// at most 16MiB
    #[arg(long = "max-page", value_name = "SIZE", value_parser = memory_size, default_value = "4MiB")]
    pub max_page_bytes: usize,
    /// Maximum size of the body of a request; uploads have their own limit, max-upload
    #[arg(long = "max-body", value_name = "SIZE", value_parser = memory_size, default_value = "1MiB")]
    pub max_body_bytes: usize,
}

/// Who may do what. Access is on as soon as a key for tokens is given here, or an API key was made.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// Secret that signs the tokens of people (JWT, HS256); @ and a file name reads it from that file
    #[arg(long, value_name = "SECRET|@FILE", value_parser = secret)]
    pub jwt_secret: Option<Secret>,
    /// File or URL of the public keys that verify the tokens of people (JWK set; RS256, ES256, EdDSA)
    #[arg(long, value_name = "FILE|URL", value_parser = key_source)]
    pub jwks: Option<KeySource>,
    /// The iss that tokens must have
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub jwt_issuer: Option<String>,
    /// The aud that tokens must have; any if not set
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub jwt_audience: Option<String>,
    // An exp has no leeway: streams end by it, and would otherwise be opened again with a token that has ended.
    /// How far the clock of the issuer may be ahead, when the nbf of a token is checked
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub jwt_leeway: Duration,
    // What was always told to all who listen. The rest is nobody's who was not given a right to it.
    /// Topics that all people and programs may see, separated by commas; game.* means all that begin so; none if empty
    #[arg(long, value_name = "TOPIC,…", value_parser = topics, default_value = "broadcast,game.*")]
    pub public_topics: List,
    /// Whether to listen beyond loopback although access is off: whoever reaches the address may do everything
    #[arg(long, value_name = "true|false", value_parser = yes_or_no, default_value = "false",
        num_args = 0..=1, default_missing_value = "true")]
    pub insecure_open: bool,
}

/// How much one client may use. A principal is a person, an API key or a ticket; an address of IPv6 is counted by its
/// network of 64 bits.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits per client")]
pub struct LimitConfig {
    // Off, like requests: behind a proxy that is not trusted, all clients have its address.
    /// Maximum number of open streams and long polls of one address; no limit if not set
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub max_streams_per_address: Option<usize>,
    // Far more than the tabs of one person, and a fraction of max-streams.
    /// Maximum number of open streams and long polls of one principal
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "1000")]
    pub max_streams_per_principal: usize,
    /// How many requests one address may make in a time; further ones are refused with 429; no limit if not set
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub requests_per_address: Option<Rate>,
    /// How many requests one principal may make in a time; further ones are refused with 429; no limit if not set
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub requests_per_principal: Option<Rate>,
    /// How many tasks one principal may submit in a time; further ones are refused with 429; no limit if not set
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub submits_per_principal: Option<Rate>,
    /// How many wrong tokens, API keys and tickets of one address are answered with 401 in a time; further ones are
    /// refused with 429, and right ones never
    #[arg(long, value_name = "RATE", value_parser = rate, default_value = "60/1m")]
    pub failed_credentials_per_address: Rate,
    // A tenth of max-live-tasks.
    /// Maximum number of tasks of one user that have not ended; further ones are refused with 429
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "10000")]
    pub max_live_tasks_per_user: usize,
    /// Maximum number of uploaded files that are kept of one user; further ones are refused with 507
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "10000")]
    pub max_files_per_user: usize,
    /// Maximum size of all uploaded files that are kept of one user; further ones are refused with 507
    #[arg(long = "max-file-data-per-user", value_name = "SIZE", value_parser = size, default_value = "100GiB")]
    pub max_file_bytes_per_user: u64,
}

/// Limits and pace of streams and of the channels that feed them.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Streams")]
pub struct StreamConfig {
    // 1,024 connections stay free for those who submit, report and ask.
    /// Maximum number of open streams; must be below max-connections, and is 15/16 of it if not set
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "15360")]
    pub max_streams: usize,
    /// Maximum number of open streams on one channel; at most max-streams, and the same if not set
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "15360")]
    pub max_streams_per_channel: usize,
    /// Minimum time between two ticks of one task on one stream; ticks in between are merged into the latest
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "50ms")]
    pub tick_interval: Duration,
    /// How long a stream may be quiet before a comment line is sent to keep it open
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s")]
    pub keep_alive: Duration,
    /// Number of events other than ticks kept per task, from which a reconnecting client resumes
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "1000")]
    pub history: usize,
    // A thousand events of tasks that have a few steps; a channel that is watched holds it in memory.
    /// Size of the events kept per task, topic, user and group, from 64KiB to 64MiB; data and event names count. The oldest
    /// are removed, whatever --history, --topic-history and --inbox-length allow; the newest is always kept
    #[arg(long = "history-data", value_name = "SIZE", value_parser = memory_size, default_value = "1MiB")]
    pub history_bytes: usize,
    /// Number of notifications kept per user, and per group
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "1000")]
    pub inbox_length: usize,
}

/// How many topics there are, and what is kept of them.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Topics")]
pub struct TopicConfig {
    // A topic that nobody watches takes about 1 KiB of memory, caches included.
    /// Maximum number of topics; an event for a further one is refused with 503
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "10000")]
    pub max_topics: usize,
    /// Number of events kept per topic, from which a reconnecting client resumes
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "1000")]
    pub topic_history: usize,
    /// How long a topic without events is kept, with its value
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90d")]
    pub topic_retention: Duration,
    /// How often streams of /api/events have an event named update; never if not set
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub update_interval: Option<Duration>,
}

/// How long tasks wait and are kept.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Tasks")]
pub struct TaskConfig {
    /// How long a processing task may go without a report before it is marked as stalled
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub stalled_after: Duration,
    /// How long a finished task is kept, counted from its end
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7d")]
    pub retention: Duration,
    /// How long a task may be pending before it ends with error expired
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30d")]
    pub max_pending_age: Duration,
    // A small task takes about 2 KiB of memory until it ends, so all of them some 200 MB.
    /// Maximum number of tasks that have not ended; further ones are refused with 429
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "100000")]
    pub max_live_tasks: usize,
    /// Maximum size of the input and metadata of all tasks that have not ended, which are held in memory; further tasks
    /// are refused with 429
    #[arg(long = "max-live-data", value_name = "SIZE", value_parser = memory_size, default_value = "512MiB")]
    pub max_live_bytes: usize,
    // About a third of a second of work for the journal at its usual pace: a longer queue would only make callers wait
    // longer before they are told of the overload.
    /// Maximum number of changes that wait to be written; further ones are refused with 503
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "8192")]
    pub queue_length: usize,
}

/// How long users and their notifications are kept.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "People")]
pub struct PeopleConfig {
    // About 300 bytes of memory each.
    /// Maximum number of known users; a new one is refused with 503
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "100000")]
    pub max_users: usize,
    /// How long a user stays connected after their last stream has closed, so that a page can be reloaded
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub presence_grace: Duration,
    /// How long a user who is away is known; then their notifications and groups are deleted too
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90d")]
    pub user_retention: Duration,
    /// How long a notification waits for its user; older ones are neither delivered nor listed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30d")]
    pub inbox_max_age: Duration,
}

/// What may be uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Uploads")]
pub struct UploadConfig {
    /// Maximum size of one uploaded file
    #[arg(long = "max-upload", value_name = "SIZE", value_parser = size, default_value = "10GiB")]
    pub max_upload_bytes: u64,
    /// Media types that may be uploaded, separated by commas, such as image/*,application/pdf; detected from the content
    /// of the file; any if empty
    #[arg(long = "upload-types", value_name = "TYPE,…", value_parser = media_types, default_value = "")]
    pub types: List,
}

/// How jobs run.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Jobs")]
pub struct JobConfig {
    // Jobs wait for disks and clients far more than they compute, so several times the cores of a small machine; few
    // enough that sixteen files hashed at once still move.
    /// Maximum number of tasks of one kind that the service's own jobs work on at once; further ones wait. Tasks of kind
    /// simulate only sleep and do not count: up to 4096 of them run at once
    #[arg(long = "job-concurrency", value_name = "COUNT", value_parser = count, default_value = "16")]
    pub concurrency: usize,
    /// How long a job may give no sign of life before it loses its task, which is then tried again or fails; at least 1s
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub lease: Duration,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Log")]
pub struct LogConfig {
    /// Which lines are logged: a level (error, warn, info, debug, trace) or directives such as progressd=debug,warn
    #[arg(long = "log", value_name = "FILTER", value_parser = filter, default_value = "info")]
    pub filter: String,
    /// Format of log lines: text for people, json for programs
    #[arg(long = "log-format", value_name = "text|json", value_parser = log_format, default_value = "text")]
    pub format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// A command whose arguments are the settings.
pub(super) fn command() -> Command {
    Config::augment_args(Command::new("settings").no_binary_name(true).disable_help_flag(true))
}

/// The section with all of its defaults.
fn defaults<S: Args>() -> S {
    let command = S::augment_args(Command::new("defaults").no_binary_name(true));
    let none_given: [&str; 0] = [];
    let defaults = command.try_get_matches_from(none_given).and_then(|matches| S::from_arg_matches(&matches));
    defaults.unwrap_or_else(|error| panic!("a default is wrong: {error}"))
}

macro_rules! default_from_flags {
    ($($section:ty),+) => {
        $(impl Default for $section {
            fn default() -> Self {
                defaults()
            }
        })+
    };
}
default_from_flags!(
    Config,
    ConnectionConfig,
    TlsConfig,
    HttpConfig,
    AccessConfig,
    LimitConfig,
    StreamConfig,
    TaskConfig,
    TopicConfig,
    PeopleConfig,
    UploadConfig,
    JobConfig,
    LogConfig
);
