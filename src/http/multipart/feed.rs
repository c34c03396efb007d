//! Feeding the parser: what it may see of the body, and when.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{HEAD_BYTES_MAX, HEAD_TOO_LARGE, INTERRUPTED};
use crate::{
    http::{extract::timed_out, problem::kinds},
    task::TaskError,
};

/// The size of a piece for the parser while it reads a head.
const HEAD_PIECE_BYTES: usize = 1024;
/// Most of what is read after the form's end, so that the connection can be used again.
const EPILOGUE_BYTES_MAX: usize = HEAD_BYTES_MAX;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The body on its way to the parser; clones share it.
#[derive(Clone)]
pub(super) struct Feed(Arc<Mutex<FeedState>>);

pub(super) struct FeedState {
    body: BodyDataStream,
    /// What has come and was not passed on yet.
    rest: Bytes,
    /// How many bytes were passed on …
    pub(super) fed: u64,
    /// … and how many of them since a head began; `None` inside of the content.
    head_len: Option<usize>,
    /// The last bytes passed on in this head, at most three.
    head_tail: Vec<u8>,
    /// How often the parser still has to wait before it gets more.
    pauses: u8,
    failure: Option<TaskError>,
}

/// Why nothing more is passed on. The reason is kept in the feed, since the parser would wrap it.
#[derive(Debug)]
pub(super) struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body ended")
    }
}

impl std::error::Error for Stopped {}

impl Feed {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(FeedState {
            body: body.into_data_stream(),
            rest: Bytes::new(),
            fed: 0,
            head_len: Some(0),
            head_tail: Vec::new(),
            pauses: 0,
            failure: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FeedState> {
        // Held within one poll only; a panic in there ends the job that reads.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failure(&self) -> Option<TaskError> {
        self.lock().failure.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.fed == 0 && state.failure.is_none()
    }

    /// Reads on to the end of the body, if it is near.
    pub(super) async fn read_epilogue(&self) {
        let mut left = EPILOGUE_BYTES_MAX;
        let next = || std::future::poll_fn(|context| self.lock().body.poll_next_unpin(context));
        // The form is complete: errors behind it do not matter.
        while let Some(Ok(bytes)) = next().await {
            match left.checked_sub(bytes.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

impl Stream for Feed {
    type Item = Result<Bytes, Stopped>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.lock();
        // The parser would go on for as long as something is ready. It is to give out what it has first.
        if let Some(pauses) = state.pauses.checked_sub(1) {
            state.pauses = pauses;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.rest.is_empty() {
            match std::task::ready!(state.body.poll_next_unpin(context)) {
                Some(Ok(bytes)) => state.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(state.stop(broken(&error))))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(state.pass()))
    }
}

impl FeedState {
    pub(super) fn begin_content(&mut self) {
        self.head_len = None;
    }

    pub(super) fn begin_head(&mut self) {
        self.head_len = Some(0);
        self.head_tail.clear();
    }

    fn stop(&mut self, error: TaskError) -> Stopped {
        self.failure = Some(error);
        Stopped
    }

    /// The next piece: all that is there, or in a head as much as surely belongs to it.
    fn pass(&mut self) -> Result<Bytes, Stopped> {
        self.pauses = 1;
        let piece = match self.head_len {
            None => std::mem::take(&mut self.rest),
            Some(head_len) => {
                let piece = self.head_piece();
                self.head_len = Some(head_len + piece.len());
                if head_len + piece.len() > HEAD_BYTES_MAX {
                    let detail = format!("At most {HEAD_BYTES_MAX} bytes may precede the content of a part.");
                    return Err(self.stop(HEAD_TOO_LARGE.task_error(detail)));
                }
                piece
            }
        };
        self.fed += piece.len() as u64;
        Ok(piece)
    }

    /// Takes a small piece that ends with the end of a head, where that is in it.
    fn head_piece(&mut self) -> Bytes {
        let len = self.rest.len().min(HEAD_PIECE_BYTES);
        let mut seen = std::mem::take(&mut self.head_tail);
        let seen_before = seen.len();
        seen.extend_from_slice(&self.rest[..len]);
        let end = seen.windows(HEAD_END.len()).position(|window| window == HEAD_END);
        if end.is_some() {
            // Looking for the first boundary it asks twice in one turn; it is to read this head before the content.
            self.pauses = 2;
        }
        let end = end.map_or(seen.len(), |start| start + HEAD_END.len());
        self.head_tail = seen[end.saturating_sub(HEAD_END.len() - 1)..end].to_vec();
        self.rest.split_to(end - seen_before)
    }
}

/// The error of a task whose body breaks off.
fn broken(error: &axum::Error) -> TaskError {
    if timed_out(error) {
        kinds::BODY_TIMED_OUT.task_error("The client sent nothing for too long.")
    } else {
        INTERRUPTED.task_error("The connection ended too early.")
    }
}
