//! The command line of `progressd`. It only parses arguments; what a command does is elsewhere.

use clap::{Parser, Subcommand};

use crate::config::Settings;

/// Every slow task gets a URL that streams its progress.
#[derive(Debug, Parser)]
#[command(name = "progressd", version, propagate_version = true)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `progressd`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, the streams and the page
    Serve(Settings),
}
