//! The journal in a PostgreSQL database, for any number of nodes: any of them can append, and all of them see one order.
//!
//! An append is one call of a function in the database (`append.sql`, `append.rs`), which holds the log's lock, checks
//! what the groups expect, adds the events and folds them into the rows of their channels, all in one transaction. So
//! there is nothing to fold behind it, and a read is one statement (`read.rs`, its rows in `record.rs`). What other nodes
//! append is heard of in `follow.rs`, with the time of the database, which is that of all (`time.rs`). The tables are in
//! `tables.sql` and a file for each later version (`history_bytes.sql`, `lives.sql`), how they are made in `open.rs` or
//! taken over in `import.rs`, the lives of the store in `life.rs`, this node in `node.rs`, connections and their time-outs
//! in `address.rs` and `connect.rs`.
//!
//! What PostgreSQL has committed is as durable as it is set up to be; a node that loses its connection tries again.

mod address;
mod append;
mod connect;
mod error;
mod follow;
mod import;
mod life;
mod node;
mod open;
mod read;
mod record;
mod time;

#[cfg(test)]
mod tests;

pub use error::DatabaseRefused;
pub use import::{ImportError, MoveProgress, import};
pub use node::Node;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::{Row, types::ToSql};

use self::{
    address::Address,
    append::{APPEND, AppendAnswer, Columns},
    connect::{Connections, PoolKind},
    error::DatabaseError,
    follow::LogFollower,
    life::Life,
    record::signed,
    time::DatabaseClock,
};
use super::{
    Appended, Counted, Group, Journal, JournalError, Listing, Member, Outcome, SWEEP_MAX, Stored, Tail, column::at_most,
};
use crate::event::{ChannelKind, ChannelName, Epoch, Epochs, History, HistoryBounds, Seq, Timestamp};

/// How much the journal keeps. All nodes of a store should have the same.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// What is kept of each channel.
    pub history: HistoryBounds,
    /// Events kept in the log, ticks and hidden ones too: a node that was away for more loads its table anew.
    pub log: usize,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { history: HistoryBounds::from(1_000), log: 65_536 }
    }
}

/// A journal in a PostgreSQL database.
pub struct PostgresJournal {
    options: PostgresOptions,
    life: Arc<Life>,
    clock: DatabaseClock,
    connections: Connections,
    follower: LogFollower,
    node: Option<Node>,
}

impl PostgresJournal {
    /// Opens the journal in a database, which must be there; its tables are made or upgraded.
    ///
    /// # Errors
    /// When the URL is none, the database does not answer or refuses, or the store is newer or damaged.
    pub async fn open(url: &str, options: &PostgresOptions) -> Result<Self, DatabaseRefused> {
        let address = Address::parse(url)?;
        let opened = open::open(&address, options.history).await?;
        let life = Arc::new(opened.life);
        let connections = Connections::new(&address, &life)?;
        Ok(Self {
            options: options.clone(),
            life,
            clock: opened.clock,
            connections,
            follower: LogFollower::new(address),
            node: None,
        })
    }

    /// The same, as this node.
    #[must_use]
    pub fn on(self, node: Node) -> Self {
        Self { node: Some(node), ..self }
    }

