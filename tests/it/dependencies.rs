//! Each dependency of `Cargo.toml` is used.

use std::{fs, path::Path};

use crate::architecture::source_files;

#[test]
fn each_dependency_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml")).unwrap()).unwrap();
    let read = |folder: &str| -> String {
        source_files(&root.join(folder)).iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    };
    let product = code(&read("src"));
    let all = [product.clone(), code(&read("tests")), code(&read("benches"))].concat();
    for (section, code) in [("dependencies", &product), ("dev-dependencies", &all)] {
        for name in manifest[section].as_table().unwrap().keys() {
            let path = format!("{}::", name.replace('-', "_"));
            let is_own = |(start, _): (usize, &str)| {
                !code[..start].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            };
            assert!(code.match_indices(&path).any(is_own), "nothing uses {name} of [{section}]");
        }
    }
}

/// The source without its comments.
fn code(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}
