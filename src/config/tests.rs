//! How flags, variables and the file become one configuration, and what is said
//! of a wrong one.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};

use super::*;

/// Loads what `arguments` say; the environment of the test has no settings.
fn load(arguments: &[&str]) -> Result<Config, ConfigError> {
    let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments).expect("known flags");
    Settings::from_arg_matches(&matches).expect("settings").load()
}

/// Writes a settings file that lasts as long as the returned directory.
fn settings_file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("progressd.toml");
    std::fs::write(&path, text).expect("settings file");
    let path = path.to_str().expect("UTF-8 path").to_owned();
    (directory, path)
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(load(&[]), Ok(Config::default()));
}

#[test]
fn flags_win_over_the_file() {
    let (_directory, path) = settings_file("history = 7\nlease = '20s'\nallowed-hosts = ['a', 'B']\n");
    let config = load(&["--config", &path, "--history", "8"]).expect("valid settings");
    assert_eq!(config.streams.history, 8);
    assert_eq!(config.jobs.lease, Duration::from_secs(20));
    assert_eq!(config.http.allowed_hosts, ["a", "b"]);
}

#[test]
fn all_problems_are_named_at_once() {
    let (_directory, path) = settings_file("retention = 'forever'\nports = 1\n");
    let error = load(&["--config", &path, "--max-body", "lots"]).expect_err("three problems");
    assert_eq!(
        error.to_string().replace(&path, "FILE"),
        "ports (settings file FILE, line 2) is unknown; progressd serve --help lists the settings\n\
         retention (settings file FILE, line 1) is wrong: \"forever\": expected a duration with its unit, such as 50ms, \
         30s, 5m or 7d\n\
         max-body (flag --max-body) is wrong: \"lots\": expected a size, such as 4096, 16KiB, 1MiB or 10GiB"
    );
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let error = load(&["--config", "/nowhere/progressd.toml"]).expect_err("no such file");
    assert!(
        error.to_string().starts_with("config: the settings file /nowhere/progressd.toml cannot be read: "),
        "{error}"
    );
}

#[test]
fn contradictions_name_both_settings_and_their_origins() {
    let error = load(&["--max-streams", "20000"]).expect_err("more streams than connections");
    assert_eq!(
        error.to_string(),
        "max-streams (flag --max-streams) = 20000 is wrong: it must be below max-connections (default) = 16384, so \
         that requests still get through"
    );
    for wrong in [
        &["--max-connections", "1"][..],
        &["--max-streams", "10", "--max-streams-per-channel", "11"],
        &["--tick-interval", "20s"],
        &["--max-header", "1KiB"],
        &["--lease", "999ms"],
    ] {
        assert!(load(wrong).is_err(), "{wrong:?} was accepted");
    }
}

#[test]
fn bounds_that_are_not_given_follow_those_that_are() {
    let config = load(&["--max-connections", "160"]).expect("valid settings");
    assert_eq!(config.streams.max_streams, 150);
    assert_eq!(config.streams.max_streams_per_channel, 150);
}

#[test]
fn the_help_names_every_setting_with_variable_and_default() {
    let mut serve = Settings::augment_args(Command::new("serve")).term_width(1000);
    let help = serve.render_long_help().to_string();
    let settings = sections::command();
    assert!(settings.get_arguments().count() > 20);
    for setting in settings.get_arguments() {
        let flag = setting.get_long().expect("a flag");
        let placeholder = format!("<{}>", setting.get_value_names().expect("a placeholder")[0]);
        let is_optional = setting.get_num_args().is_some_and(|count| count.min_values() == 0);
        let flag_line =
            if is_optional { format!("--{flag} [{placeholder}]") } else { format!("--{flag} {placeholder}") };
        let variable = format!("[env: PROGRESSD_{}] [default: ", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&flag_line), "{flag_line} is not in the help:\n{help}");
        assert!(help.contains(&variable), "{variable} is not in the help:\n{help}");
    }
}

#[test]
fn variables_that_are_no_settings_are_found() {
    let names = ["PROGRESSD_LISTEN", "PROGRESSD_CONFIG", "PROGRESSD_LISTN", "PATH"].map(OsString::from);
    assert_eq!(unknown_variables(names), ["PROGRESSD_LISTN"]);
}