    async fn query(&self, kind: PoolKind, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, JournalError> {
        Ok(self.connections.query(kind, sql, values).await?)
    }

    /// Learns of another life, and goes on in it if that has all that is known here.
    async fn meet_life(&self, kind: PoolKind) -> Result<bool, DatabaseError> {
        let rows = self.connections.query(kind, Life::question(), &[]).await?;
        self.life.learn(&rows)?;
        Ok(self.life.go_on())
    }

    async fn try_append(&self, known_head: Seq, groups: &[Group]) -> Result<Vec<Row>, DatabaseError> {
        let PostgresOptions { history, log } = self.options;
        let columns = Columns::new(known_head, self.life.adopted(), log, history, groups);
        self.connections.query(PoolKind::Own, APPEND, &columns.values()).await
    }

    async fn histories(&self, channels: &[ChannelName], after: Seq) -> Result<Vec<History>, JournalError> {
        let rows = self.query(PoolKind::Shared, read::HISTORIES, &[&texts(channels), &signed(after)]).await?;
        let histories = read::histories(channels, &rows)?;
        self.note_read(histories.iter().filter_map(|history| history.events.last()).map(|last| last.seq));
        Ok(histories)
    }

    async fn lasts(&self, kind: PoolKind, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        let rows = self.query(kind, &read::last_sql(), &[&texts(channels)]).await?;
        let lasts = read::in_order(channels, &rows)?;
        self.note_read(lasts.iter().flatten().map(|stored| stored.last));
        Ok(lasts)
    }

    /// Who is shown what a standby may not have is shown that it was lost, too.
    fn note_read(&self, lasts: impl Iterator<Item = Seq>) {
        lasts.max().into_iter().for_each(|last| self.life.note_head(last));
    }
}

#[async_trait]
impl Journal for PostgresJournal {
    fn epochs(&self) -> &Epochs {
        &self.life.epochs
    }

    fn node(&self) -> Option<&str> {
        self.node.as_ref().map(Node::name)
    }

    fn time(&self) -> Option<Timestamp> {
        Some(self.clock.now())
    }

    fn adopt(&self, epoch: Epoch) {
        self.life.adopt(epoch);
    }

    async fn follow(&self, known_head: Seq, limit: usize) -> Tail {
        self.others(known_head, limit).await
    }

    fn folded_through(&self) -> Seq {
        // What is committed is in the rows.
        self.life.head()
    }

    async fn head(&self) -> Result<Seq, JournalError> {
        let rows = self.query(PoolKind::Own, "SELECT head FROM progressd.store", &[]).await?;
        let row = rows.first().ok_or_else(DatabaseError::no_facts)?;
        let head = record::seq_at(row, 0)?;
        self.life.name_head(head);
        Ok(head)
    }

    async fn check(&self) -> Result<(), JournalError> {
        self.query(PoolKind::Shared, "UPDATE progressd.checks SET checked_at = now()", &[]).await.map(drop)
    }

