//! Hearing of what other nodes append: `LISTEN` as a hint, and a look at intervals as the net under it.
//!
//! Nothing runs in the background: whoever follows drives the connection that listens. What is found is read from the log
//! after the caller's head, in seq order, and seqs are given under the log's lock: so an append that commits late has a
//! later seq, and nothing is passed over.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use tokio_postgres::{AsyncMessage, Client};

use super::{
    PostgresJournal,
    address::{Address, DrivenConnection},
    connect::PoolKind,
    error::DatabaseError,
    read,
    record::{self, signed},
    time,
};
use crate::{
    event::{Epoch, Event, Seq},
    journal::{Tail, column::at_most},
};

/// How often the log is looked at without a hint.
const INTERVAL: Duration = Duration::from_millis(250);
/// Events that are read at once.
const PAGE: usize = 1024;
/// How long the connection that listens may take to be made.
const LISTEN_MAX: Duration = Duration::from_secs(5);
/// How many looks in a row may find what no hint has told of, until the connection that listens counts as dead.
const UNHEARD_MAX: u32 = 2;
/// How long after one that could not be made, or broke, another is tried.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct LogFollower {
    address: Address,
    // Held while somebody follows, and by nobody else.
    state: Mutex<LogFollowerState>,
}

struct LogFollowerState {
    listener: Option<HintListener>,
    /// On the way to the next one. It is kept where who follows is dropped and comes again.
    connecting: Option<BoxFuture<'static, Option<HintListener>>>,
    /// The latest hint since the last look.
    told: Option<Seq>,
    /// Looks that found something since the last hint.
    unheard: u32,
    look_at: Instant,
    listen_at: Instant,
}

/// A connection on which the database tells of each append.
struct HintListener {
    // The connection ends with it.
    _client: Client,
    connection: DrivenConnection,
}

impl LogFollower {
    pub(super) fn new(address: Address) -> Self {
        let now = Instant::now();
        Self {
            address,
            state: Mutex::new(LogFollowerState {
                listener: None,
                connecting: None,
                told: None,
                unheard: 0,
                look_at: now,
                listen_at: now,
            }),
        }
    }
}

impl PostgresJournal {
    pub(super) async fn others(&self, known_head: Seq, limit: usize) -> Tail {
        let mut state = self.follower.state.lock().await;
        loop {
            let is_told = state.wait(known_head, &self.follower.address).await;
            let found = self.look(known_head, limit).await;
            let may_be_more = matches!(&found, Ok(Tail::Events(events)) if events.len() == limit);
            // Only now: where the look was dropped, it is to be taken again.
            (state.told, state.look_at) = (None, Instant::now() + if may_be_more { Duration::ZERO } else { INTERVAL });
            match found {
                Ok(Tail::Events(events)) if events.is_empty() => {}
                Ok(found) => {
                    state.find(is_told);
                    return found;
                }
                // The next look, or the next append, tells more.
                Err(error) => tracing::debug!(%error, "cannot look for events of other nodes"),
            }
        }
    }

    /// The events after a seq through another one, or through the head; of which the first are known already.
    pub(super) async fn others_through(
        &self,
        mut events: Vec<Event>,
        known_head: Seq,
        through: Option<Seq>,
    ) -> Result<Tail, DatabaseError> {
        loop {
            let last = events.last().map_or(known_head, |last| last.seq);
            let missing = through
                .map_or(PAGE, |through| PAGE.min(usize::try_from(through.0.saturating_sub(last.0)).unwrap_or(PAGE)));
            if missing == 0 {
                return Ok(Tail::Events(events));
            }
            let Tail::Events(page) = self.look(last, missing).await? else { return Ok(Tail::Lapsed) };
            let is_last = page.len() < missing;
            events.extend(page);
            if is_last {
                return Ok(if through.is_none() { Tail::Events(events) } else { Tail::Lapsed });
            }
        }
    }

    /// What the log has after a seq, if this is the life of the store that the caller knows.
    async fn look(&self, known_head: Seq, limit: usize) -> Result<Tail, DatabaseError> {
        let limit = at_most(limit);
        let sent = Instant::now();
        let rows = self.connections.query(PoolKind::Own, &read::tail_sql(), &[&signed(known_head), &limit]).await?;
        if let Some(row) = rows.first() {
            self.clock.learn(time::told_at(row)?, sent);
        }
        if let Some(row) = rows.first()
            && record::parsed_at::<Epoch>(row, 1)? != self.life.adopted()
            && !self.meet_life(PoolKind::Own).await?
        {
            return Ok(Tail::Lapsed);
        }
        let tail = read::tail(&rows, known_head)?;
        if let Tail::Events(events) = &tail {
            events.last().into_iter().for_each(|last| self.life.note_head(last.seq));
        }
        Ok(tail)
    }
}

impl LogFollowerState {
    /// Waits until there may be something after a seq; answers whether a hint said so.
    async fn wait(&mut self, known_head: Seq, address: &Address) -> bool {
        loop {
            if self.told.is_some_and(|head| head > known_head) {
                return true;
            }
            self.listen(address);
            let Self { listener, connecting, .. } = self;
            let hint = async {
                match listener {
                    Some(listener) => listener.next().await,
                    None => std::future::pending().await,
                }
            };
            let connected = async {
                match connecting {
                    Some(connecting) => connecting.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                hint = hint => match hint {
                    // The connection lives.
                    Some(head) => (self.told, self.unheard) = (Some(head), 0),
                    None => self.listener = None,
                },
                connected = connected => {
                    (self.connecting, self.listener) = (None, connected);
                    if self.listener.is_some() {
                        // Nobody has told of what was appended before.
                        return false;
                    }
                }
                () = sleep_until(self.look_at) => return false,
            }
        }
    }

    /// There is something, of which a hint has told or not. A connection may be dead without a word.
    fn find(&mut self, is_told: bool) {
        self.unheard = if is_told { 0 } else { self.unheard + 1 };
        if self.unheard >= UNHEARD_MAX {
            self.unheard = 0;
            self.listener = None;
        }
    }

    /// Listens, where nobody does.
    fn listen(&mut self, address: &Address) {
        if self.listener.is_some() || self.connecting.is_some() || Instant::now() < self.listen_at {
            return;
        }
        self.listen_at = Instant::now() + LISTEN_PAUSE;
        let address = address.clone();
        let connecting = async move {
            match timeout(LISTEN_MAX, HintListener::connect(&address)).await {
                Ok(Ok(listener)) => return Some(listener),
                Ok(Err(error)) => tracing::debug!(%error, "cannot listen to the database"),
                Err(_) => tracing::debug!("cannot listen to the database: it does not answer"),
            }
            None
        };
        self.connecting = Some(Box::pin(connecting));
    }
}

impl HintListener {
    async fn connect(address: &Address) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = address.connect().await?;
        {
            let mut listens = pin!(client.batch_execute("LISTEN progressd"));
            loop {
                tokio::select! {
                    listening = &mut listens => break listening?,
                    message = poll_fn(|context| connection.poll_message(context)) => drop(message.transpose()?),
                }
            }
        }
        Ok(Self { _client: client, connection })
    }

    /// The head of the next append that is told; nothing once the connection has ended.
    async fn next(&mut self) -> Option<Seq> {
        loop {
            match poll_fn(|context| self.connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(told))) => {
                    return Some(Seq(told.payload().parse().unwrap_or(u64::MAX)));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}
