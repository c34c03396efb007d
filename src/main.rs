//! The `progressd` binary: parses the command line and runs the command.

use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use progressd::{
    access::{Access, KeyRecord},
    backup::{back_up, restore},
    cli::{Cli, Command, KeyCommand},
    config::{Secret, unknown_variables},
    event::Timestamp,
    migrate::migrate,
    service, telemetry,
};

/// How often a move says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(settings) => serve(settings),
        Command::Key(command) => block_on(keys(command)),
        Command::Backup { file, place } => place.path().map_err(Into::into).and_then(|path| back_up(&path, &file)),
        Command::Migrate { from, to, files_dir } => move_store(&from, &to, files_dir.as_deref()),
        Command::Restore { file, place } => place.path().map_err(Into::into).and_then(|path| restore(&file, &path)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("progressd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: progressd::config::Settings) -> anyhow::Result<()> {
    let config = settings.load()?;
    telemetry::init_log(&config.log)?;
    for variable in unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(variable, "unknown environment variable: no setting has this name");
    }
    if !config.listen.ip().is_loopback() && config.http.allowed_hosts.is_empty() {
        tracing::warn!(
            address = %config.listen,
            "only requests to loopback names will be answered: set --allowed-hosts to the names that clients use"
        );
    }
    if config.store.is_none() {
        // Before anything is opened. Of a store that nodes share it is known once it is.
        let is_on = Access::is_set_up(&config.access, &config.data_dir)?;
        service::check_exposure(&config, is_on)?;
        let is_exposed = !config.listen.ip().is_loopback() || !config.http.trusted_proxies.is_empty();
        if !is_on && is_exposed {
            tracing::warn!(address = %config.listen, "access is off: whoever reaches this address may do everything");
        }
    }
    let scheme = if config.tls.cert.is_some() { "https" } else { "http" };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(service::run(config, |address| {
        // The parent process may have closed standard output; the service runs on.
        let _closed = writeln!(std::io::stdout(), "listening on {scheme}://{address}");
    }))
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn move_store(from: &Path, to: &Secret, files_dir: Option<&Path>) -> anyhow::Result<()> {
    let url = std::str::from_utf8(to.reveal()).context("the URL of the store is not text")?;
    let mut last = (String::new(), Instant::now());
    let mut told = |what: &'static str, count: u64| {
        if last.0 != what || last.1.elapsed() >= PROGRESS_INTERVAL {
            eprintln!("{count} {what}");
            last = (what.to_owned(), Instant::now());
        }
    };
    let done = block_on(migrate(from, url, files_dir, &mut told))?;
    write!(std::io::stdout(), "{done}")?;
    Ok(())
}

async fn keys(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { name, scopes, expires, place } => {
            let key = service::open_access(&place.load()?).await?.create(&name, &scopes, expires).await?;
            writeln!(std::io::stdout(), "{key}")?;
        }
        KeyCommand::List { place } => {
            let place = service::open_access(&place.load()?).await?;
            let last_uses = place.last_uses().await?;
            let mut table = String::from("id\tname\tscopes\tcreated\texpires\trevoked\tlast used\n");
            for key in place.keys().await? {
                let scopes = key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
                let at = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| time.to_string());
                let [ends, revoked, used] = [key.expires_at, key.revoked_at, last_uses.get(&key.id).copied()].map(at);
                let KeyRecord { id, name, created_at, .. } = key;
                table += &format!("{id}\t{name}\t{scopes}\t{created_at}\t{ends}\t{revoked}\t{used}\n");
            }
            write!(std::io::stdout(), "{table}")?;
        }
        KeyCommand::Revoke { key, place } => {
            let revoked = service::open_access(&place.load()?).await?.revoke(&key).await?;
            writeln!(std::io::stdout(), "revoked {} ({})", revoked.id, revoked.name)?;
        }
    }
    Ok(())
}
