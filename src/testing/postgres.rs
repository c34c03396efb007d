//! A PostgreSQL server for tests: started when the first test needs it, stopped when the process has ended, however that
//! was.
//!
//! A guard process holds the other end of a pipe: when this process is gone, the guard stops the server and removes its
//! files. Databases are used again, empty, since making one takes longer than most tests.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_postgres::NoTls;

use super::FaultProxy;

/// Where Debian keeps its servers, one directory a version.
const SERVERS: &str = "/usr/lib/postgresql";
/// Sockets in directories have it in their names.
pub(super) const PORT: u16 = 5432;
/// What a server is told. Commits are durable as in production; only its memory is small.
const SETTINGS: &str = "-c listen_addresses= -c max_connections=400 -c shared_buffers=32MB -c wal_level=minimal \
     -c max_wal_senders=0 -c max_wal_size=256MB";

/// A server with its own directory, on a socket in it.
#[derive(Debug)]
pub struct PostgresServer {
    pub(super) directory: PathBuf,
    settings: String,
    port: u16,
    free: Mutex<Vec<String>>,
    made: AtomicUsize,
    // Its standard input is open as long as this process lives.
    guard: Mutex<Child>,
}

/// A database with nothing of a store in it, for one test.
#[derive(Debug)]
pub struct PostgresDatabase {
    server: &'static PostgresServer,
    name: String,
}

impl PostgresServer {
    /// The server of this process.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<PostgresServer> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    /// Starts a server of its own. Blocks for a second or two.
    ///
    /// # Panics
    /// When there is none, or it does not start.
    pub fn start() -> Self {
        let server = Self::prepare(SETTINGS.to_owned(), PORT);
        server.make();
        server.start_again();
        server
    }

    /// Starts one that is to be reached by TLS, too, on a port of loopback, with this certificate and key, as PEM.
    ///
    /// # Panics
    /// When there is none, or it does not start.
    pub fn start_tls(port: u16, certificate: &str, key: &str) -> Self {
        let settings = SETTINGS.replace("listen_addresses=", "listen_addresses=127.0.0.1");
        let server = Self::prepare(format!("{settings} -c ssl=on"), port);
        server.make();
        let owner = fs::metadata(server.data()).expect("it was made");
        for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
            let path = server.data().join(name);
            fs::write(&path, pem).expect("a file");
            // A key that others may read is refused.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file");
            chown(&path, Some(owner.uid()), Some(owner.gid())).expect("a file");
        }
        server.start_again();
        server
    }

    /// A directory for a server with these settings, and who removes it.
    pub(super) fn prepare(settings: String, port: u16) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("progressd-pg-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory for the server");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("a directory for the server");
        let guard = Mutex::new(guard(&directory));
        Self { directory, settings, port, free: Mutex::default(), made: AtomicUsize::new(0), guard }
    }

    /// Makes its files.
    pub(super) fn make(&self) {
        run(as_user("initdb")
            .args(["--auth=trust", "--username=progressd", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(self.data()));
    }

    /// Starts it after [`PostgresServer::stop`].
    pub fn start_again(&self) {
        let options = format!("{} -p {} -k {}", self.settings, self.port, self.directory.display());
        run(self.control("start").args(["-w", "-t", "60", "-o", &options, "-l"]).arg(self.directory.join("log")));
    }

    /// Stops it as though its machine had lost power.
    pub fn stop(&self) {
        run(self.control("stop").args(["-m", "immediate"]));
    }

    /// Copies its files, while it is stopped.
    pub fn copy_files(&self) {
        run(Command::new("cp").args(["-a", "--"]).arg(self.data()).arg(self.copy()));
    }

    /// Puts the copy in the place of its files, while it is stopped.
    pub fn put_back(&self) {
        run(Command::new("rm").args(["-rf", "--"]).arg(self.data()));
        run(Command::new("mv").args(["--"]).arg(self.copy()).arg(self.data()));
    }

    fn copy(&self) -> PathBuf {
        self.directory.join("copy")
    }

    /// The URL of a database on it.
    pub fn url(&self, database: &str) -> String {
        let host = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://progressd@{host}:{}/{database}?sslmode=disable", self.port)
    }

    /// A database for one test.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn database(&'static self) -> PostgresDatabase {
        let used = self.free().pop();
        let name = match used {
            Some(name) => {
                let others = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
                );
                self.execute(&name, &others).await;
                self.execute(&name, "DROP SCHEMA IF EXISTS progressd CASCADE").await;
                name
            }
            None => {
                let name = format!("test{}", self.made.fetch_add(1, Ordering::Relaxed));
                self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
                name
            }
        };
        PostgresDatabase { server: self, name }
    }

    /// Does something in a database.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn execute(&self, database: &str, sql: &str) {
        self.try_execute(database, sql).await.expect(sql);
    }

    /// Does something in a database that may refuse it, or break the connection.
    ///
    /// # Errors
    /// When it does.
    pub async fn try_execute(&self, database: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        let work = async {
            // Dropped when it is done, which ends the connection.
            let client = client;
            client.batch_execute(sql).await
        };
        tokio::join!(work, connection).0
    }

    /// A number that it answers.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls).await.expect("it answers");
        let work = async {
            let client = client;
            client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).expect(sql)
        };
        tokio::join!(work, connection).0
    }

    /// Stops it for good, and removes its files. The server of the process ends with the process.
    pub fn end(&self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard.stdin.take());
        let _ended = guard.wait();
    }

    pub(super) fn control(&self, verb: &str) -> Command {
        let mut command = as_user("pg_ctl");
        command.arg(verb).arg("-D").arg(self.data());
        command
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end();
    }
}

impl PostgresDatabase {
    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Its URL by way of proxies, each a host of its own.
    pub fn url_through(&self, proxies: &[&FaultProxy]) -> String {
        let hosts: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        format!("postgres://progressd@{}/{}?sslmode=disable", hosts.join(","), self.name)
    }

    /// A proxy in front of its server.
    pub fn proxy(&self) -> FaultProxy {
        FaultProxy::start(&self.server.socket())
    }

    /// Does something in it.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn execute(&self, sql: &str) {
        self.server.execute(&self.name, sql).await;
    }

    /// Does something in it that it may refuse, or that breaks the connection.
    ///
    /// # Errors
    /// When it does.
    pub async fn try_execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.server.try_execute(&self.name, sql).await
    }

    /// Waits until a condition holds in it.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn wait_until(&self, condition: &str) {
        let wait = format!("DO $$ BEGIN WHILE NOT ({condition}) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$");
        self.try_execute(&wait).await.expect(condition);
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        self.server.free().push(std::mem::take(&mut self.name));
    }
}

/// A program of the newest server that is installed, as a user other than root: as root it would refuse.
pub(super) fn as_user(program: &str) -> Command {
    let versions = fs::read_dir(SERVERS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let newest = versions.filter(|bin| bin.join(program).exists()).max();
    let path = newest.expect("PostgreSQL is not installed: run scripts/setup test").join(program);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until this process is gone; then stops the server and removes its files.
fn guard(directory: &Path) -> Child {
    let stop = format!("{:?}", as_user("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(directory.join("data")));
    let script = format!("read -r _; {stop} >/dev/null 2>&1; rm -rf '{}'", directory.display());
    Command::new("setsid")
        .args(["sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a guard for the server")
}

pub(super) fn run(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
    let ended = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(ended.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&ended.stderr));
}
