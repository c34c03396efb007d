//! A stream that is being read, by the standard's rules.

use std::collections::VecDeque;

use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use progressd::testing::{SseEvent, SseParser};
use serde_json::Value;

pub(crate) struct Events {
    status: u16,
    pub(crate) headers: HeaderMap,
    body: Body,
    parser: SseParser,
    parsed: VecDeque<SseEvent>,
    /// Every byte so far.
    pub(crate) raw: Vec<u8>,
}

impl Events {
    pub(crate) fn new(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            parser: SseParser::default(),
            parsed: VecDeque::new(),
            raw: Vec::new(),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.parser.retry_ms
    }

    pub(crate) fn comments(&self) -> usize {
        self.parser.comments
    }

    /// The next frame of the body; `None` at the end.
    pub(crate) async fn bytes(&mut self) -> Option<bytes::Bytes> {
        let frame = self.body.frame().await?.unwrap();
        let bytes = frame.into_data().unwrap();
        self.raw.extend_from_slice(&bytes);
        self.parsed.extend(self.parser.feed(&bytes));
        Some(bytes)
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<SseEvent> {
        while self.parsed.is_empty() {
            self.bytes().await?;
        }
        self.parsed.pop_front()
    }

    /// The next event, if it is there already.
    pub(crate) fn waiting(&mut self) -> Option<SseEvent> {
        self.next().now_or_never().flatten()
    }

    /// The state in the next event, which must be a task's.
    pub(crate) async fn state(&mut self) -> Value {
        let event = self.next().await.expect("an event");
        assert_eq!(event.event, "progress", "{event:?}");
        let state: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(state["cursor"], event.id, "{event:?}");
        state
    }

    /// All that comes until the end.
    pub(crate) async fn rest(&mut self) -> Vec<SseEvent> {
        let mut rest = Vec::new();
        while let Some(event) = self.next().await {
            rest.push(event);
        }
        rest
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).unwrap()
    }
}

/// The first events of a stream of another process.
pub(crate) async fn first_events(request: reqwest::RequestBuilder, count: usize) -> Vec<SseEvent> {
    let mut response = request.send().await.unwrap();
    let (mut parser, mut events) = (SseParser::default(), Vec::new());
    while events.len() < count {
        let bytes = response.chunk().await.unwrap().expect("the stream goes on");
        events.extend(parser.feed(&bytes));
    }
    events
}