    async fn append(&self, known_head: Seq, groups: Vec<Group>) -> Result<Appended, JournalError> {
        if groups.is_empty() {
            return match self.others_through(Vec::new(), known_head, None).await? {
                Tail::Events(events) => Ok(Appended { outcomes: Vec::new(), events }),
                Tail::Lapsed => Err(JournalError::Lapsed),
            };
        }
        let unknown = Appended { outcomes: vec![Outcome::Unknown; groups.len()], events: Vec::new() };
        let mut answer = self.try_append(known_head, &groups).await;
        if let Err(DatabaseError::NewLife) = answer
            && self.meet_life(PoolKind::Own).await?
        {
            answer = self.try_append(known_head, &groups).await;
        }
        match answer {
            Ok(rows) => {
                let AppendAnswer { outcomes, others, others_through, placed } = append::answer(groups, &rows)?;
                // What is committed is not known before all that came before it is.
                let mut events = match self.others_through(others, known_head, Some(others_through)).await {
                    Ok(Tail::Events(events)) => events,
                    Ok(Tail::Lapsed) => return Ok(unknown),
                    Err(error) => {
                        tracing::warn!(%error, "what others appended before an append could not be read");
                        return Ok(unknown);
                    }
                };
                events.extend(placed);
                self.life.note_head(events.last().map_or(known_head, |last| last.seq));
                Ok(Appended { outcomes, events })
            }
            Err(DatabaseError::Lost(reason)) => {
                tracing::warn!(reason, "the answer to an append was lost");
                Ok(unknown)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn tail(&self, after: Seq, limit: usize) -> Result<Tail, JournalError> {
        let limit = at_most(limit);
        let rows = self.query(PoolKind::Shared, &read::tail_sql(), &[&signed(after), &limit]).await?;
        Ok(read::tail(&rows, after)?)
    }

    async fn read(&self, channel: &ChannelName, after: Seq) -> Result<History, JournalError> {
        let histories = self.histories(std::slice::from_ref(channel), after).await;
        histories.map(|mut histories| histories.pop().unwrap_or_default())
    }

    async fn read_many(&self, channels: &[ChannelName]) -> Result<Vec<History>, JournalError> {
        self.histories(channels, Seq::ZERO).await
    }

    async fn last(&self, channel: &ChannelName) -> Result<Option<Stored>, JournalError> {
        let states = self.lasts(PoolKind::Shared, std::slice::from_ref(channel)).await;
        states.map(|mut states| states.pop().flatten())
    }

    async fn last_many(&self, channels: &[ChannelName]) -> Result<Vec<Option<Stored>>, JournalError> {
        self.lasts(PoolKind::Own, channels).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Stored>, JournalError> {
        let (sql, values) = read::listing(&listing);
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        let rows = self.query(PoolKind::Shared, &sql, &values).await?;
        Ok(rows.iter().map(record::stored).collect::<Result<_, _>>()?)
    }

    async fn count(&self, kind: ChannelKind, member: Member) -> Result<Counted, JournalError> {
        let rows = self.query(PoolKind::Own, &read::count_sql(member), &[&kind.as_str()]).await?;
        Ok(read::counted(&rows)?)
    }

    async fn live(&self, kind: ChannelKind, after: Seq, limit: usize) -> Result<Vec<Stored>, JournalError> {
        let limit = at_most(limit);
        let rows = self.query(PoolKind::Own, &read::live_sql(), &[&kind.as_str(), &signed(after), &limit]).await?;
        Ok(rows.iter().map(record::stored).collect::<Result<_, _>>()?)
    }

    async fn finished_before(&self, at: Timestamp, limit: usize) -> Result<Vec<(ChannelName, Seq)>, JournalError> {
        let limit = at_most(limit);
        let kinds: Vec<_> = ChannelKind::known().map(ChannelKind::as_str).collect();
        let rows = self.query(PoolKind::Shared, read::FINISHED, &[&at.as_millis(), &limit, &kinds]).await?;
        let finished = rows.iter().map(|row| Ok((record::channel_at(row, 0)?, record::seq_at(row, 1)?)));
        Ok(finished.collect::<Result<_, DatabaseError>>()?)
    }

    async fn sweep(&self, at: Timestamp, limit: usize) -> Result<bool, JournalError> {
        let limit = at_most(limit.min(SWEEP_MAX));
        let rows = self.query(PoolKind::Shared, "SELECT progressd.sweep($1, $2)", &[&at.as_millis(), &limit]).await?;
        let swept = rows.first().map_or(Ok(0), |row| record::value_at::<i64>(row, 0))?;
        Ok(swept > 0 && swept == limit)
    }

    async fn trim(
        &self,
        kind: ChannelKind,
        at: Timestamp,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Seq>, JournalError> {
        let limit = at_most(limit.min(SWEEP_MAX));
        let sql = "SELECT progressd.trim_channels($1, $2, $3, $4)";
        let values: [&(dyn ToSql + Sync); 4] = [&kind.as_str(), &at.as_millis(), &signed(after), &limit];
        let rows = self.query(PoolKind::Shared, sql, &values).await?;
        let next = rows.first().map_or(Ok(None), |row| record::value_at::<Option<i64>>(row, 0))?;
        Ok(next.and_then(|next| u64::try_from(next).ok()).map(Seq))
    }

    async fn close(&self) -> Result<(), JournalError> {
        if self.connections.is_closed() {
            return Err(DatabaseError::Closed.into());
        }
        self.connections.close();
        Ok(())
    }
}

fn texts(channels: &[ChannelName]) -> Vec<String> {
    channels.iter().map(ToString::to_string).collect()
}
