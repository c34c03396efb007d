//! Content negotiation: `Accept`, `Prefer` and `If-None-Match` (RFC 9110, RFC 7240).

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

use crate::event::Cursor;

/// Longest wait for a change, whatever a client prefers.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);
/// The media type of a stream.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// The header of a preference (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The header that says which preference was heeded.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Whether a stream may be sent: `Accept` is absent, or has a range that matches it.
pub(super) fn accepts_stream(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::ACCEPT)
        || ranges(headers).any(|range| matches!(range.as_str(), EVENT_STREAM | "text/*" | "*/*"))
}

/// Whether a stream is asked for by its name, and JSON is not.
pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    ranges(headers).any(|range| range == EVENT_STREAM) && !ranges(headers).any(|range| range == "application/json")
}

/// Whether JSON is asked for by its name, and a stream is not.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    ranges(headers).any(|range| range == "application/json") && !ranges(headers).any(|range| range == EVENT_STREAM)
}

/// Whether a page is asked for by its name, and a stream is not: somebody has opened the address in a browser.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    ranges(headers).any(|range| range == "text/html") && !ranges(headers).any(|range| range == EVENT_STREAM)
}

/// The media ranges of `Accept` that are not refused by `q=0`.
fn ranges(headers: &HeaderMap) -> impl Iterator<Item = String> {
    values(headers, &header::ACCEPT).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        let quality =
            parts.filter_map(|parameter| parameter.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("q"));
        let is_refused =
            quality.is_some_and(|(_, value)| value.trim().parse::<f32>().is_ok_and(|quality| quality <= 0.0));
        (!is_refused).then_some(media)
    })
}

/// Whether the client has this `ETag` already.
pub(super) fn etag_matches(headers: &HeaderMap, etag: &str) -> bool {
    values(headers, &header::IF_NONE_MATCH)
        .any(|value| value == "*" || value.strip_prefix("W/").unwrap_or(value) == etag)
}

/// The cursors among the values of `ETag` that the client has.
pub(super) fn known_cursors(headers: &HeaderMap) -> impl Iterator<Item = Cursor> {
    values(headers, &header::IF_NONE_MATCH)
        .filter_map(|value| value.trim_start_matches("W/").trim_matches('"').parse().ok())
}

/// `Prefer: wait=30`: for how long the client would wait, at most [`WAIT_MAX`].
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = preferences(headers).find_map(|(name, value)| (name == "wait").then_some(value))?;
    let seconds: u64 = seconds.trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

/// `Prefer: respond-async`: whether the client would rather not wait at all.
pub(super) fn prefers_async(headers: &HeaderMap) -> bool {
    preferences(headers).any(|(name, _)| name == "respond-async")
}

fn preferences(headers: &HeaderMap) -> impl Iterator<Item = (String, &str)> {
    values(headers, &PREFER).map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        (name.trim().to_ascii_lowercase(), value.trim())
    })
}

/// The comma-separated values of a header, over all its lines.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().fold(HeaderMap::new(), |mut headers, value| {
            headers.append(name.clone(), value.parse().expect("a value"));
            headers
        })
    }

    #[test]
    fn streams_are_negotiated() {
        let accept = |values: &[&str]| headers(header::ACCEPT, values);
        assert!(accepts_stream(&accept(&[])));
        for value in ["text/event-stream", "*/*", "text/*", "text/html, */*;q=0.8", "TEXT/EVENT-STREAM;charset=utf-8"] {
            assert!(accepts_stream(&accept(&[value])), "{value}");
        }
        assert!(accepts_stream(&accept(&["text/html", "text/event-stream"])));
        for value in ["application/json", "text/html", "text/event-stream;q=0", "image/*, text/event-stream; Q=0.0", ""]
        {
            assert!(!accepts_stream(&accept(&[value])), "{value}");
        }
        assert!(wants_stream(&accept(&["text/event-stream"])));
        assert!(!wants_stream(&accept(&["*/*"])) && !wants_stream(&accept(&[])));
        assert!(!wants_stream(&accept(&["application/json, text/event-stream"])));
        assert!(wants_page(&accept(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"])));
        for values in [&[][..], &["*/*"], &["text/*"], &["text/html;q=0, */*"], &["text/html, text/event-stream"]] {
            assert!(!wants_page(&accept(values)), "{values:?}");
        }
    }

    #[test]
    fn etags_are_compared_weakly() {
        let has = |value: &str| etag_matches(&headers(header::IF_NONE_MATCH, &[value]), "\"k3f90000-7\"");
        assert!(has("\"k3f90000-7\"") && has("W/\"k3f90000-7\"") && has("\"a\", \"k3f90000-7\"") && has("*"));
        assert!(!has("k3f90000-7") && !has("\"k3f90000-70\"") && !has(""));
    }

    #[test]
    fn waits_are_bounded() {
        let wait = |value: &str| preferred_wait(&headers(PREFER, &[value]));
        assert_eq!(wait("wait=30"), Some(Duration::from_secs(30)));
        assert_eq!(wait("respond-async, Wait = \"5\";x=y"), Some(Duration::from_secs(5)));
        assert_eq!(wait("wait=99999"), Some(WAIT_MAX));
        for value in ["wait", "wait=", "wait=-1", "wait=1.5", "wait=99999999999999999999", "waiting=3"] {
            assert_eq!(wait(value), None, "{value}");
        }
        assert!(prefers_async(&headers(PREFER, &["wait=1", "Respond-Async"])));
        assert!(!prefers_async(&headers(PREFER, &["wait=1"])));
    }
}
