//! What is wrong with a JSON body, in terms of JSON, not of Rust.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::problem::{Problem, kinds};

/// How much of a client's text is given back in a refusal.
const SHOWN_CHARS_MAX: usize = 64;

/// Why a body cannot be read as this type. It is read once more, since keeping the path to each member takes time.
pub(super) fn explained<T: DeserializeOwned>(body: &[u8]) -> Problem {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    if let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        // An enum's reader calls any value but a string a mistake of syntax.
        let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
        if error.inner().to_string().starts_with("expected value at") && is_json() {
            return Problem::invalid(path, "expected a string");
        }
        return problem(error.inner(), path);
    }
    match deserializer.end() {
        Err(error) => problem(&error, String::new()),
        Ok(()) => Problem::new(&kinds::MALFORMED),
    }
}

fn problem(error: &serde_json::Error, path: String) -> Problem {
    let text = error.to_string();
    if !error.is_data() {
        return Problem::new(&kinds::MALFORMED).with_detail(format!("The body is not JSON: {text}."));
    }
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // The path of such a mistake may be that of its object.
    let of_member = |name: &str| match path.strip_suffix(name) {
        Some("") => path.clone(),
        Some(object) if object.ends_with('.') => path.clone(),
        _ if path.is_empty() => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some(name) = quoted(reason, "missing field ") {
        Problem::invalid(of_member(name), "is required")
    } else if let Some(name) = quoted(reason, "duplicate field ") {
        Problem::invalid(of_member(name), "is given more than once")
    } else if let Some(name) = quoted(reason, "unknown field ") {
        Problem::invalid(of_member(name), "is not known")
    } else if path.is_empty() {
        Problem::new(&kinds::INVALID).with_detail(format!("The body: {}.", in_json_words(reason)))
    } else {
        Problem::invalid(path, in_json_words(reason))
    }
}

/// Translates a message of serde, which speaks of Rust types.
fn in_json_words(reason: &str) -> Cow<'_, str> {
    if let Some(name) = quoted(reason, "unknown variant ") {
        let (_, known) = reason.rsplit_once(", expected ").unwrap_or_default();
        let name: String = name.chars().take(SHOWN_CHARS_MAX).collect();
        return format!("expected {}, found \"{name}\"", known.replace('`', "\"")).into();
    }
    let mismatch = reason.strip_prefix("invalid type: ").or_else(|| reason.strip_prefix("invalid value: "));
    if reason.starts_with("invalid length ") {
        // An array in place of a struct.
        return "expected an object, found an array".into();
    }
    match mismatch.and_then(|mismatch| mismatch.rsplit_once(", expected ")) {
        Some((found, expected)) => format!("expected {}, found {}", json_type(expected), found_type(found)).into(),
        None => reason.into(),
    }
}

/// The type that was found. A string is not repeated: it may be long.
fn found_type(found: &str) -> Cow<'_, str> {
    match found.split_once(' ').map_or(found, |(kind, _)| kind) {
        "string" => "a string".into(),
        "map" => "an object".into(),
        "sequence" => "an array".into(),
        "integer" | "floating" | "boolean" => found.split('`').nth(1).unwrap_or(found).into(),
        _ => found.into(),
    }
}

/// The type that was expected.
fn json_type(expected: &str) -> Cow<'_, str> {
    match expected {
        "f64" => "a number".into(),
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX).into(),
        "u16" => format!("a whole number from 0 to {}", u16::MAX).into(),
        "a sequence" => "an array".into(),
        // A member of an enum.
        "string or map" | "variant identifier" => "a string".into(),
        "a map" => "an object".into(),
        other if other.starts_with("struct ") => "an object".into(),
        other => other.into(),
    }
}

