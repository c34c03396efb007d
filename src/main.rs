//! The `progressd` binary: takes the command line apart and hands over.

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
        tracing::warn!(variable, "this environment variable names no setting");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(service::run(config, |address| {
        // Whoever started the service may have closed its standard output; that is no reason to end.
        let _closed = writeln!(std::io::stdout(), "listening on http://{address}");
    }))
}
