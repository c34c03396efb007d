//! Connections: two pools, one for the reads of all and one for what the node itself does, appending and following, so that
//! neither waits for the other.
//!
//! Every wait has an end. After a connection could not be made, none is tried for a while, and callers are told at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use deadpool_postgres::{
    Client, ConfigConnectImpl, Connect, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, Runtime,
    TimeoutType,
};
use futures_util::future::BoxFuture;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_postgres::{Config, Error, Row, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    address::Address,
    error::{DatabaseError, DatabaseRefused},
    life::Life,
};

/// Connections for reads.
const SHARED_MAX: usize = 8;
/// Connections of the node itself: for whoever appends, for whoever follows, and one that a lost answer has left behind.
const OWN_MAX: usize = 3;
/// How long a caller waits for a connection that is free.
const FREE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take to be made, on any host.
pub(super) const CONNECTED_MAX: Duration = Duration::from_secs(5);
/// How long a new connection may take to be let in, which may wait for the log's lock.
const ENTERED_MAX: Duration = Duration::from_secs(7);
/// How long an answer may take: longer than the database lets a statement run, so that it says why.
const ANSWER_MAX: Duration = Duration::from_secs(12);
/// For how long no connection is tried after one could not be made: from, to.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Which connections to use.
#[derive(Clone, Copy, Debug)]
pub(super) enum PoolKind {
    /// Those of all readers.
    Shared,
    /// Those of the node itself.
    Own,
}

pub(super) struct Connections {
    shared: Pool,
    own: Pool,
    rest: Mutex<Rest>,
}

/// Connects to whichever host takes writes.
struct AnyHost {
    address: Address,
    each: ConfigConnectImpl<MakeRustlsConnect>,
}

impl Connect for AnyHost {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(tokio_postgres::Client, JoinHandle<()>), Error>> {
        Box::pin(self.address.first_of(|host| self.each.connect(host)))
    }
}

/// When connections are not tried.
#[derive(Default)]
struct Rest {
    until: Option<Instant>,
    pause: Duration,
    reason: String,
}

impl Connections {
    pub(super) fn new(address: &Address, life: &Arc<Life>) -> Result<Self, DatabaseRefused> {
        let pool = |size: usize| {
            let life = Arc::clone(life);
            let enter = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
                let life = Arc::clone(&life);
                // The pool bounds only how long a connection takes to be made.
                Box::pin(async move {
                    let entered = timeout(ENTERED_MAX, life.enter(client)).await;
                    let entered = entered.unwrap_or_else(|_| Err(DatabaseError::Away(silent())));
                    entered.map_err(|error| HookError::message(error.to_string()))
                })
            });
            let any = AnyHost { address: address.clone(), each: ConfigConnectImpl { tls: address.tls.clone() } };
            let built = Pool::builder(Manager::from_connect(Config::new(), any, ManagerConfig::default()))
                .max_size(size)
                .wait_timeout(Some(FREE_WAIT_MAX))
                .create_timeout(Some(CONNECTED_MAX))
                .runtime(Runtime::Tokio1)
                .post_create(enter)
                .build();
            built.map_err(|error| DatabaseRefused::Address(error.to_string()))
        };
        Ok(Self { shared: pool(SHARED_MAX)?, own: pool(OWN_MAX)?, rest: Mutex::default() })
    }

    /// Sends one statement, prepared once a connection, and waits for its answer.
    pub(super) async fn query(
        &self,
        kind: PoolKind,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        let client = self.client(kind).await?;
        let statement = match timeout(ANSWER_MAX, client.prepare_cached(sql)).await {
            Ok(prepared) => prepared.map_err(|error| DatabaseError::before_sending(&error))?,
            Err(_) => {
                drop(Object::take(client));
                return Err(DatabaseError::Away(silent()));
            }
        };
        let answer = timeout(ANSWER_MAX, client.query(&statement, values)).await;
        let answer = answer.map(|answer| answer.map_err(|error| DatabaseError::after_sending(&error)));
        let answer = answer.unwrap_or_else(|_| Err(DatabaseError::Lost(silent())));
        if matches!(answer, Err(DatabaseError::Lost(_))) {
            // Nobody is to wait behind it on this connection, nor to find out anew that it has ended.
            drop(Object::take(client));
        }
        answer
    }

    async fn client(&self, kind: PoolKind) -> Result<Client, DatabaseError> {
        let pool = match kind {
            PoolKind::Shared => &self.shared,
            PoolKind::Own => &self.own,
        };
        if let Some(reason) = self.resting() {
            return Err(if pool.is_closed() { DatabaseError::Closed } else { DatabaseError::Away(reason) });
        }
        let got = pool.get().await;
        let mut rest = self.lock_rest();
        match got {
            Ok(client) => {
                *rest = Rest::default();
                Ok(client)
            }
            // All are in use: that says nothing of the database.
            Err(error @ (PoolError::Closed | PoolError::Timeout(TimeoutType::Wait))) => {
                Err(DatabaseError::of_pool(error))
            }
            Err(error) => {
                let error = DatabaseError::of_pool(error);
                let pause = (rest.pause * 2).clamp(PAUSES[0], PAUSES[1]);
                *rest = Rest { until: Some(Instant::now() + pause), pause, reason: error.to_string() };
                Err(error)
            }
        }
    }

    /// Why no connection is tried now.
    fn resting(&self) -> Option<String> {
        let rest = self.lock_rest();
        rest.until.filter(|until| Instant::now() < *until).map(|_| rest.reason.clone())
    }

    pub(super) fn close(&self) {
        self.shared.close();
        self.own.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.own.is_closed()
    }

    fn lock_rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn silent() -> String {
    "the database does not answer".into()
}
