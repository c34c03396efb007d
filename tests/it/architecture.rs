//! The map holds: no module uses one that it must not know.
//!
//! The table is the one of `ARCHITECTURE.md`. Modules that are there for tests only are exempt.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What any module may use.
const FOR_ALL: &[&str] = &["config", "telemetry", "shutdown"];

/// Which modules a module may use, module by module from the bottom to the top.
type Arrows = Vec<(String, Vec<String>)>;

/// The table under "Who may use whom" in `ARCHITECTURE.md`.
fn arrows() -> Arrows {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("the map");
    let (_, below) = page.split_once("| module | may use |").expect("the table");
    let rows = below.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names =
        |cell: &str| cell.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    let read = |row: &str| {
        let [modules, allowed] = [1, 2].map(|column| row.split('|').nth(column).expect("two columns"));
        let (modules, allowed): (Vec<String>, Vec<String>) = (names(modules), names(allowed));
        modules.into_iter().map(move |module| (module, allowed.clone())).collect::<Arrows>()
    };
    rows.flat_map(read).collect()
}

#[test]
fn no_arrow_points_the_wrong_way() {
    let arrows = arrows();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut uses = 0;
    for file in source_files(&root) {
        let within = file.strip_prefix(&root).expect("below the root");
        let first = within.iter().next().expect("a path has a component");
        let module = Path::new(first).file_stem().and_then(|stem| stem.to_str()).expect("UTF-8");
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a readable file");
        let used = used_modules(&source);
        uses += used.len();
        wrong.extend(
            wrong_arrows(&arrows, module, &used).into_iter().map(|arrow| format!("{}: {arrow}", within.display())),
        );
    }
    assert!(wrong.is_empty(), "arrows that point the wrong way:\n{}", wrong.join("\n"));
    assert!(uses > 20, "hardly any use was found: is it still the right place to look?");
}

#[test]
fn the_files_that_the_map_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the map");
    let named: Vec<&str> =
        page.split('`').filter(|name| name.contains('/') && name.ends_with(".rs") && !name.contains(' ')).collect();
    let missing = |name: &&&str| !root.join(name).exists() && !root.join("src").join(name).exists();
    assert_eq!(named.iter().find(missing), None);
    assert!(named.len() > 20, "hardly any file is named: is it still the right way to look?");
}

/// The source files that are not there for tests only.
pub(crate) fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    let only_for_tests: Vec<String> = entries
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|path| test_modules(&fs::read_to_string(path).expect("a readable file")))
        .collect();
    let is_for_tests = |path: &PathBuf| {
        path.file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| only_for_tests.iter().any(|name| name == stem))
    };
    let mut files = Vec::new();
    for path in entries.into_iter().filter(|path| !is_for_tests(path)) {
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The names of the modules that a source declares for tests only, in files of their own.
fn test_modules(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    declared.filter_map(|pair| Some(pair[1].strip_prefix("mod ")?.strip_suffix(';')?.to_owned())).collect()
}

/// The modules that a source reaches by a `crate::` path, outside comments and modules for tests.
fn used_modules(source: &str) -> Vec<String> {
    let code = code_only(source);
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let path = &code[at + "crate::".len()..];
        match path.trim_start().strip_prefix('{') {
            Some(group) => used.extend(names_of_group(group)),
            None => used.push(name_at(path)),
        }
    }
    used.sort();
    used.dedup();
    used
}

/// Without comments, and without what follows `#[cfg(test)] mod … {` up to its closing brace.
pub(crate) fn code_only(source: &str) -> String {
    let mut code = String::new();
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = |next: &&str| next.trim_start().starts_with("mod ") && next.trim_end().ends_with('{');
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(opens_tests) {
            let indent = line.len() - line.trim_start().len();
            let closing = format!("{}}}", " ".repeat(indent));
            lines.by_ref().find(|line| *line == closing);
            continue;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The first names in `{a::{b, c}, d}`, whose opening brace is read already.
fn names_of_group(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(name_at(&group[start..at]));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name_at(path: &str) -> String {
    path.trim_start().chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}

/// What a module must not use, of what it uses.
fn wrong_arrows(arrows: &Arrows, module: &str, used: &[String]) -> Vec<String> {
    let of_module = arrows.iter().find(|(name, _)| name == module).map(|(_, allowed)| allowed.as_slice());
    let Some(allowed) = of_module.or(FOR_ALL.contains(&module).then_some(&[])) else {
        return vec![format!("{module} has no place in the table")];
    };
    let is_allowed =
        |name: &str| name == module || allowed.iter().any(|allowed| allowed == name) || FOR_ALL.contains(&name);
    used.iter().filter(|name| !is_allowed(name)).map(|name| format!("{module} → {name}")).collect()
}

const SAMPLE: &str = "
//! Not for [`crate::http`].
use crate::{
    event::{Event, Seq},
    journal::{Group, mine::{A, B}}, wire,
};
fn sample() {
    crate::tracker::start(); // crate::stream
}
#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests {
    use crate::server;
}
use crate::people::message;
";

#[test]
fn finds_every_way_to_name_a_module() {
    assert_eq!(used_modules(SAMPLE), ["event", "journal", "people", "tracker", "wire"]);
    assert_eq!(test_modules(SAMPLE), ["cases"]);
}

#[test]
fn an_arrow_that_points_the_wrong_way_is_found() {
    let (arrows, used) = (arrows(), used_modules(SAMPLE));
    let wrong_arrows = |module, used: &[String]| wrong_arrows(&arrows, module, used);
    assert_eq!(wrong_arrows("channel", &used), ["channel → journal", "channel → people", "channel → tracker"]);
    assert_eq!(wrong_arrows("service", &used), [""; 0]);
    assert_eq!(wrong_arrows("telemetry", &["event".to_owned()]), ["telemetry → event"]);
    assert_eq!(wrong_arrows("cellar", &used), ["cellar has no place in the table"]);
    assert_eq!(wrong_arrows("event", &["telemetry".to_owned(), "event".to_owned()]), [""; 0]);
}

#[test]
fn the_table_has_no_circle() {
    // Each module stands below all that it may use.
    let arrows = arrows();
    assert!(arrows.len() > 10, "the table is read: {arrows:?}");
    for (at, (module, allowed)) in arrows.iter().enumerate() {
        let below = &arrows[..at];
        let missing: Vec<_> = allowed.iter().filter(|name| below.iter().all(|(known, _)| known != *name)).collect();
        assert!(missing.is_empty(), "{module} → {missing:?}");
    }
}
