//! Start and end of the whole service, in written order.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, anyhow};

use super::{bind, fit_open_files, serve};
use crate::{
    channel::{Limits, Registry},
    config::{Config, ConnectionConfig, StreamConfig},
    http::{self, App, AppParts},
    jobs::Jobs,
    journal::{
        Journal,
        sqlite::{SqliteJournal, SqliteOptions},
    },
    presence::Presence,
    shutdown::{Shutdown, Signals},
    task::Policy,
    telemetry::Metrics,
    tracker::{Clock, Options, Tracker},
};

/// Serves until a signal asks it to end. `listening` is told the address once requests are answered.
///
/// # Errors
/// When something that it needs cannot be had: the address, the data directory, the store.
pub async fn run(config: Config, listening: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let config = Arc::new(config);
    let metrics = Metrics::new();
    let shutdown = Shutdown::default();

    // The address first: where another process has it, the data is not touched.
    let listener = bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr().context("the listening socket has no address")?;
    let connections = ConnectionConfig {
        max_connections: fit_open_files(config.connections.max_connections),
        ..config.connections.clone()
    };

    let options = SqliteOptions { history: config.streams.history, ..SqliteOptions::default() };
    let directory = config.data_dir.clone();
    let journal = tokio::task::spawn_blocking(move || SqliteJournal::open(&directory, &options)).await??;
    let store = journal.epoch();
    let registry = Registry::new(store, limits(&config.streams, connections.max_connections));
    let policy = Policy { stalled_after: config.tasks.stalled_after };
    let options = Options {
        policy,
        queue_length: config.tasks.queue_length,
        retention: config.tasks.retention,
        clock: Clock::system(),
    };
    let tracker =
        Tracker::start(Arc::new(journal), registry.clone(), options, metrics.clone(), &shutdown.tracker).await?;
    let jobs = Jobs::start(tracker.clone(), store.as_str(), &config, metrics.clone(), &shutdown.jobs)
        .with_context(|| format!("cannot use the files in {}", config.data_dir.display()))?;
    let presence = Presence::start(tracker.clone(), &shutdown.jobs).await?;

    let draining = shutdown.server.stop();
    let writer = tracker.clone();
    let parts = AppParts { tracker, presence, jobs, config: Arc::clone(&config), metrics: metrics.clone(), draining };
    let app = http::router(App::from(parts));
    let accepting = shutdown.server.spawn(serve(listener, app, connections, shutdown.server.stop(), metrics));
    listening(address);

    // Without one of these the service is none; whoever supervises the process is to start it anew.
    let broken = tokio::select! {
        () = signals.next() => None,
        () = writer.ended() => Some("the writer of the task table has broken down"),
        _ = accepting => Some("the accept loop has broken down"),
    };
    tracing::info!("ending: streams are told to come back, what is under way is finished");
    registry.drain();
    if !shutdown.run(config.drain_timeout, &mut signals).await {
        tracing::warn!("not everything ended by itself in time");
    }
    broken.map_or(Ok(()), |what| Err(anyhow!(what)))
}

/// However few connections the system allows, some are left for requests that are no streams.
fn limits(streams: &StreamConfig, max_connections: usize) -> Limits {
    Limits {
        history: streams.history,
        tick_interval: streams.tick_interval,
        streams: streams.max_streams.min((max_connections - max_connections / 16).saturating_sub(1).max(1)),
        streams_per_channel: streams.max_streams_per_channel,
    }
}
