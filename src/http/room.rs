//! Room for large answers and open files, which a client may leave waiting: see [`AnswerRoom`].

use std::{convert::Infallible, sync::Arc};

use axum::extract::FromRequestParts;
use futures_util::{Stream, StreamExt};
use http::request::Parts;

use super::{
    App,
    problem::{Problem, kinds},
    refusals::refuses,
};
use crate::server::{AnswerRoom, Held};

/// An argument of handlers whose answers are large or hold a file.
pub(super) struct Room(Arc<AnswerRoom>);

impl FromRequestParts<App> for Room {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        // A request that came through no connection has a room of its own.
        Ok(Self(parts.extensions.get::<Arc<AnswerRoom>>().cloned().unwrap_or_default()))
    }
}

refuses!(Room: kinds::OVERLOADED);

impl Room {
    /// Room for at most so many bytes.
    pub(super) async fn bytes(&self, most: usize) -> Result<Held, Problem> {
        self.0.bytes(most).await.ok_or_else(|| refusal("Too many large answers wait for their clients."))
    }

    /// Room for an open file.
    pub(super) async fn file(&self) -> Result<Held, Problem> {
        self.0.file().await.ok_or_else(|| refusal("Too many files are being sent or received."))
    }
}

/// This stream, which has this room until it is dropped.
pub(super) fn holding<S: Stream>(stream: S, held: Held) -> impl Stream<Item = S::Item> {
    stream.map(move |item| {
        let _kept = &held;
        item
    })
}

fn refusal(detail: &'static str) -> Problem {
    Problem::new(&kinds::OVERLOADED).with_detail(detail)
}
