//! Every answer that a test is given is one that the API's description promises.

use std::{fs, sync::LazyLock};

use http::{Method, header};
use serde_json::Value;

use super::Answer;

/// The golden description, which a test of its own holds to be the one that is served.
static API: LazyLock<Value> = LazyLock::new(|| {
    let text = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openapi.json")).unwrap();
    serde_json::from_slice(&text).expect("the description is JSON")
});

/// Fails the test if the answer has a status, a content type or a code that its operation does not describe.
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    let Some((name, operation)) = operation(method, path) else { return };
    let status = answer.status().to_string();
    let responses = &operation["responses"];
    let range = format!("{}XX", &status[..1]);
    let described = [&responses[&status], &responses[range]].into_iter().filter(|response| !response.is_null());
    let contents: Vec<&Value> = described.clone().map(|response| &response["content"]).collect();
    assert!(!contents.is_empty(), "{method} {name} does not describe {status}: {answer:?}");
    if *method == Method::HEAD || answer.body.is_empty() {
        return;
    }
    let content_type =
        answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    let is_described =
        |content: &&Value| content.is_null() || content.get(essence).is_some() || content.get(content_type).is_some();
    assert!(
        contents.iter().any(is_described),
        "{method} {name} does not describe {content_type} of {status}: {answer:?}"
    );
    if essence == "application/problem+json" {
        let code = format!("- `{}`: ", answer.json()["code"].as_str().unwrap_or_default());
        let mut descriptions = described.map(|response| response["description"].as_str().unwrap_or_default());
        assert!(descriptions.any(|text| text.contains(&code)), "{method} {name} does not describe {code}{answer:?}");
    }
}

/// The operation that a request meets, if any does: a name in the path comes before a parameter.
fn operation(method: &Method, target: &str) -> Option<(&'static str, &'static Value)> {
    let method = if *method == Method::HEAD { "get".to_owned() } else { method.as_str().to_lowercase() };
    let path = target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("http://").map_or(path, |rest| &rest[rest.find('/').unwrap_or_default()..]);
    let paths = API["paths"].as_object().expect("an object");
    let matching = paths.iter().filter(|(template, _)| matches(template, path));
    let (template, item) = matching.min_by_key(|(template, _)| template.matches('{').count())?;
    Some((template, item.get(method)?))
}

fn matches(template: &str, path: &str) -> bool {
    let (mut names, mut parts) = (template.split('/'), path.split('/'));
    loop {
        match (names.next(), parts.next()) {
            (None, None) => return true,
            // The rest of the path, whatever it holds.
            (Some("{path}"), Some(part)) => return !part.is_empty(),
            (Some(name), Some(part)) if name == part || name.starts_with('{') && !part.is_empty() => {}
            _ => return false,
        }
    }
}
