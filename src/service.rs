//! The service: what it is made of, in the order in which it starts and ends. The binary, the tests and the benchmark
//! start this, so that what is tested is what is shipped.
//!
//! It owns the stages of the end; everything else is owned by its parts. Nothing is decided here.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, anyhow};
use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle};

pub use crate::tracker::Clock;
use crate::{
    access::{Access, AccessFiles, AccessPlace, SharedAccess},
    channel::{Registry, StreamLimits},
    config::Config,
    event::HistoryBounds,
    http::{self, App, AppParts},
    jobs::{FilesPlace, Jobs},
    journal::{
        Journal,
        postgres::{Node, PostgresJournal, PostgresOptions},
        sqlite::{SqliteJournal, SqliteOptions},
    },
    limits::Limits,
    presence::Presence,
    server::{self, ServeOptions, Tls},
    shared::{FilesAway, SharedFacts, SharedFiles},
    shutdown::{Shutdown, Signals},
    task::Policy,
    telemetry::Metrics,
    tracker::{Tracker, TrackerOptions},
};

/// A running service.
pub struct Service {
    /// What handlers are given.
    pub app: App,
    /// Everything that is served.
    pub router: Router,
    /// TLS, if it is spoken.
    tls: Option<Tls>,
    /// The stages in which it ends.
    pub shutdown: Shutdown,
}

impl Service {
    /// Starts everything but the sockets.
    ///
    /// # Errors
    /// When the journal cannot be read, or the files of the data directory or of TLS cannot be used.
    pub async fn start(config: Config, journal: Arc<dyn Journal>, clock: Clock) -> anyhow::Result<Self> {
        let (metrics, shutdown) = (Metrics::new(), Shutdown::default());
        let tls = Tls::load(&config.tls, config.connections.max_handshakes)?;
        if let Some(tls) = &tls {
            shutdown.server.spawn(tls.clone().follow_files(shutdown.server.stop()));
        }
        let epochs = journal.epochs().clone();
        let place = files_place(&config, &journal).await?;
        let access = Access::load(&config.access, access_place(&config, &journal)).await?;
        check_exposure(&config, access.is_on())?;
        let registry = Registry::new(epochs, limits(&config));
        let options = TrackerOptions {
            policy: Policy::new(&config.tasks, &config.limits),
            queue_length: config.tasks.queue_length,
            retention: config.tasks.retention,
            people: config.people.clone(),
            topics: config.topics.clone(),
            clock,
        };
        let tracker = Tracker::start(journal, registry, options, metrics.clone(), &shutdown.tracker).await?;
        let jobs = Jobs::start(tracker.clone(), place, &config, http::UPLOAD_WORDS, metrics.clone(), &shutdown.jobs)
            .with_context(|| format!("cannot use the files in {}", config.data_dir.display()))?;
        let presence = Presence::start(tracker.clone(), config.people.presence_grace, &shutdown.jobs);
        // Without them people are asked to come again; whatever else there is to do goes on.
        access.renew_keys().await;
        shutdown.server.spawn(access.clone().run(tracker.facts(), shutdown.server.stop()));
        let draining = shutdown.server.stop();
        let limits = Limits::new(&config.limits, &metrics);
        let config = Arc::new(config);
        let app = Arc::new(AppParts { tracker, presence, jobs, access, limits, config, metrics, draining });
        Ok(Self { router: http::router(app.clone()), app, tls, shutdown })
    }

    /// Answers requests on this socket until the service ends.
    pub fn serve(&self, listener: TcpListener) -> JoinHandle<Option<()>> {
        let Self { app, router, tls, shutdown } = self;
        let options = ServeOptions {
            refuse_head: http::refuse_head,
            limits: app.config.connections.clone(),
            tls: tls.clone(),
            metrics: app.metrics.clone(),
        };
        shutdown.server.spawn(server::serve(listener, router.clone(), options, shutdown.server.stop()))
    }

    /// Ends in order; a further signal ends at once what is left. True means that everything ended by itself.
    pub async fn end(self, signals: &mut Signals) -> bool {
        self.app.tracker.drain();
        self.shutdown.run(self.app.config.drain_timeout, signals).await
    }
}

/// Serves on the journal of the settings until a signal asks it to end. `listening` is told the address once requests are
/// answered.
///
/// # Errors
/// When something that it needs cannot be had: the address, the data directory, the store.
pub async fn run(mut config: Config, listening: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    // The address first: where another process has it, the data is not touched.
    let listener = server::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    config.connections.max_connections = server::fit_open_files(config.connections.max_connections);

    let history = history_bounds(&config);
    if let Some(url) = &config.store {
        let url = std::str::from_utf8(url.reveal()).context("the URL of the store is not text")?;
        let node = Node::enter(&config.data_dir)?;
        let options = PostgresOptions { history, ..PostgresOptions::default() };
        let journal = PostgresJournal::open(url, &options).await?.on(node);
        // It needs no thread: a database that is away is asked again.
        return run_on(config, Arc::new(journal), std::future::pending(), listener, signals, listening).await;
    }
    let options = SqliteOptions { history, ..SqliteOptions::default() };
    let directory = config.data_dir.clone();
    let journal = Arc::new(tokio::task::spawn_blocking(move || SqliteJournal::open(&directory, &options)).await??);
    let ended = journal.ended();
    run_on(config, Arc::<SqliteJournal>::clone(&journal), ended, listener, signals, listening).await
}

