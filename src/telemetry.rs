//! Log lines and metrics.
//!
//! The log subscriber belongs to the process; [`Metrics`] is a value that is passed to the code that measures, so that
//! each test has its own. This module lists all metrics; it must not know when they change.

use std::fmt;
use std::io::IsTerminal;
use std::ops::Deref;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Writes log lines to standard error from now on, for the whole process.
///
/// # Errors
///
/// When the filter is not valid, or when the process already has a subscriber.
pub fn init_log(config: &LogConfig) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// The metrics of one service; clones are handles to the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

/// What is measured.
pub struct Instruments {
    /// Tasks in memory by status.
    pub tasks: Family<StatusLabels, Gauge>,
    /// Open connections.
    pub connections_open: Gauge,
    /// Connections that were closed, and streams of HTTP/2 that were reset, because their client timed out; by reason.
    pub connections_timed_out: Family<ReasonLabels, Counter>,
    /// Open streams.
    pub streams_open: Gauge,
    /// Channels with events that this version cannot read.
    pub unreadable_channels: Gauge,
    /// Events made durable.
    pub events_appended: Counter,
    /// Frames handed to streams.
    pub frames_delivered: Counter,
    /// Changes that wait for the writer.
    pub queue_depth: Gauge,
    /// Groups of events that were decided again because another node had been quicker.
    pub conflicts: Counter,
    /// Nodes that share the store and live; zero if it is embedded.
    pub nodes: Gauge,
    /// How long one durable commit took, in seconds.
    pub commit_seconds: Histogram,
    /// Events in one commit.
    pub batch_events: Histogram,
    /// Events that are durable but not yet folded into the tables.
    pub fold_lag_events: Gauge,
    /// From when a report was accepted to when a stream sent its frame, in seconds.
    pub delivery_lag_seconds: Histogram,
    /// Requests that were answered, by route, method and status.
    pub http_requests: Family<RequestLabels, Counter>,
    /// What was refused since a limit was reached, by the setting of the limit.
    pub refused: Family<LimitLabels, Counter>,
    /// Clients that are counted for a limit of requests, by the setting of the limit.
    pub limit_clients: Family<LimitLabels, Gauge>,
    /// Bytes of uploads written to the disk.
    pub upload_bytes: Counter,
    /// Uploaded files that are kept, and being received.
    pub files_kept: Gauge,
    /// Their bytes.
    pub files_kept_bytes: Gauge,
    /// Holds them all for [`Metrics::encode`].
    registry: Registry,
}

/// The label of a metric by task status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabels {
    /// The status as it is on the wire.
    pub status: &'static str,
}

/// The label of a metric by reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// A fixed name of the reason.
    pub reason: &'static str,
}

/// The label of a metric by limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// The setting that sets the limit.
    pub limit: &'static str,
}

/// The labels of a metric of requests. All three must be bounded: never a path that a client chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, such as `/api/tasks/{id}`, or a fixed name if no route matched.
    pub route: String,
    /// The method, or a fixed name for unknown methods.
    pub method: &'static str,
    /// The status of the answer.
    pub status: u16,
}

impl Metrics {
    /// The media type of [`Metrics::encode`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All metrics, at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of tasks with this status.
    pub fn tasks_with(&self, status: &'static str) -> Gauge {
        self.tasks.get_or_create_owned(&StatusLabels { status })
    }

    /// Counts one answered request.
    pub fn count_request(&self, labels: &RequestLabels) {
        self.http_requests.get_or_create(labels).inc();
    }

