//! Where the database is: the URL of the setting, and what is added to it. The password leaves this module only inside
//! the configuration of connections.

use std::{fs, path::Path, time::Duration};

use futures_util::future::select_ok;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Connection, Error, Socket,
    config::{Host, SslMode, TargetSessionAttrs},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    connect::{CONNECTED_MAX, silent},
    error::{DatabaseError, DatabaseRefused},
};

/// How long a connection may take to be made, on each host.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long what was sent may stay unacknowledged before the connection counts as dead.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// When a silent connection is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// What each session is told; times in milliseconds. The first two are shorter than a node waits for an answer.
const SESSION: &str = "-c statement_timeout=10000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000 \
     -c tcp_user_timeout=10000 -c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off -c jit=off";

/// A connection that nothing drives by itself.
pub(super) type DrivenConnection = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// How connections are made.
#[derive(Clone)]
pub(super) struct Address {
    /// One for each host.
    hosts: Vec<Config>,
    pub(super) tls: MakeRustlsConnect,
    /// Host, port and name of the database, for messages.
    pub(super) place: String,
}

impl Address {
    /// Reads a URL. Where it has no password, the file that `PGPASSFILE` names may have one.
    pub(super) fn parse(url: &str) -> Result<Self, DatabaseRefused> {
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        // The library's own error may quote a part of the password.
        let parsed = url.parse::<Config>().ok().filter(|_| is_url);
        let mut config = parsed.ok_or_else(|| {
            DatabaseRefused::Address(
                "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE; characters such as @ : / ? # % in the \
                 password must be percent-encoded, such as %40 for @"
                    .into(),
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(DatabaseRefused::Address("it names no host".into()));
        }
        let place = place(&config);
        if config.get_password().is_none()
            && let Some(file) = std::env::var_os("PGPASSFILE")
            && let Some(password) = password_in(Path::new(&file), &config)?
        {
            config.password(password);
        }
        let hosts = (0..config.get_hosts().len()).map(|nth| only(nth, &config)).collect();
        let tls = tls(config.get_ssl_mode() != SslMode::Disable)?;
        Ok(Self { hosts, tls, place })
    }

    /// Asks all hosts at once, and answers the first that takes writes: one that is frozen would never let the next have its
    /// turn.
    pub(super) async fn first_of<F, T>(&self, connect: impl Fn(&Config) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let asked = self.hosts.iter().map(|host| Box::pin(connect(host)));
        select_ok(asked).await.map(|(connected, _)| connected)
    }

    /// Does work on a connection that lives as long as the work.
    pub(super) async fn work<T, E: From<DatabaseError>>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, E>,
    ) -> Result<T, E> {
        let connected = timeout(CONNECTED_MAX, self.connect()).await.map_err(|_| DatabaseError::Away(silent()))?;
        let (mut client, connection) = connected.map_err(|error| DatabaseError::before_sending(&error))?;
        tokio::select! {
            done = work(&mut client) => done,
            ended = connection => {
                let ended = ended.map_err(|error| DatabaseError::before_sending(&error));
                Err(ended.err().unwrap_or_else(|| DatabaseError::Away("the connection ended".into())).into())
            }
        }
    }

    /// A connection of its own, which does nothing that its holder does not drive.
    pub(super) async fn connect(&self) -> Result<(Client, DrivenConnection), Error> {
        let connect = |host: &Config| {
            let (host, tls) = (host.clone(), self.tls.clone());
            async move { host.connect(tls).await }
        };
        self.first_of(connect).await
    }
}

/// The configuration for one of the hosts.
fn only(nth: usize, all: &Config) -> Config {
    let mut config = Config::new();
    match &all.get_hosts()[nth] {
        Host::Tcp(name) => config.host(name),
        Host::Unix(path) => config.host_path(path),
    };
    if let Some(address) = all.get_hostaddrs().get(nth) {
        config.hostaddr(*address);
    }
    if let Some(port) = all.get_ports().get(nth).or(all.get_ports().first()) {
        config.port(*port);
    }
    if let Some(user) = all.get_user() {
        config.user(user);
    }
    if let Some(password) = all.get_password() {
        config.password(password);
    }
    if let Some(name) = all.get_dbname() {
        config.dbname(name);
    }
    config
        .options([all.get_options().unwrap_or_default(), SESSION].join(" "))
        .application_name("progressd")
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .connect_timeout(CONNECT_MAX)
        .tcp_user_timeout(UNACKNOWLEDGED_MAX)
        .keepalives_idle(KEEPALIVE_IDLE)
        // A standby takes no writes.
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(nth, host)| {
        let port = ports.get(nth).or(ports.first()).unwrap_or(&5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    format!("{}/{}", hosts.collect::<Vec<_>>().join(","), config.get_dbname().or(config.get_user()).unwrap_or_default())
}

/// TLS as the system trusts it. The server must prove who it is.
fn tls(loads_roots: bool) -> Result<MakeRustlsConnect, DatabaseRefused> {
    let mut roots = rustls::RootCertStore::empty();
    if loads_roots {
        let found = rustls_native_certs::load_native_certs();
        found.errors.iter().for_each(|error| tracing::warn!(%error, "cannot read some of the system's certificates"));
        roots.add_parsable_certificates(found.certs);
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| DatabaseRefused::Address(format!("TLS cannot be used: {error}")))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The password in a file of lines `host:port:database:user:password`, where `*` stands for anything.
fn password_in(file: &Path, config: &Config) -> Result<Option<String>, DatabaseRefused> {
    let text = fs::read_to_string(file)
        .map_err(|error| DatabaseRefused::Address(format!("cannot read {} (PGPASSFILE): {error}", file.display())))?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        _ => "localhost".to_owned(),
    };
    let port = config.get_ports().first().unwrap_or(&5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let wanted = [&host, &port, config.get_dbname().unwrap_or(user), user];
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).map(pass_fields);
    let matching = lines.find(|fields| {
        fields.len() == 5 && fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted)
    });
    Ok(matching.and_then(|mut fields| fields.pop()))
}

/// The fields of a line, separated by colons; a backslash takes the next character as it is.
fn pass_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == ':' && fields.len() < 5 {
            fields.push(String::new());
        } else if let Some(field) = fields.last_mut() {
            field.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_has_the_password() {
        for url in ["postgres://me:sec?ret@db/x", "postgres://me:sec%ret@db", "sec ret", "postgres://me:secret@/x"] {
            // Some of them are understood all the same.
            let told = Address::parse(url).map_or_else(|error| error.to_string(), |address| address.place);
            assert!(!told.contains("sec") && !told.contains("ret"), "{url}: {told}");
        }
        let address = Address::parse("postgres://me:secret@db.example:6432,b/prod?sslmode=disable").unwrap();
        assert_eq!(address.place, "db.example:6432,b:5432/prod");
        assert!(!format!("{:?}", address.hosts).contains("secret"));
    }

    #[test]
    fn a_password_is_found_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgpass");
        fs::write(&file, "# a comment\nother:*:*:*:no\ndb:5432:*:me:a\\:b:c\\\\d\n*:*:*:*:any\n").unwrap();
        let password = |url: &str| password_in(&file, &url.parse().unwrap()).unwrap();
        assert_eq!(password("postgres://me@db/x").as_deref(), Some("a:b:c\\d"));
        assert_eq!(password("postgres://you@db/x").as_deref(), Some("any"));
    }
}
