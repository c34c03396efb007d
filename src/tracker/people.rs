//! What is asked of users and groups, and what is known of them.

use std::sync::Arc;

use super::{
    Answer, Tracker, TrackerError,
    batch::{Ask, EventAsk},
    writer::Writer,
};
use crate::{
    event::{ChannelName, Event, Seq},
    people::{NewNotification, Notification, UserIntent, UserState},
    task::EventKey,
};

impl Tracker {
    /// Asks for something of a user.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn ask_user(&self, user: &ChannelName, intent: UserIntent) -> Result<Answer, TrackerError> {
        self.ask(Ask::Events(EventAsk::User(user.clone(), intent), None)).await
    }

    /// Sends a notification to a user; one who is away finds it on connecting.
    ///
    /// # Errors
    /// See [`Tracker::submit`]; and when the id was used with another notification.
    pub async fn notify(&self, user: &ChannelName, new: NewNotification) -> Result<(Notification, Seq), TrackerError> {
        let key = key_of(user, &new);
        let notification = Notification::new(new, self.shared.clock.now());
        let notify = UserIntent::Notify(notification.clone());
        let answer = self.ask(Ask::Events(EventAsk::User(user.clone(), notify), key)).await?;
        Ok((notification, answer.seq))
    }

    /// Sends a notification to the members of a group.
    ///
    /// # Errors
    /// See [`Tracker::submit`]; and when the id was used with another notification.
    pub async fn notify_group(
        &self,
        group: &ChannelName,
        new: NewNotification,
    ) -> Result<(Notification, Seq), TrackerError> {
        let key = key_of(group, &new);
        let notification = Notification::new(new, self.shared.clock.now());
        let answer = self.ask(Ask::Events(EventAsk::Group(group.clone(), notification.clone()), key)).await?;
        // Where nothing is sent, because there are no members, whoever resumes from here misses nothing.
        let seq = if answer.seq == Seq::ZERO { self.head() } else { answer.seq };
        Ok((notification, seq))
    }

    /// What is known of a user.
    pub fn user(&self, user_id: &str) -> Option<Arc<UserState>> {
        self.shared.people().get(user_id).cloned()
    }

    /// Users in the order of their ids, after the given one: the first `limit` of whom `choose` makes something.
    pub fn users<T>(
        &self,
        after: Option<&str>,
        limit: usize,
        choose: impl FnMut((&Arc<str>, &Arc<UserState>)) -> Option<T>,
    ) -> Vec<T> {
        self.shared.people().after(after).filter_map(choose).take(limit).collect()
    }

    /// Members of a group in the order of their ids, after the given one, at most `limit`.
    pub fn members(&self, group: &str, after: Option<&str>, limit: usize) -> Vec<(Arc<str>, Arc<UserState>)> {
        let people = self.shared.people();
        let members = people.members_after(group, after);
        members.filter_map(|id| Some((Arc::clone(id), Arc::clone(people.get(id)?)))).take(limit).collect()
    }
}

impl Writer {
    /// Makes what is known of a user follow an event that was decided elsewhere.
    pub(super) fn apply_to_user(&self, event: &Event) {
        let was_here = self.shared.is_here(event.channel());
        let change = self.shared.people_mut().apply(event).unwrap_or_else(|error| {
            tracing::error!(channel = %event.channel(), %error, "this version cannot read a user; they are left as they are");
            None
        });
        self.shared.members.notice(change);
        self.shared.check_places(event.channel());
        if was_here {
            self.shared.check_here(event.channel());
        }
    }
}

/// The id that a client gave to a notification.
fn key_of(target: &ChannelName, new: &NewNotification) -> Option<EventKey> {
    // A struct of strings and JSON values always has a JSON text.
    let content = || serde_json::to_vec(new).unwrap_or_default();
    new.id.as_deref().map(|id| EventKey::new(target, id, &content()))
}
