//! A whole answer, with what tests ask of it.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

/// How long a body may take.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        // A stream that should have been refused never ends.
        let body =
            tokio::time::timeout(BODY_WAIT_MAX, body.collect()).await.expect("the body ends").unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// A header that is there once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value.to_str().unwrap()
    }

    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The document of a refusal, once its form has been looked at.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status(), "{problem}");
        assert_eq!(
            problem["type"],
            format!("urn:progressd:problem:{}", problem["code"].as_str().unwrap()),
            "{problem}"
        );
        assert!(!problem["title"].as_str().unwrap().is_empty(), "{problem}");
        problem
    }

    /// Status, code, and the fields that are named, of a refusal.
    pub(crate) fn refusal(&self) -> String {
        let problem = self.problem();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let fields = errors.iter().map(|error| format!(" {}", error["field"].as_str().unwrap()));
        format!("{} {}{}", self.status(), problem["code"].as_str().unwrap(), fields.collect::<String>())
    }
}
