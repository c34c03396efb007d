//! Credentials where none may be: whatever the services of a test run write is searched for them.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Once,
};

/// Shorter ones are made up by the tests, not by the service.
const SECRET_LENGTH_MIN: usize = 20;

/// A token, ticket, API key or value of a session's cookie in this text.
fn find(text: &str) -> Option<&str> {
    let is_long = |part: Option<&str>| part.is_some_and(|part| part.len() >= SECRET_LENGTH_MIN);
    let mut before = "";
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).filter(|word| !word.is_empty()).find(
        |word| {
            let name = std::mem::replace(&mut before, word);
            let is_token =
                word.starts_with("eyJ") && word.matches('.').count() == 2 && is_long(word.rsplit('.').next());
            let is_key = word.starts_with("progressd_") && is_long(word.splitn(3, '_').nth(2));
            is_token || is_key || (name.ends_with("progressd_session") && is_long(Some(word)))
        },
    )
}

/// Fails where a credential is in what was written to `place`.
#[track_caller]
pub(crate) fn search(place: &str, written: &[u8]) {
    let text = String::from_utf8_lossy(written);
    let found = find(&text);
    assert!(found.is_none() || std::thread::panicking(), "a credential is in {place}: {found:?}");
}

/// The same of all files in this folder, as far as they are there.
#[track_caller]
pub(crate) fn search_files(folder: &Path) {
    for path in files(folder) {
        search(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Searches whatever the services in this process log from now on, which goes nowhere else.
pub(crate) fn search_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter("progressd=trace")
            .with_ansi(false)
            .with_writer(|| SearchedLog)
            .init();
    });
}

struct SearchedLog;

impl Write for SearchedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(found) = find(&String::from_utf8_lossy(line)) {
            // A panic here would be caught as that of a request.
            eprintln!("a credential is in the log: {found}");
            std::process::abort();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn credentials_are_found_and_other_words_are_not() {
    let secret = "x".repeat(SECRET_LENGTH_MIN);
    for text in [
        format!("token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.{secret}&x"),
        format!("the key \"progressd_ci_{secret}\""),
        format!("cookie: a=b; progressd_session={secret}; c"),
        format!("__Host-progressd_session={secret}"),
    ] {
        assert!(find(&text).is_some(), "{text}");
    }
    for text in ["eyJ.eyJ.x", "progressd_key_ci", "progressd_events_appended_total 0", "progressd_session=; Max-Age=0"]
    {
        assert_eq!(find(text), None, "{text}");
    }
}
