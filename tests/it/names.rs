//! A type name has one meaning: none is defined twice in `src/`, but for those of tests.

use std::{collections::BTreeMap, fs, path::Path};

use crate::architecture::{code_only, source_files};

#[test]
fn no_type_name_is_defined_twice() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for file in source_files(&root) {
        let source = fs::read_to_string(&file).unwrap();
        for name in defined_types(&source) {
            places.entry(name).or_default().push(file.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    assert!(places.len() > 100, "hardly any type was found: {places:?}");
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "these names have several meanings: {places:#?}");
}

/// The names of the types that a source defines, but for associated types and modules for tests.
fn defined_types(source: &str) -> Vec<String> {
    let defined = |line: &str| {
        let unindented = line.trim_start();
        let words = unindented.strip_prefix("pub").map_or(unindented, |rest| match rest.split_once(") ") {
            Some((scope, words)) if scope.starts_with('(') => words,
            _ => rest.trim_start(),
        });
        let (keyword, name) = words.split_once(' ')?;
        let defines = match keyword {
            "struct" | "enum" | "union" | "trait" => true,
            "type" => line == unindented,
            _ => false,
        };
        let is_of_name = |character: &char| character.is_alphanumeric() || *character == '_';
        defines.then(|| name.chars().take_while(is_of_name).collect())
    };
    code_only(source).lines().filter_map(defined).collect()
}

#[test]
fn finds_every_way_to_define_a_type() {
    let source = "
struct Plain; // struct Comment
pub(super) enum Scoped<T> {
    pub trait Nested: Sized {
        type Associated;
    }
pub type Alias<T> = Vec<T>;
pub(crate) union Both { }
let structure = 1;
#[cfg(test)]
mod tests {
    struct OfTests;
}
";
    assert_eq!(defined_types(source), ["Plain", "Scoped", "Nested", "Alias", "Both"]);
}
