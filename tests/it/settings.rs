//! Settings as the binary takes them: from flags, the environment and the settings file. Each start here is one that a
//! wrong setting stops, so nothing is left running.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use progressd::cli::Cli;

use crate::support::golden;

/// Starts the service in `directory` with these variables and flags, and no others of ours.
fn start(directory: &Path, variables: &[(&str, &str)], flags: &[&str]) -> Output {
    let inherited = std::env::vars_os().map(|(name, _)| name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("PROGRESSD_")) {
        command.env_remove(name);
    }
    let command = command.current_dir(directory).arg("serve").args(flags);
    command.envs(variables.iter().copied()).output().expect("the binary runs")
}

#[test]
fn an_address_beyond_loopback_without_host_names_is_warned_of() {
    let directory = tempfile::tempdir().expect("a directory");
    // An address reserved for documentation (RFC 5737): the service warns, then cannot listen on it.
    let said = |flags: &[&str]| {
        let output = start(directory.path(), &[], &[&["--listen", "192.0.2.1:80"], flags].concat());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    };
    let warning = "set --allowed-hosts to the names that clients use";
    let (without, with) = (said(&[]), said(&["--allowed-hosts", "progress.example"]));
    assert!(without.contains(warning), "{without}");
    assert!(!with.contains(warning), "{with}");
}

/// What the service says when these settings stop it.
fn complaint(variables: &[(&str, &str)], flags: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    // More streams than connections: whichever origin wins is named in the complaint.
    std::fs::write(directory.path().join("progressd.toml"), "max-streams = 30000\n").expect("a file");
    let output = start(directory.path(), variables, flags);
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "started: {complaint}");
    assert!(!directory.path().join("data").exists(), "the data directory was made before the settings were checked");
    complaint
}

#[test]
fn a_flag_comes_before_a_variable_and_a_variable_before_the_file() {
    let file = ("PROGRESSD_CONFIG", "progressd.toml");
    let variable = ("PROGRESSD_MAX_STREAMS", "40000");
    let said = complaint(&[file], &[]);
    assert!(said.contains("max-streams (settings file progressd.toml, line 1) = 30000 is wrong"), "{said}");
    let said = complaint(&[file, variable], &[]);
    assert!(said.contains("max-streams (environment variable PROGRESSD_MAX_STREAMS) = 40000 is wrong"), "{said}");
    let said = complaint(&[file, variable], &["--max-streams", "50000"]);
    assert!(said.contains("max-streams (flag --max-streams) = 50000 is wrong"), "{said}");
}

#[test]
fn a_wrong_variable_is_named() {
    let said = complaint(&[("PROGRESSD_LEASE", "soon")], &[]);
    assert!(
        said.contains("lease (environment variable PROGRESSD_LEASE) is wrong: \"soon\": expected a duration"),
        "{said}"
    );
}

#[test]
fn the_help_explains_the_settings() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = start(directory.path(), &[], &["--help"]);
    let help = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success());
    // The list itself is tested in src/config/tests.rs; here that the binary prints it.
    for text in ["PROGRESSD_CONFIG", "PROGRESSD_LISTEN", "127.0.0.1:8080", "PROGRESSD_DRAIN_TIMEOUT", "10s"] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
}

#[test]
fn the_page_of_settings_is_current() {
    golden("docs/settings.md", settings_page().as_bytes());
}

/// `docs/settings.md`, from the same arguments as `progressd serve --help`.
fn settings_page() -> String {
    let progressd = Cli::command();
    let serve = progressd.find_subcommand("serve").expect("a command");
    let units_and_precedence = serve.get_after_help().expect("a text");
    let mut page = format!(
        "# Settings\n\nThe settings of `progressd serve`. This page is generated from the code: see \
         [CONTRIBUTING.md](../CONTRIBUTING.md).\n\n{units_and_precedence} `--config`, or the variable \
         `PROGRESSD_CONFIG`, names the settings file, which is TOML:\n\n```toml\nlisten = \"127.0.0.1:8080\"\n\
         max-streams = 100\nupload-types = [\"image/*\", \"application/pdf\"]\n```\n"
    );
    let mut section = "";
    for setting in serve.get_arguments() {
        let Some(heading) = setting.get_help_heading() else { continue };
        if heading != section {
            section = heading;
            let columns = "| flag | variable | file key | value | default | meaning |\n|---|---|---|---|---|---|";
            writeln!(page, "\n## {heading}\n\n{columns}").expect("a string takes it");
        }
        let flag = setting.get_long().expect("a flag");
        let value = setting.get_value_names().expect("a placeholder")[0].replace('|', "\\|");
        let help = setting.get_help().expect("a text").to_string();
        let (meaning, origin) = help.split_once(" [env: ").expect("its variable");
        let (variable, default) = origin.trim_end_matches(']').split_once("] [default: ").expect("its default");
        let default = if default == "none" { default.to_owned() } else { format!("`{default}`") };
        writeln!(page, "| `--{flag}` | `{variable}` | `{flag}` | {value} | {default} | {meaning} |")
            .expect("a string takes it");
    }
    page
}
