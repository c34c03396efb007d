//! The settings file: flat TOML, one key per setting, named like the flag. The values are parsed elsewhere, together
//! with those of flags and variables.

use std::ffi::OsString;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::given::{Given, Source};

/// Reads the settings of the file at `path`, which may be those of `flags`; what is wrong is added to `problems`.
pub(super) fn read(path: &Path, flags: &[&str], problems: &mut Vec<String>) -> Vec<Given> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("config: the settings file {} cannot be read: {error}", path.display()));
            return Vec::new();
        }
    };
    parse(path, &text, flags, problems)
}

/// Splits the text of a settings file into settings.
fn parse(path: &Path, text: &str, flags: &[&str], problems: &mut Vec<String>) -> Vec<Given> {
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let source = line_of(path, text, error.span().map_or(0, |span| span.start));
            problems.push(format!("config {source} is wrong: not TOML: {}", error.message()));
            return Vec::new();
        }
    };
    let mut given = Vec::new();
    for (key, value) in table {
        let source = line_of(path, text, key.span().start);
        let flag = key.into_inner().into_owned();
        if !flags.contains(&flag.as_str()) {
            problems.push(format!("{flag} {source} is unknown; {}", nearest(&flag, flags)));
            continue;
        }
        match plain_text(value.get_ref()) {
            Ok(text) => given.push(Given { flag, text: OsString::from(text), source }),
            Err(reason) => problems.push(format!("{flag} {source} is wrong: {reason}")),
        }
    }
    given
}

/// A value as the text that a flag would have had.
fn plain_text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Array(items) => {
            let items: Result<Vec<String>, String> = items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    other => Err(format!("expected a list of strings, found {} in it", other.type_str())),
                })
                .collect();
            Ok(items?.join(","))
        }
        other => Err(format!(
            "expected a string, a whole number, true or false, or a list of strings, found {}",
            other.type_str()
        )),
    }
}

/// A hint at the setting that was probably meant.
fn nearest(name: &str, flags: &[&str]) -> String {
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    match flags.iter().find(|flag| plain(flag) == plain(name)) {
        Some(flag) => format!("it is spelt {flag}"),
        None => "progressd serve --help lists the settings".to_owned(),
    }
}

/// The line of the file that holds the byte at `offset`.
fn line_of(path: &Path, text: &str, offset: usize) -> Source {
    let before = text.get(..offset).unwrap_or(text);
    Source::File { path: path.to_owned(), line: before.matches('\n').count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[&str] = &["lease", "listen", "max-streams", "upload-types"];

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse(Path::new("p.toml"), text, FLAGS, &mut problems);
        problems
    }

    #[test]
    fn values_become_the_text_of_flags() {
        let text = "max-streams = 10\nlisten = '[::1]:80'\nupload-types = ['image/*', 'application/pdf']\n";
        let mut problems = Vec::new();
        let given = parse(Path::new("p.toml"), text, FLAGS, &mut problems);
        let mut found: Vec<String> = given.iter().map(|given| format!("{given:?}")).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "listen (settings file p.toml, line 2) = \"[::1]:80\"",
                "max-streams (settings file p.toml, line 1) = \"10\"",
                "upload-types (settings file p.toml, line 3) = \"image/*,application/pdf\"",
            ]
        );
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(
            problems("\nlisten_on = 1"),
            ["listen_on (settings file p.toml, line 2) is unknown; progressd serve --help lists the settings"]
        );
        assert_eq!(
            problems("max_streams = 1"),
            ["max_streams (settings file p.toml, line 1) is unknown; it is spelt max-streams"]
        );
        assert_eq!(
            problems("[lease]\nx = 1"),
            [
                "lease (settings file p.toml, line 1) is wrong: expected a string, a whole number, true or false, or a list of strings, found table"
            ]
        );
        let [problem] = &problems("lease = '1s'\nlease = '2s'")[..] else { panic!("expected one problem") };
        assert!(problem.starts_with("config (settings file p.toml, line 2) is wrong: not TOML: "), "{problem}");
    }
}
