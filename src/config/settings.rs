//! The list of all settings: their names, their help, and where they go in
//! [`Config`]. Adding a setting means a field in `sections.rs` and a row here.

use super::sections::Config;
use super::value::{Address, Count, Directory, Filter, Format, Hosts, Kind, MediaTypes, Memory, Origins, Size, Time};

/// One setting, whatever its type.
pub(super) struct Setting {
    /// Its flag without the dashes; also its key in the settings file.
    pub(super) flag: &'static str,
    /// Its environment variable.
    pub(super) variable: &'static str,
    /// The heading under which the help lists it.
    pub(super) heading: &'static str,
    /// What stands for its value in the help.
    pub(super) placeholder: &'static str,
    /// What it is for, with its unit.
    pub(super) help: &'static str,
    /// Reads its text into its field; the error says what would be right.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// Its value as text that `set` reads back.
    pub(super) show: fn(&Config) -> String,
}

/// Writes one row: heading, flag, variable, kind of value, field, help.
macro_rules! setting {
    ($heading:ident, $flag:literal, $variable:literal, $kind:ident, $($field:ident).+, $help:literal) => {
        Setting {
            flag: $flag,
            variable: $variable,
            heading: $heading,
            placeholder: $kind::PLACEHOLDER,
            help: $help,
            set: |config, text| {
                config.$($field).+ = $kind::parse(text)?;
                Ok(())
            },
            show: |config| $kind::show(&config.$($field).+),
        }
    };
}

const SERVICE: &str = "Service";
const CONNECTIONS: &str = "Connections";
const REQUESTS: &str = "Requests";
const STREAMS: &str = "Streams";
const TASKS: &str = "Tasks";
const UPLOADS: &str = "Uploads";
const JOBS: &str = "Jobs";
const LOG: &str = "Log";