    /// Counts one connection or stream that was closed for `reason`.
    pub fn count_time_out(&self, reason: &'static str) {
        self.connections_timed_out.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts something that was refused since the limit of this setting was reached.
    pub fn count_refusal(&self, limit: &'static str) {
        self.refused.get_or_create(&LimitLabels { limit }).inc();
    }

    /// The number of clients that are counted for the limit of this setting.
    pub fn limit_clients(&self, limit: &'static str) -> Gauge {
        self.limit_clients.get_or_create_owned(&LimitLabels { limit })
    }

    /// All metrics in OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        if let Err(error) = text::encode(&mut encoded, &self.registry) {
            // Writing into a `String` does not fail, so this is a metric that cannot be encoded.
            tracing::error!(%error, "cannot encode all metrics");
        }
        encoded
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("progressd");
        let mut add = Adder(&mut registry);
        // 0.1 ms to 3.3 s in steps of two: a commit is some milliseconds on a disk, tens of microseconds in memory.
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let instruments = Instruments {
            tasks: add.metric("tasks", "Tasks in memory by status", Family::default()),
            connections_open: add.metric("connections_open", "Open connections", Gauge::default()),
            connections_timed_out: add.metric(
                "connections_timed_out",
                "Connections closed and HTTP/2 streams reset because their client timed out",
                Family::default(),
            ),
            streams_open: add.metric("streams_open", "Open streams", Gauge::default()),
            unreadable_channels: add.metric(
                "unreadable_channels",
                "Channels, such as tasks, that this version cannot read",
                Gauge::default(),
            ),
            events_appended: add.metric("events_appended", "Events made durable", Counter::default()),
            frames_delivered: add.metric("frames_delivered", "Frames handed to streams", Counter::default()),
            queue_depth: add.metric("queue_depth", "Changes that wait for the writer", Gauge::default()),
            conflicts: add.metric(
                "conflicts",
                "Changes decided again since another node was quicker",
                Counter::default(),
            ),
            nodes: add.metric("nodes", "Nodes that share the store and live", Gauge::default()),
            commit_seconds: add.with_unit("commit", "How long one durable commit took", Unit::Seconds, seconds()),
            batch_events: add.metric(
                "batch_events",
                "Events in one commit",
                Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            ),
            fold_lag_events: add.metric("fold_lag_events", "Durable events not yet folded", Gauge::default()),
            delivery_lag_seconds: add.with_unit(
                "delivery_lag",
                "From when a report was accepted to when a stream sent its frame",
                Unit::Seconds,
                seconds(),
            ),
            http_requests: add.metric("http_requests", "Answered requests", Family::default()),
            refused: add.metric(
                "refused",
                "Requests, streams, tasks, files and connections refused since a limit was reached, by its setting",
                Family::default(),
            ),
            limit_clients: add.metric(
                "limit_clients",
                "Addresses and principals that are counted for a limit of requests, by its setting",
                Family::default(),
            ),
            files_kept: add.metric("files_kept", "Uploaded files kept or being received", Gauge::default()),
            files_kept_bytes: add.with_unit("files_kept", "Their bytes", Unit::Bytes, Gauge::default()),
            upload_bytes: add.with_unit("upload", "Bytes of uploads written", Unit::Bytes, Counter::default()),
            registry: Registry::default(),
        };
        Self(Arc::new(Instruments { registry, ..instruments }))
    }
}

impl Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Registers metrics and gives back handles to them.
struct Adder<'a>(&'a mut Registry);

impl Adder<'_> {
    fn metric<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn with_unit<M: Metric + Clone>(&mut self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_their_metrics_and_services_do_not() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.tasks_with("pending").set(3);
        clone.events_appended.inc_by(7);
        clone.commit_seconds.observe(0.003);
        clone.upload_bytes.inc_by(10);
        clone.count_request(&RequestLabels { route: "/api/tasks/{id}".to_owned(), method: "GET", status: 200 });

        let encoded = metrics.encode();
        for line in [
            "progressd_tasks{status=\"pending\"} 3",
            "progressd_events_appended_total 7",
            "progressd_commit_seconds_count 1",
            "progressd_upload_bytes_total 10",
            "progressd_http_requests_total{route=\"/api/tasks/{id}\",method=\"GET\",status=\"200\"} 1",
            "# EOF",
        ] {
            assert!(encoded.lines().any(|found| found == line), "{line} is not in:\n{encoded}");
        }
        assert!(Metrics::new().encode().contains("progressd_events_appended_total 0"));
    }
}
