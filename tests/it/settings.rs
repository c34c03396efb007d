//! Settings as the binary takes them: from flags, the environment and the settings file. Each start here is one that a
//! wrong setting stops, so nothing is left running.

use std::path::Path;
use std::process::{Command, Output};

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
    // The list itself is tested where it is written; here that it reaches the one who asks.
    for text in ["PROGRESSD_CONFIG", "PROGRESSD_LISTEN", "127.0.0.1:8080", "PROGRESSD_DRAIN_TIMEOUT", "10s"] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
}