/// The name in backticks that follows these words.
fn quoted<'a>(reason: &'a str, words: &str) -> Option<&'a str> {
    reason.strip_prefix(words)?.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        http::extract::read_json as read,
        task::{NewTask, Report},
    };

    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> Problem {
        read::<T>(body.as_bytes()).expect_err("refused")
    }

    #[test]
    fn what_is_no_json_is_malformed_and_says_where() {
        for body in ["", "{", "{]", "\u{feff}{}", "{} x", "{\"total\":1e999}", "{\"title\":\"\\ud800\"}", "NaN"] {
            let problem = refused::<NewTask>(body);
            assert_eq!(problem.kind(), &kinds::MALFORMED, "{body}");
            assert!(problem.sentence().contains("line 1 column"), "{}", problem.sentence());
        }
        let nested = format!("{{\"input\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(refused::<NewTask>(&nested).kind(), &kinds::MALFORMED, "too deep");
        assert_eq!(read::<Value>(b"\"\xff\"").expect_err("no UTF-8").kind(), &kinds::MALFORMED);
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_json() {
        let told = |problem: Problem| match problem.errors() {
            [error] => format!("{}: {}", error.field, error.detail),
            _ => problem.sentence().to_owned(),
        };
        for (body, expected) in [
            (r#""import""#, "The body: expected an object, found a string."),
            ("[]", "The body: expected an object, found an array."),
            ("7", "The body: expected an object, found 7."),
            ("null", "The body: expected an object, found null."),
            (r#"{"steps":{}}"#, "steps: expected an array, found an object"),
            (r#"{"steps":null}"#, "steps: expected an array, found null"),
            (r#"{"steps":[7]}"#, "steps[0]: expected an object, found 7"),
            (r#"{"steps":[{"weight":1}]}"#, "steps[0].name: is required"),
            (r#"{"steps":[{"name":"a","weight":"b"}]}"#, "steps[0].weight: expected a number, found a string"),
            (r#"{"total":-1}"#, "total: expected a whole number, 0 or more, found -1"),
            (r#"{"total":1.5}"#, "total: expected a whole number, 0 or more, found 1.5"),
            (
                r#"{"maxAttempts":5000000000}"#,
                "maxAttempts: expected a whole number from 0 to 4294967295, found 5000000000",
            ),
            (r#"{"start":"yes"}"#, "start: expected a boolean, found a string"),
            (r#"{"kind":true}"#, "kind: expected a string, found true"),
            (r#"{"kind":"a","kind":"b"}"#, "kind: is given more than once"),
        ] {
            assert_eq!(told(refused::<NewTask>(body)), expected, "{body}");
        }
        for (body, expected) in [
            (r#"{"step":"a"}"#, "step: expected a whole number, 0 or more, found a string"),
            (r#"{"progress":"a, expected u64"}"#, "progress: expected a number, found a string"),
            (
                r#"{"status":"done"}"#,
                r#"status: expected one of "processing", "completed", "error", "cancelled", found "done""#,
            ),
            (r#"{"status":1}"#, "status: expected a string"),
            (r#"{"status":[]}"#, "status: expected a string"),
            (r#"{"status":{}}"#, "status: expected a string"),
            (r#"{"status":{"completed":null,"error":1}}"#, "status: expected a string"),
            (r#"{"colour":"red"}"#, "colour: is not known"),
            (r#"{"error":{"colour":"red"}}"#, "error.colour: is not known"),
            (r#"{"error":{"status":70000}}"#, "error: expected a whole number from 0 to 65535, found 70000"),
        ] {
            assert_eq!(told(refused::<Report>(body)), expected, "{body}");
        }
    }

    #[test]
    fn nothing_of_rust_is_told() {
        for member in ["kind", "title", "total", "steps", "input", "maxAttempts", "start"] {
            for value in
                ["-1", "1e300", "true", "[]", "{}", "\"\"", "null", "[7]", "[[]]", "[{\"name\":7,\"weight\":[]}]"]
            {
                let Err(problem) = read::<NewTask>(format!("{{\"{member}\":{value}}}").as_bytes()) else { continue };
                let details = problem.errors().iter().map(|error| error.detail.as_str());
                let text = details.chain([problem.sentence()]).collect::<Vec<_>>().join(" ");
                for word in ["struct", "u64", "u32", "f64", "map", "sequence", "variant", "field"] {
                    assert!(!text.contains(word), "{member} {value}: {text}");
                }
            }
        }
    }
}
