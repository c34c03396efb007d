//! Bringing into memory what the journal holds: all that is live, and single channels where something must be decided
//! upon them.

use uuid::Uuid;

use super::{Request, TrackerError, batch::Change, reads, writer::Writer};
use crate::{
    event::{ChannelKind, ChannelName},
    journal::{Listing, Stored},
    task::{KeyMemo, Table},
};

/// Most rows that are read at once when the table is restored.
const RESTORE_PAGE: usize = 1000;

impl Writer {
    /// Loads the channel on which a group conflicted, where it is not in memory.
    pub(super) async fn learn(&self, channel: &ChannelName) -> Result<(), TrackerError> {
        let Some(id) = channel.id() else { return Ok(()) };
        let known = {
            let table = self.shared.table();
            match channel.kind() {
                ChannelKind::Task => table.get(id).is_some() || table.is_gone(id),
                ChannelKind::Key => table.key(id).is_some(),
                ChannelKind::User => true,
            }
        };
        if known {
            return Ok(());
        }
        let Some(stored) = self.shared.journal.last(channel).await? else { return Ok(()) };
        let stands_for = take_in(&mut self.shared.table_mut(), id, &stored)?;
        match stands_for {
            // The task that a key stands for may have left memory too.
            Some(task_id) => Box::pin(self.learn(&ChannelName::task(task_id))).await,
            None => Ok(()),
        }
    }

    /// Loads a task that was live when it was looked up and has left memory since then: it has ended.
    pub(super) async fn learn_end(&self, request: &Request) -> Result<(), TrackerError> {
        match (&request.change, &request.found) {
            (Change::Task(id, _), Some(found)) if !found.task.status.is_final() && !self.is_live(*id) => {
                self.learn(&ChannelName::task(*id)).await
            }
            _ => Ok(()),
        }
    }

    fn is_live(&self, id: Uuid) -> bool {
        self.shared.table().get(id).is_some()
    }

    /// Reads the whole live table from the journal.
    pub(super) async fn reload(&mut self) -> Result<(), TrackerError> {
        let head = self.shared.journal.head().await?;
        let mut entries = Vec::new();
        let mut created_before = None;
        loop {
            let listing = Listing {
                kind: ChannelKind::Task,
                members: Vec::new(),
                live_only: true,
                created_before,
                limit: RESTORE_PAGE,
            };
            let page = self.shared.journal.list(listing).await?;
            created_before = page.last().map(|stored| stored.created);
            let is_last = page.len() < RESTORE_PAGE;
            for stored in &page {
                entries.push(reads::entry(stored)?);
            }
            if is_last {
                break;
            }
        }
        let policy = *self.shared.table().policy();
        let mut table = Table::new(policy);
        entries.into_iter().for_each(|entry| table.restore(entry));
        *self.shared.table_mut() = table;
        self.head = head;
        self.shared.registry.advance(head);
        self.shared.registry.hang_up_all();
        self.shared.work.send_replace(());
        self.forget_folded();
        Ok(())
    }
}

/// Puts a row into the table; answers the task that it stands for, where it is a key's.
fn take_in(table: &mut Table, id: Uuid, stored: &Stored) -> Result<Option<Uuid>, TrackerError> {
    match (stored.channel.kind(), &stored.memo) {
        (ChannelKind::Task, _) if stored.gone => table.restore_gone(id, stored.last),
        (ChannelKind::Task, _) => table.restore(reads::entry(stored)?),
        (ChannelKind::Key, Some(memo)) => {
            let memo: KeyMemo = serde_json::from_slice(memo)
                .map_err(|_| TrackerError::Damaged(format!("{} does not hold a key", stored.channel)))?;
            table.restore_key(id, memo, stored.last);
            return Ok(Some(memo.task_id));
        }
        _ => {}
    }
    Ok(None)
}
