//! Catching up: what may be said only once the tables have followed all that other nodes had written before it was asked.
//!
//! What adds events to the store says upon what it was decided, and conflicts where that is not so any more. Whatever adds
//! nothing, a refusal above all, and whatever depends on where the store ends, is decided only after catching up.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Found, Request, Tracker, TrackerError,
    batch::{Ask, Batch, EventAsk},
};
use crate::{
    event::Cursor,
    people::{PeopleRefusal, UserIntent, UserState},
    task::Entry,
};

impl Tracker {
    /// Comes back when the tables have followed all that was in the store before. Only then may it be said that something
    /// is not there.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn catch_up(&self) -> Result<(), TrackerError> {
        let shared = &self.shared;
        if shared.own_node.is_none() && shared.journal.head().await? <= shared.registry.head() {
            // Nobody else writes to an embedded store.
            return Ok(());
        }
        self.ask(Ask::CatchUp).await.map(drop)
    }

    /// Whether the store has given this cursor.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn knows(&self, cursor: Cursor) -> Result<bool, TrackerError> {
        let is_known = || self.shared.journal.epochs().know(cursor) && cursor.seq <= self.head();
        if !is_known() {
            self.catch_up().await?;
        }
        Ok(is_known())
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// When nobody has this id; and see [`Tracker::submit`].
    pub async fn find_user(&self, user_id: &str) -> Result<Arc<UserState>, TrackerError> {
        if self.user(user_id).is_none() {
            self.catch_up().await?;
        }
        self.user(user_id).ok_or(PeopleRefusal::NoUser.into())
    }

    /// Whether a user is in a group.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn is_member(&self, user_id: &str, group: &str) -> Result<bool, TrackerError> {
        let is_known = || self.user(user_id).is_some_and(|user| user.groups.contains_key(group));
        if !is_known() {
            self.catch_up().await?;
        }
        Ok(is_known())
    }

    /// Looks for a task; where what is known of it is not `enough`, after all that others have written.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find_enough(&self, id: Uuid, enough: impl FnOnce(&Entry) -> bool) -> Result<Found, TrackerError> {
        match self.find(id).await? {
            Found::Task(entry) if self.shared.own_node.is_some() && !enough(&entry) => self.find_stored(id).await,
            found => Ok(found),
        }
    }
}

impl Batch<'_> {
    /// Whether a request depends on what others may have written, whatever is known here.
    pub(super) fn must_catch_up(&self, request: &Request) -> bool {
        let depends_on_head = match &request.ask {
            Ask::CatchUp => true,
            Ask::Events(EventAsk::User(_, UserIntent::Join(_) | UserIntent::Read(None)), _) => self.is_shared,
            _ => false,
        };
        depends_on_head && !request.is_caught_up
    }

    /// Whether others may have written what makes the decision on a request another one.
    pub(super) fn may_be_behind(&self, request: &Request) -> bool {
        self.is_shared && !request.is_caught_up && !request.is_timer()
    }

    /// Refuses a request, where what others have written cannot change that.
    pub(super) fn refuse(&mut self, request: Request, error: TrackerError) {
        if self.may_be_behind(&request) {
            self.later.push(request);
        } else {
            request.answer(Err(error));
        }
    }
}
