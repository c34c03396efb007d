//! The `progressd` binary: parses the command line and runs the command.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use progressd::{
    cli::{Cli, Command},
    config::unknown_variables,
    service, telemetry,
};

fn main() -> ExitCode {
    let Command::Serve(settings) = Cli::parse().command;
    match serve(settings) {
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(service::run(config, |address| {
        // The parent process may have closed standard output; the service runs on.
        let _closed = writeln!(std::io::stdout(), "listening on http://{address}");
    }))
}
