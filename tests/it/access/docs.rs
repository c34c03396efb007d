//! The shell lines of `docs/access.md`, run as they would be pasted, against the real binary.

use std::{path::Path, process::Command};

use super::SECRET;
use crate::support::binary::Binary;

#[test]
fn the_shell_lines_of_the_page_of_access_work_as_they_are() {
    let page = include_str!("../../../docs/access.md");
    let blocks = page.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("a block"));
    let (data, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(home.path().join(".curlrc"), "max-time = 60\nnoproxy = \"*\"\n").unwrap();
    let secret = home.path().join("jwt.secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let service = Binary::start(data.path(), &["--jwt-secret", &format!("@{}", secret.display())]);
    let base = service.base();
    let script = blocks.collect::<String>().replace("localhost:8080", base.strip_prefix("http://").unwrap());

    let folder = Path::new(env!("CARGO_BIN_EXE_progressd")).parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -euo pipefail\n{script}")]).current_dir(home.path());
    shell.env("PATH", path).env("CURL_HOME", home.path()).env("PROGRESSD_DATA_DIR", data.path());
    let shell = shell.output().expect("bash runs");
    let printed = String::from_utf8(shell.stdout).unwrap();
    assert!(shell.status.success(), "{printed}\n{}", String::from_utf8_lossy(&shell.stderr));
    let statuses: Vec<&str> = printed.lines().filter(|line| line.len() == 3).collect();
    assert_eq!(statuses, ["200", "404", "401", "401", "401"], "{printed}");
    let ends = printed.lines().filter(|line| line.starts_with("data: ") && line.contains(r#""status":"completed""#));
    assert_eq!(ends.count(), 1, "{printed}");
    assert!(printed.contains(r#"{"kind":"person","name":"alice""#), "{printed}");
    assert!(printed.contains("tasks:report,tasks:read") && printed.contains("(ci)"), "{printed}");
}

#[test]
fn each_threat_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::fs::read_dir(root.join("tests/it/access")).unwrap().map(|entry| entry.unwrap().path());
    let others = ["tests/it/guard.rs", "tests/it/limits.rs", "tests/it/proxies.rs", "src/access/table.rs"]
        .map(|file| root.join(file));
    let sources: String = folder.chain(others).map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let (_, page) = include_str!("../../../docs/access.md").split_once("## Who attacks what").unwrap();
    let rows: Vec<Vec<&str>> =
        page.lines().filter(|line| line.starts_with('|')).skip(2).map(|row| row.split('|').collect()).collect();
    assert!(rows.len() > 20, "the table is read: {rows:?}");
    for row in rows {
        let names: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row:?}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}()")), "{name}, which is to stop: {}", row[2]);
        }
    }
}
