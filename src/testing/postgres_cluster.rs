//! A primary and two synchronous standbys, for tests: each commit waits for one of the standbys. The primary can be killed,
//! and the standby that has received most is promoted; the other one follows it.

use std::{fs::OpenOptions, io::Write};

use super::{
    FaultProxy, PostgresServer,
    postgres::{PORT, as_user, run},
};

/// The database of the store.
const DATABASE: &str = "store";
const SERVERS: usize = 3;
/// Commits are durable as in production. A standby that has lost its primary looks for another at once.
const SETTINGS: &str = "-c listen_addresses= -c max_connections=100 -c shared_buffers=32MB -c max_wal_size=512MB \
     -c wal_keep_size=256MB -c wal_retrieve_retry_interval=200ms";

/// The servers.
#[derive(Debug)]
pub struct PostgresCluster {
    servers: Vec<PostgresServer>,
    primary: usize,
}

impl PostgresCluster {
    /// Starts them. Blocks for some seconds.
    ///
    /// # Panics
    /// When there is no PostgreSQL, or it does not start.
    pub async fn start() -> Self {
        let server = |number| PostgresServer::prepare(format!("{SETTINGS} -c cluster_name=s{number}"), PORT);
        let servers: Vec<_> = (0..SERVERS).map(server).collect();
        let (primary, standbys) = servers.split_first().expect("there are some");
        primary.make();
        let hosts: Vec<_> = servers.iter().map(|server| server.directory.display().to_string()).collect();
        let hosts = hosts.join(",");
        primary.configure(&format!("primary_conninfo = 'host={hosts} user=progressd target_session_attrs=read-write'"));
        primary.start_again();
        primary.execute("postgres", &format!("CREATE DATABASE {DATABASE}")).await;
        for standby in standbys {
            run(as_user("pg_basebackup")
                .args(["--username=progressd", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
                .arg("--host")
                .arg(&primary.directory)
                .arg("--pgdata")
                .arg(standby.data()));
            // What it wrote of the primary names one server only, and comes before the configuration.
            std::fs::write(standby.data().join("postgresql.auto.conf"), "").expect("a file");
            standby.start_again();
        }
        for server in &servers {
            server.configure("synchronous_standby_names = 'ANY 1 (s0, s1, s2)'");
            run(&mut server.control("reload"));
        }
        Self { servers, primary: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// There are always some.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The URL of the store, which names them all.
    pub fn url(&self) -> String {
        let hosts = self.servers.iter().map(|server| server.directory.display().to_string().replace('/', "%2F"));
        format!("postgres://progressd@{}/{DATABASE}?sslmode=disable", hosts.collect::<Vec<_>>().join(","))
    }

    /// A proxy in front of each.
    pub fn proxies(&self) -> Vec<FaultProxy> {
        self.servers.iter().map(|server| FaultProxy::start(&server.socket())).collect()
    }

    /// The URL of the store by way of such proxies.
    pub fn url_through(&self, proxies: &[FaultProxy]) -> String {
        let hosts: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        format!("postgres://progressd@{}/{DATABASE}?sslmode=disable", hosts.join(","))
    }

    /// Stops the primary as though its machine had lost power.
    pub fn kill_primary(&self) {
        self.servers[self.primary].stop();
    }

    /// Promotes the standby that has received most of what the primary sent.
    ///
    /// # Panics
    /// When a standby does not answer.
    pub async fn promote(&mut self) {
        let mut standbys = Vec::new();
        for (number, server) in self.servers.iter().enumerate().filter(|(number, _)| *number != self.primary) {
            let received = server.number("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint").await;
            standbys.push((received, number));
        }
        (_, self.primary) = standbys.into_iter().max().expect("there are some");
        run(self.servers[self.primary].control("promote").args(["-w", "-t", "60"]));
    }
}

impl PostgresServer {
    /// Adds a line to its configuration.
    fn configure(&self, line: &str) {
        let file = OpenOptions::new().append(true).open(self.data().join("postgresql.conf"));
        writeln!(file.expect("it was made"), "{line}").expect("it can be written");
    }
}
