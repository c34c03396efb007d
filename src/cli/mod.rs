//! The command line of `progressd`. It only takes arguments apart; what a command
//! does is elsewhere.

use clap::{Parser, Subcommand};

use crate::config::Settings;

/// Every slow task gets a URL that streams its progress.
#[derive(Debug, Parser)]
#[command(name = "progressd", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `progressd` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, the streams and the page
    Serve(Settings),
}
