//! The settings of `progressd serve`.
//!
//! Every setting is a field in `sections.rs`, with its flag, default and help; its environment variable and its key in
//! the TOML settings file are named after the flag. [`Settings`] holds what the command line and the environment gave,
//! [`Settings::load`] adds the file and checks everything, and [`Config`] is the result that the service is started
//! with.
//!
//! A `Config` has no owner: it is built once before anything starts, and its parts are cloned. This module must not
//! know what the settings are used for.

mod check;
mod file;
mod given;
mod sections;
mod settings;
mod value;

pub use sections::{
    AccessConfig, Config, ConnectionConfig, HttpConfig, JobConfig, LimitConfig, LogConfig, LogFormat, PeopleConfig,
    StreamConfig, TaskConfig, TlsConfig, TopicConfig, UploadConfig,
};
pub use settings::{ConfigError, DataDirectory, Settings, StorePlace, unknown_variables};
pub use value::{KeySource, Rate, Secret, secret};

#[cfg(test)]
mod tests;
