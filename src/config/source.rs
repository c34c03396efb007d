//! Where settings come from: the command line and the environment (through
//! clap), then the settings file; and how the three become one [`Config`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::check::check;
use super::file;
use super::sections::Config;
use super::settings::{SETTINGS, Setting};

/// The environment variable that names the settings file.
const CONFIG_VARIABLE: &str = "PROGRESSD_CONFIG";

/// What the command line and the environment said of the settings, not yet
/// checked; an argument group of `progressd serve`.
///
/// clap only finds the texts. They are read and checked in [`Settings::load`],
/// by the same code as those of the file, so that every wrong setting is reported
/// with its name, its origin and what would be right.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: Option<PathBuf>,
    given: Vec<Given>,
}

impl Settings {
    /// Reads the settings file, joins everything in the order of precedence and
    /// checks the result.
    ///
    /// # Errors
    ///
    /// All problems at once, each naming the setting, its origin and what would be right.
    pub fn load(self) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let mut given = match &self.file {
            Some(path) => file::read(path, &mut problems),
            None => Vec::new(),
        };
        // Flags and variables come after the file, so that the last word is theirs.
        given.extend(self.given);

        let mut config = Config::default();
        let origins: HashMap<&str, &Origin> = given.iter().map(|given| (given.setting.flag, &given.origin)).collect();
        for given in &given {
            let Given { setting, text, origin } = given;
            let result = match text.to_str() {
                Some(text) => (setting.set)(&mut config, text),
                None => Err("it is not valid UTF-8".to_owned()),
            };
            if let Err(reason) = result {
                let text = text.to_string_lossy();
                problems.push(format!("{} {origin} is wrong: {text:?}: {reason}", setting.flag));
            }
        }
        // Values that could not be read would only bring contradictions that are not there.
        if problems.is_empty() {
            problems = check(&mut config, &origins);
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }
}

/// One setting as it was given.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) setting: &'static Setting,
    pub(super) text: OsString,
    pub(super) origin: Origin,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} = {:?}", self.setting.flag, self.origin, self.text)
    }
}

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `--name`
    Flag(&'static str),
    /// The environment variable of that name.
    Variable(&'static str),
    /// A line of the settings file.
    File { path: PathBuf, line: usize },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "(flag --{name})"),
            Self::Variable(name) => write!(f, "(environment variable {name})"),
            Self::File { path, line } => write!(f, "(settings file {}, line {line})", path.display()),
        }
    }
}

/// Why the service does not start: every problem that its settings have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One sentence a problem, each naming the setting, its origin and what would be right.
    pub problems: Vec<String>,
}

/// The variables among `names` that look like settings but are none, and are
/// likely misspelt. They are worth a warning and no more: orchestrators add
/// variables of that look for a service that is called progressd.
pub fn unknown_variables(names: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let is_known = |name: &str| name == CONFIG_VARIABLE || SETTINGS.iter().any(|setting| setting.variable == name);
    names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("PROGRESSD_") && !is_known(name))
        .collect()
}

impl clap::Args for Settings {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .env(CONFIG_VARIABLE)
            .hide_env(true)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!(
                "TOML file of settings, one line each, named like the flags: max-streams = 100 [env: {CONFIG_VARIABLE}]"
            ));
        command.arg(config).args(SETTINGS.iter().map(argument)).after_help(
            "Every setting is a flag, an environment variable and a line of the settings file. Where a setting is \
             given more than once, the flag comes first, then the variable, then the file.",
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<OsString>(setting.flag) {
                let origin = match matches.value_source(setting.flag) {
                    Some(ValueSource::EnvVariable) => Origin::Variable(setting.variable),
                    _ => Origin::Flag(setting.flag),
                };
                self.given.push(Given { setting, text: text.clone(), origin });
            }
        }
        Ok(())
    }
}

/// The flag of a setting, with its help.
fn argument(setting: &'static Setting) -> Arg {
    let default = match (setting.show)(&Config::default()) {
        empty if empty.is_empty() => "none".to_owned(),
        default => default,
    };
    Arg::new(setting.flag)
        .long(setting.flag)
        .env(setting.variable)
        .hide_env(true)
        .value_name(setting.placeholder)
        .value_parser(value_parser!(OsString))
        .action(ArgAction::Set)
        .help_heading(setting.heading)
        .help(format!("{} [env: {}] [default: {default}]", setting.help, setting.variable))
}

/// The origin of a file's line.
pub(super) fn line_of(path: &Path, text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    Origin::File { path: path.to_owned(), line: before.matches('\n').count() + 1 }
}
