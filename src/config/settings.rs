//! How flags, environment variables and the settings file become one [`Config`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::check::check;
use super::file;
use super::given::{Given, Source};
use super::sections::{Config, command};

/// The environment variable that names the settings file.
const CONFIG_VARIABLE: &str = "PROGRESSD_CONFIG";

/// The settings that the command line and the environment gave, not yet checked; the arguments of `progressd serve`.
///
/// Their texts are parsed in [`Settings::load`] together with those of the file, so that every wrong setting is
/// reported with its name, its source and what is expected.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: Option<PathBuf>,
    given: Vec<Given>,
}

impl Settings {
    /// Reads the settings file, applies the order of precedence, and checks the result.
    ///
    /// # Errors
    /// All problems at once, each with the setting, its source and what is expected.
    pub fn load(self) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let command = command();
        let flags: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
        let mut given = match &self.file {
            Some(path) => file::read(path, &flags, &mut problems),
            None => Vec::new(),
        };
        // Flags and variables come after the file, so that they win.
        given.extend(self.given);

        let mut winners: HashMap<&str, &Given> = HashMap::new();
        for given in &given {
            if let Err(reason) = parse(&command, [given]) {
                problems.push(format!("{} {} is wrong: {:?}: {reason}", given.flag, given.source, given.text));
            }
            winners.insert(&given.flag, given);
        }
        // Settings are compared only when all of them could be parsed.
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let all = winners.values().copied();
        let mut config = parse(&command, all).map_err(|reason| ConfigError { problems: vec![reason] })?;
        let problems = check(&mut config, &winners);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }
}

/// Parses these settings; all others have their defaults.
fn parse<'a>(command: &Command, given: impl IntoIterator<Item = &'a Given>) -> Result<Config, String> {
    let flag = |given: &Given| {
        let mut argument = OsString::from(format!("--{}=", given.flag));
        argument.push(&given.text);
        argument
    };
    let matches = command.clone().try_get_matches_from(given.into_iter().map(flag));
    matches.and_then(|matches| Config::from_arg_matches(&matches)).map_err(|error| {
        // The source is what the parser of the value said; the rest of the error names a flag that may not be there.
        std::error::Error::source(&error).map_or_else(|| error.kind().to_string(), ToString::to_string)
    })
}

/// Why the service does not start: every problem of its settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One sentence for each problem, with the setting, its source and what is expected.
    pub problems: Vec<String>,
}

/// The environment variable of a setting.
fn variable(flag: &str) -> String {
    format!("PROGRESSD_{}", flag.replace('-', "_").to_uppercase())
}

/// The variables among `names` that look like settings but are not, so probably are misspelt. They deserve only a
/// warning: orchestrators set such variables for a service that is called progressd.
pub fn unknown_variables(names: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let known: Vec<String> = command().get_arguments().filter_map(Arg::get_long).map(variable).collect();
    names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("PROGRESSD_") && name != CONFIG_VARIABLE && !known.contains(name))
        .collect()
}

/// The settings that tell where the data directory is; the arguments of commands beside `serve`.
#[derive(Debug, Clone, Default)]
pub struct DataDirectory(Settings);

impl DataDirectory {
    /// Its path.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn path(self) -> Result<PathBuf, ConfigError> {
        self.0.load().map(|config| config.data_dir)
    }
}

/// The settings that tell where the store is, in a data directory or in a database that nodes share.
#[derive(Debug, Clone, Default)]
pub struct StorePlace(Settings);

impl StorePlace {
    /// The settings.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn load(self) -> Result<Config, ConfigError> {
        self.0.load()
    }
}

/// Some of the arguments of `serve`, for another command.
macro_rules! some_settings {
    ($name:ident: $($flag:literal),+) => {
        impl Args for $name {
            fn augment_args(other: Command) -> Command {
                let is_meant = |setting: &&Arg| matches!(setting.get_long(), Some($($flag)|+));
                let serve = Settings::augment_args(Command::new("serve"));
                other.args(serve.get_arguments().filter(is_meant).cloned())
            }

            fn augment_args_for_update(other: Command) -> Command {
                Self::augment_args(other)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Settings::from_arg_matches(matches).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.update_from_arg_matches(matches)
            }
        }
    };
}

some_settings!(DataDirectory: "config", "data-dir");
some_settings!(StorePlace: "config", "data-dir", "store");

impl Args for Settings {
    fn augment_args(serve: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .env(CONFIG_VARIABLE)
            .hide_env(true)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!("TOML file with one setting per line, such as max-streams = 100 [env: {CONFIG_VARIABLE}]"));
        serve.arg(config).args(command().get_arguments().cloned().map(as_text)).after_help(
            "A DURATION needs a unit, such as 50ms, 30s, 5m or 7d; a SIZE is in bytes or has a unit, such as 4096, \
             16KiB or 10GiB; a RATE is a count and a time, such as 600/1m.\n\nEvery setting is a flag, an environment variable and a key of the settings file. If a \
             setting is given more than once, the flag wins over the variable, and the variable over the file.",
        )
    }

    fn augment_args_for_update(serve: Command) -> Command {
        Self::augment_args(serve)
    }
}

/// The argument of a setting that takes any text, and whose help names the variable and the default.
fn as_text(setting: Arg) -> Arg {
    let help = setting.get_help().map(ToString::to_string).unwrap_or_default();
    let variable = variable(setting.get_long().unwrap_or_default());
    let default = match setting.get_default_values() {
        [default] if !default.is_empty() => default.display().to_string(),
        _ => "none".to_owned(),
    };
    setting
        .default_value(None)
        .hide_default_value(true)
        .value_parser(value_parser!(OsString))
        .help(format!("{help} [env: {variable}] [default: {default}]"))
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        for setting in command().get_arguments() {
            let flag = setting.get_long().unwrap_or_default().to_owned();
            let variable = variable(&flag);
            // A command beside `serve` has few of them as flags.
            let from_flag = matches.try_get_one::<OsString>(setting.get_id().as_str()).ok().flatten().cloned();
            let given = from_flag
                .map(|text| (text, Source::Flag(flag.clone())))
                .or_else(|| Some((std::env::var_os(&variable)?, Source::Variable(variable))));
            self.given.extend(given.map(|(text, source)| Given { flag, text, source }));
        }
        Ok(())
    }
}