/// Every setting, in the order of the help.
#[rustfmt::skip]
pub(super) static SETTINGS: &[Setting] = &[
    setting!(SERVICE, "listen", "PROGRESSD_LISTEN", Address, listen,
        "Address and port to listen on; port 0 takes a free one"),
    setting!(SERVICE, "data-dir", "PROGRESSD_DATA_DIR", Directory, data_dir,
        "Directory of the journal and of uploaded files; made when it is not there"),
    setting!(SERVICE, "drain-timeout", "PROGRESSD_DRAIN_TIMEOUT", Time, drain_timeout,
        "After SIGTERM, how long open requests may take to end before they are cut"),

    setting!(CONNECTIONS, "max-connections", "PROGRESSD_MAX_CONNECTIONS", Count, connections.max_connections,
        "Connections at once; more wait unaccepted until one ends"),
    setting!(CONNECTIONS, "first-byte-timeout", "PROGRESSD_FIRST_BYTE_TIMEOUT", Time, connections.first_byte_timeout,
        "How long a new connection may stay silent before it is closed"),
    setting!(CONNECTIONS, "header-timeout", "PROGRESSD_HEADER_TIMEOUT", Time, connections.header_timeout,
        "How long the head of a request may take from its first byte to its last"),
    setting!(CONNECTIONS, "body-timeout", "PROGRESSD_BODY_TIMEOUT", Time, connections.body_timeout,
        "How long a client may be silent inside the body of its request"),
    setting!(CONNECTIONS, "idle-timeout", "PROGRESSD_IDLE_TIMEOUT", Time, connections.idle_timeout,
        "How long a connection is kept open between two requests"),
    setting!(CONNECTIONS, "write-timeout", "PROGRESSD_WRITE_TIMEOUT", Time, connections.write_timeout,
        "How long a client may take nothing of what is ready for it before it is cut off"),
    setting!(CONNECTIONS, "max-header", "PROGRESSD_MAX_HEADER", Memory, connections.max_header_bytes,
        "Size of a request's head, in bytes or with a unit; at least 8KiB"),

    setting!(REQUESTS, "allowed-hosts", "PROGRESSD_ALLOWED_HOSTS", Hosts, http.allowed_hosts,
        "Host names under which the service may be reached besides loopback, separated by commas; a name without a port allows every port"),
    setting!(REQUESTS, "allowed-origins", "PROGRESSD_ALLOWED_ORIGINS", Origins, http.allowed_origins,
        "Origins of other sites whose pages may make requests, separated by commas, such as https://app.example"),
    setting!(REQUESTS, "max-body", "PROGRESSD_MAX_BODY", Memory, http.max_body_bytes,
        "Size of a request's body, in bytes or with a unit; uploads have their own bound"),

    setting!(STREAMS, "max-streams", "PROGRESSD_MAX_STREAMS", Count, streams.max_streams,
        "Streams at once; must be below max-connections, and where it is not set it is 15/16 of it"),
    setting!(STREAMS, "max-streams-per-channel", "PROGRESSD_MAX_STREAMS_PER_CHANNEL", Count, streams.max_streams_per_channel,
        "Streams at once on one channel; at most max-streams, and where it is not set it is the same"),
    setting!(STREAMS, "tick-interval", "PROGRESSD_TICK_INTERVAL", Time, streams.tick_interval,
        "Least time between two ticks of one task on one stream; the ticks between are merged into the latest"),
    setting!(STREAMS, "keep-alive", "PROGRESSD_KEEP_ALIVE", Time, streams.keep_alive,
        "How long a stream may be quiet before a comment line is sent"),
    setting!(STREAMS, "history", "PROGRESSD_HISTORY", Count, streams.history,
        "Events other than ticks kept per channel, from which a returning watcher resumes"),

    setting!(TASKS, "stalled-after", "PROGRESSD_STALLED_AFTER", Time, tasks.stalled_after,
        "How long a processing task may be silent before it is marked as stalled"),
    setting!(TASKS, "retention", "PROGRESSD_RETENTION", Time, tasks.retention,
        "How long a finished task is kept, counted from its finish"),
    setting!(TASKS, "queue-length", "PROGRESSD_QUEUE_LENGTH", Count, tasks.queue_length,
        "Changes that may wait to be written; more are refused as overload"),

    setting!(UPLOADS, "max-upload", "PROGRESSD_MAX_UPLOAD", Size, uploads.max_upload_bytes,
        "Size of one uploaded file, in bytes or with a unit"),
    setting!(UPLOADS, "upload-types", "PROGRESSD_UPLOAD_TYPES", MediaTypes, uploads.types,
        "Media types that may be uploaded, as found in the file's own bytes, separated by commas, such as image/*,application/pdf; empty allows any"),

    setting!(JOBS, "job-concurrency", "PROGRESSD_JOB_CONCURRENCY", Count, jobs.concurrency,
        "Jobs that run at once; more wait as pending"),
    setting!(JOBS, "lease", "PROGRESSD_LEASE", Time, jobs.lease,
        "How long a job that is not heard of keeps its task before the task is tried again or fails; at least 1s"),

    setting!(LOG, "log", "PROGRESSD_LOG", Filter, log.filter,
        "Which lines are logged: a level (error, warn, info, debug, trace) or directives such as progressd=debug,warn"),
    setting!(LOG, "log-format", "PROGRESSD_LOG_FORMAT", Format, log.format,
        "How a log line looks: text for people, json for machines"),
];

/// The setting of that name, if there is one.
pub(super) fn find(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_flag_and_variable_agree() {
        for setting in SETTINGS {
            let expected = format!("PROGRESSD_{}", setting.flag.replace('-', "_").to_uppercase());
            assert_eq!(setting.variable, expected);
            assert_eq!(
                SETTINGS.iter().filter(|other| other.flag == setting.flag).count(),
                1,
                "{} is listed twice",
                setting.flag
            );
        }
    }

    #[test]
    fn every_default_reads_back_as_itself() {
        for setting in SETTINGS {
            let mut config = Config::default();
            let text = (setting.show)(&config);
            assert_eq!((setting.set)(&mut config, &text), Ok(()), "{}", setting.flag);
            assert_eq!(config, Config::default(), "{} = {text}", setting.flag);
        }
    }
}
