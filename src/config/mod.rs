//! The settings of `progressd serve`.
//!
//! Every setting is a flag, an environment variable and a line of the TOML
//! settings file, in this order of precedence; `settings::SETTINGS` lists
//! them all, once. [`Settings`] is what the command line and the environment
//! said, [`Settings::load`] joins it with the file and checks it, and [`Config`]
//! is the checked result that the rest of the service is handed.
//!
//! Nobody owns a `Config` in common: it is built once before anything starts and
//! cloned in parts. This module must not know what the settings are used for.

mod check;
mod file;
mod sections;
mod settings;
mod source;
mod value;

pub use sections::{
    Config, ConnectionConfig, HttpConfig, JobConfig, LogConfig, LogFormat, StreamConfig, TaskConfig, UploadConfig,
};
pub use source::{ConfigError, Settings, unknown_variables};

#[cfg(test)]
mod tests;
