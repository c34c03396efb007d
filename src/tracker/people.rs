//! What is asked of users and groups, and what is known of them.

use std::sync::Arc;

use super::{Answer, Tracker, TrackerError, batch::Ask};
use crate::{
    event::{ChannelName, Seq},
    people::{Census, NewNotification, Notification, UserIntent, UserState},
};

impl Tracker {
    /// Asks for something of a user.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn ask_user(&self, user: &ChannelName, intent: UserIntent) -> Result<Answer, TrackerError> {
        self.ask(Ask::User(user.clone(), intent)).await
    }

    /// Sends a notification to a user; one who is away finds it on connecting.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn notify(&self, user: &ChannelName, new: NewNotification) -> Result<(Notification, Seq), TrackerError> {
        let notification = Notification::new(new, self.shared.clock.now());
        let answer = self.ask_user(user, UserIntent::Notify(notification.clone())).await?;
        Ok((notification, answer.seq))
    }

    /// Sends a notification to the members of a group.
    ///
    /// # Errors
    /// See [`Tracker::submit`].
    pub async fn notify_group(
        &self,
        group: &ChannelName,
        new: NewNotification,
    ) -> Result<(Notification, Seq), TrackerError> {
        let notification = Notification::new(new, self.shared.clock.now());
        let answer = self.ask(Ask::Group(group.clone(), notification.clone())).await?;
        Ok((notification, answer.seq))
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

    /// How many members a group has.
    pub fn member_count(&self, group: &str) -> usize {
        self.shared.people().members(group)
    }
}
