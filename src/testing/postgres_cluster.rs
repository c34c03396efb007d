//! A primary and two synchronous standbys, for tests: each commit waits for one of the standbys. One of them can be killed and
//! come back. In place of a primary that was killed the standby that has received most can be promoted; the others follow it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    FaultProxy, PostgresServer, kill_with_children,
    postgres::{PORT, as_user, run},
};

/// The database of the store.
const DATABASE: &str = "store";
const SERVERS: usize = 3;
/// Commits are durable as in production. A standby that has lost its primary looks for another at once.
const SETTINGS: &str = "-c listen_addresses= -c max_connections=100 -c shared_buffers=32MB -c max_wal_size=256MB \
     -c wal_retrieve_retry_interval=200ms";

/// The servers.
#[derive(Debug)]
pub struct PostgresCluster {
    servers: Vec<PostgresServer>,
    primary: usize,
    /// Who was killed, and has not come back.
    dead: Option<usize>,
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
        // A primary can be rewound. Its recovery before that must not remove what is needed for it: all since its last checkpoint.
        primary.configure("wal_log_hints = on\nwal_keep_size = '512MB'");
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
            fs::write(standby.data().join("postgresql.auto.conf"), "").expect("a file");
            standby.start_again();
        }
        for server in &servers {
            server.configure("synchronous_standby_names = 'ANY 1 (s0, s1, s2)'");
            run(&mut server.control("reload"));
        }
        Self { servers, primary: 0, dead: None }
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

    /// Kills the primary. Whoever was killed before must have come back.
    pub fn kill_primary(&mut self) {
        self.kill(self.primary);
    }

    /// Kills one of the standbys. Whoever was killed before must have come back.
    pub fn kill_standby(&mut self) {
        self.kill((self.primary + 1) % SERVERS);
    }

    fn kill(&mut self, server: usize) {
        assert_eq!(self.dead.replace(server), None, "one at a time");
        self.servers[server].kill();
    }

    /// Who was killed comes back: a primary as the primary or, if another one has been promoted, as a standby of that.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn come_back(&mut self) {
        let Some(dead) = self.dead.take() else { return };
        let (server, is_standby) = (&self.servers[dead], self.servers[dead].data().join("standby.signal"));
        if dead != self.primary && !is_standby.exists() {
            // Until then the new primary does not say in its files that it is one.
            self.servers[self.primary].execute("postgres", "CHECKPOINT").await;
            let from =
                format!("host={} user=progressd dbname=postgres", self.servers[self.primary].directory.display());
            run(as_user("pg_rewind")
                .args(["--no-sync", "--source-server", &from, "--target-pgdata"])
                .arg(server.data()));
            fs::write(is_standby, "").expect("a file");
        }
        server.start_again();
    }

    /// Waits until all standbys have what the primary has now.
    ///
    /// # Panics
    /// When the primary does not answer.
    pub async fn followed(&self) {
        let primary = &self.servers[self.primary];
        let head = primary.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").await;
        let following = format!("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn - '0/0'::pg_lsn >= {head}");
        while primary.number(&following).await < SERVERS as i64 - 1 {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Promotes the standby that has received most of what the primary had sent when it was killed.
    ///
    /// # Panics
    /// When a standby does not answer.
    pub async fn promote(&mut self) {
        let mut standbys = Vec::new();
        for (number, server) in self.servers.iter().enumerate().filter(|(number, _)| Some(*number) != self.dead) {
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

    /// Kills all its processes, and removes what names them: their ids may be given again.
    fn kill(&self) {
        let id_file = self.data().join("postmaster.pid");
        let text = fs::read_to_string(&id_file).expect("it is running");
        kill_with_children(text.lines().next().and_then(|id| id.parse().ok()).expect("its id"));
        for file in [id_file, self.directory.join(format!(".s.PGSQL.{PORT}.lock"))] {
            fs::remove_file(file).expect("it was running");
        }
    }
}
