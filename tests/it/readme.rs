//! The shell lines of the README, run as they would be pasted, against the real binary.

use std::process::Command;

use crate::support::binary::Binary;

/// The first refusal ends the script, and with it what runs in the background.
const PREAMBLE: &str = "set -euo pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n";
/// Makes refusals and streams that do not end failures.
const CURL_CONFIG: &str = "fail-with-body\nmax-time = 60\nnoproxy = \"*\"\n";

#[test]
fn the_shell_lines_of_the_readme_work_as_they_are() {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("a block"));
    let data = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".curlrc"), CURL_CONFIG).unwrap();
    let service = Binary::start(data.path(), &[]);
    let base = service.base();
    let address = base.strip_prefix("http://").expect("an address");
    let script = PREAMBLE.to_owned() + &blocks.collect::<String>().replace("localhost:8080", address);

    let mut shell = Command::new("bash");
    let shell = shell.args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR")).env("CURL_HOME", home.path());
    let shell = shell.output().expect("bash runs");
    let printed = String::from_utf8(shell.stdout).unwrap();
    assert!(shell.status.success(), "{printed}\n{}", String::from_utf8_lossy(&shell.stderr));
    let ends = printed.lines().filter(|line| line.starts_with("data: ") && line.contains(r#""status":"completed""#));
    assert_eq!(ends.count(), 3, "a report, an upload and a simulation are watched to their end:\n{printed}");
    assert!(printed.contains(r#""message":"20% read, R&D first""#), "{printed}");
    // An answer ends its line, so that the prompt does not stand behind it.
    assert!(printed.lines().any(|line| line.starts_with(r#"{"taskId""#) && line.ends_with('}')), "{printed}");
}
