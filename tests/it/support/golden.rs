//! Golden files: what is written today is what was written before.

use std::{fs, path::Path};

use super::Events;

/// The golden text of a file of the repository, which must be what is written now. `UPDATE_FIXTURES=1` writes it
/// anew, for a change that is meant.
pub(crate) fn golden(name: &str, written: &[u8]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let written = std::str::from_utf8(written).expect("UTF-8");
    assert!(
        written == golden,
        "{name} differs from what is written now. If the change is meant, accept it with \
         UPDATE_FIXTURES=1 and commit the file.\n{}",
        difference(&golden, written)
    );
    golden
}

/// Golden bytes of a stream, in which the epoch, times and random ids are always the same.
pub(crate) fn golden_stream(name: &str, events: &Events) {
    let steady = events.text().split('"').map(|part| match part {
        time if time.len() == 24 && time.starts_with("20") && time.ends_with('Z') => "2026-01-31T08:15:00.042Z",
        id if id.parse::<uuid::Uuid>().is_ok() => "0199c0de-0000-7000-8000-000000000001",
        other => other,
    });
    let steady = steady.collect::<Vec<_>>().join("\"");
    let ids = steady.split('\n').map(|line| match line.strip_prefix("id: ").and_then(|id| id.split_once('-')) {
        Some((_, seq)) => format!("id: k3f90000-{seq}"),
        None => line.to_owned(),
    });
    golden(&format!("tests/fixtures/streams/{name}"), ids.collect::<Vec<_>>().join("\n").as_bytes());
}

/// The lines between the first and the last difference: `-` in the file, `+` written now.
fn difference(golden: &str, written: &str) -> String {
    let (before, now): (Vec<_>, Vec<_>) = (golden.lines().collect(), written.lines().collect());
    let same_start = before.iter().zip(&now).take_while(|(a, b)| a == b).count();
    let (before, now) = (&before[same_start..], &now[same_start..]);
    let same_end = before.iter().rev().zip(now.iter().rev()).take_while(|(a, b)| a == b).count();
    let removed = before[..before.len() - same_end].iter().map(|line| format!("-{line}\n"));
    let added = now[..now.len() - same_end].iter().map(|line| format!("+{line}\n"));
    format!("from line {}:\n{}", same_start + 1, removed.chain(added).collect::<String>())
}