async fn run_on(
    config: Config,
    journal: Arc<dyn Journal>,
    journal_ended: impl Future<Output = ()>,
    listener: TcpListener,
    mut signals: Signals,
    listening: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listening socket has no address")?;
    let service = Service::start(config, journal, Clock::system()).await?;
    let accepting = service.serve(listener);
    listening(address);

    // Without one of these the service is none; whoever supervises the process is to start it anew.
    let broken = tokio::select! {
        () = signals.next() => None,
        () = journal_ended => Some("the thread that writes the journal has stopped unexpectedly"),
        () = service.app.tracker.ended() => Some("the journal writer has stopped unexpectedly"),
        _ = accepting => Some("the accept loop has stopped unexpectedly"),
    };
    tracing::info!("stopping: closing streams and finishing running requests and jobs");
    if !service.end(&mut signals).await {
        tracing::warn!("shutdown timed out; remaining work was dropped");
    }
    broken.map_or(Ok(()), |what| Err(anyhow!(what)))
}

/// Refuses to let others in while whoever reaches the address may do everything, unless that is what is wanted.
///
/// # Errors
/// When access is off, and an address or a proxy lets others in.
pub fn check_exposure(config: &Config, is_on: bool) -> anyhow::Result<()> {
    let exposed = if !config.listen.ip().is_loopback() {
        format!("listen {} is beyond loopback", config.listen)
    } else if !config.http.trusted_proxies.is_empty() {
        "trusted-proxies says that a proxy lets others in".to_owned()
    } else {
        return Ok(());
    };
    anyhow::ensure!(
        is_on || config.access.insecure_open,
        "{exposed}, and access is off: whoever reaches it could do everything. Set --jwt-secret or --jwks, make an API \
         key with progressd key create, or give --insecure-open"
    );
    Ok(())
}

/// Where the API keys of these settings are, for commands beside the service.
///
/// # Errors
/// When the store cannot be opened.
pub async fn open_access(config: &Config) -> anyhow::Result<AccessPlace> {
    let Some(url) = &config.store else { return Ok(AccessPlace::Files(AccessFiles::of(&config.data_dir))) };
    let url = std::str::from_utf8(url.reveal()).context("the URL of the store is not text")?;
    // What is kept of histories is for the nodes to say.
    let journal = PostgresJournal::open(url, &PostgresOptions::default()).await?;
    Ok(AccessPlace::Store(SharedAccess::of(SharedFacts::of(Arc::new(journal)))))
}

fn access_place(config: &Config, journal: &Arc<dyn Journal>) -> AccessPlace {
    match &config.store {
        Some(_) => AccessPlace::Store(SharedAccess::of(SharedFacts::of(Arc::clone(journal)))),
        None => AccessPlace::Files(AccessFiles::of(&config.data_dir)),
    }
}

/// Where files are: with all nodes of the store, or in the data directory of the only one.
async fn files_place(config: &Config, journal: &Arc<dyn Journal>) -> anyhow::Result<FilesPlace> {
    let store = journal.epochs().store();
    if config.store.is_none() {
        return Ok(FilesPlace::Own { data_dir: config.data_dir.clone(), store: store.to_string() });
    }
    let Some(directory) = &config.files_dir else {
        tracing::warn!("uploads are refused: {}", FilesAway::NotSet);
        return Ok(FilesPlace::Nowhere);
    };
    let facts = SharedFacts::of(Arc::clone(journal));
    Ok(FilesPlace::Shared(SharedFiles::prove(&facts, store.as_str(), directory).await?))
}

/// How much of the past of a channel is kept.
pub fn history_bounds(config: &Config) -> HistoryBounds {
    HistoryBounds::new(config.streams.history, config.streams.inbox_length, config.topics.topic_history)
        .of_bytes(config.streams.history_bytes as u64)
}

/// However few connections the system allows, some are left for requests that are no streams.
fn limits(config: &Config) -> StreamLimits {
    let (streams, max_connections) = (&config.streams, config.connections.max_connections);
    let for_streams = max_connections.saturating_sub((max_connections / 16).max(1)).max(1);
    StreamLimits {
        history: history_bounds(config),
        tick_interval: streams.tick_interval,
        streams: streams.max_streams.min(for_streams),
        streams_per_channel: streams.max_streams_per_channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_when_nothing_can_be_written_any_more() {
        let data = tempfile::tempdir().unwrap();
        let config = Config { data_dir: data.path().into(), ..Config::default() };
        let journal = Arc::new(SqliteJournal::open(data.path(), &SqliteOptions::default()).unwrap());
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (told, listening) = tokio::sync::oneshot::channel();
        let listened = |address| told.send(address).unwrap();
        let breaks = async {
            listening.await.unwrap();
            journal.break_thread().await;
        };
        let ended = journal.ended();
        let signals = Signals::listen().unwrap();
        let runs = run_on(config, Arc::<SqliteJournal>::clone(&journal), ended, listener, signals, listened);
        let (ended, ()) = tokio::join!(runs, breaks);
        assert!(ended.unwrap_err().to_string().contains("the thread that writes the journal"));
    }
}
