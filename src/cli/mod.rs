//! The command line of `progressd`. It only parses arguments; what a command does is elsewhere.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    access::Scope,
    config::{DataDirectory, Secret, Settings, StorePlace, secret},
    event::check_name,
};

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
    /// Make, list and revoke the API keys of programs, whether the service runs or not
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write a backup of the data directory, with journal, files and API keys, whether the service runs or not
    Backup {
        /// The tar archive to write; one that is there is replaced once the new one is whole
        file: PathBuf,
        /// What is backed up.
        #[command(flatten)]
        place: DataDirectory,
    },
    /// Move a data directory into an empty PostgreSQL database, which nodes then share; clients go on where they were
    Migrate {
        /// The data directory; no process may use it
        #[arg(long, value_name = "DIRECTORY")]
        from: PathBuf,
        /// URL of the database, as for serve --store; @ and a file name reads it from that file
        #[arg(long, value_name = "URL|@FILE", value_parser = secret)]
        to: Secret,
        /// Copy uploaded files to this directory, which is to be given to nodes with serve --files-dir
        #[arg(long, value_name = "DIRECTORY")]
        files_dir: Option<PathBuf>,
    },
    /// Make a data directory of a backup; watchers that saw more than the backup has are sent a reset
    Restore {
        /// The backup
        file: PathBuf,
        /// Where to, a directory that is new or empty.
        #[command(flatten)]
        place: DataDirectory,
    },
}

/// The commands on API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it: it is stored only as a hash and cannot be shown again
    Create {
        /// What the key is for, such as ci: letters, digits and -_.~@
        #[arg(long, value_parser = name)]
        name: String,
        /// What its holder may do: tasks:submit, tasks:report, tasks:read, tasks:cancel, users:notify, topics:publish or
        /// admin, which is everything; give it once for each
        #[arg(long = "scope", required = true)]
        scopes: Vec<Scope>,
        /// After what time it ends, such as 90d; never if not given
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        /// Where the keys are.
        #[command(flatten)]
        place: StorePlace,
    },
    /// List all keys: scopes, end and last use
    List {
        /// Where the keys are.
        #[command(flatten)]
        place: StorePlace,
    },
    /// Revoke a key: requests with it are refused at once, where nodes share a store within a second, as its open streams end
    Revoke {
        /// The id or the name of the key
        key: String,
        /// Where the keys are.
        #[command(flatten)]
        place: StorePlace,
    },
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}
