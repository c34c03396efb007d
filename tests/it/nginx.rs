//! The service behind Debian's nginx with the file that is shipped: only ports, addresses and paths are replaced.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use http::Version;
use progressd::testing::{SseEvent, SseParser, kill_with_children};
use reqwest::{Body, Client, ClientBuilder, Response};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authority::{Authority, Pair},
    binary::Binary,
};

/// Those of clients and of nodes.
const CONNECTIONS: usize = 16_000;
const WAIT_MAX: Duration = Duration::from_secs(30);
const CERTIFICATE: &str = "/etc/letsencrypt/live/progress.example/fullchain.pem";
const KEY: &str = "/etc/letsencrypt/live/progress.example/privkey.pem";

/// A port that stays free while whoever had it is restarted: below those that the system gives away.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = 20_000..32_000;
    let first = std::process::id() * 64 % range.len() as u32;
    loop {
        let port = range.start + (first as u16 + NEXT.fetch_add(1, Ordering::Relaxed)) % range.len() as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running nginx in a folder of its own.
pub(crate) struct Nginx {
    master: Child,
    folder: TempDir,
    ports: [u16; 4],
}

impl Nginx {
    fn start(upstream: &str, pair: &Pair) -> Self {
        Self::balance(&[upstream.to_owned()], pair, " ssl http2")
    }

    /// In front of several nodes, in turns.
    pub(crate) fn balance(nodes: &[String], pair: &Pair, protocol: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [(); 4].map(|()| free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("cert.pem"), &pair.cert).unwrap();
        fs::write(path("key.pem"), &pair.key).unwrap();
        let mut site = include_str!("../../deploy/nginx.conf").to_owned();
        let listen = |port: u16, rest: &str| format!("listen 127.0.0.1:{port}{rest};");
        for (shipped, ours) in [
            ("listen 80;", listen(ports[0], "")),
            ("listen [::]:80;", listen(ports[1], "")),
            ("listen 443 ssl http2;", listen(ports[2], protocol)),
            ("listen [::]:443 ssl http2;", listen(ports[3], protocol)),
            ("server 127.0.0.1:8080", format!("server {}", nodes.join(" max_fails=0;\nserver "))),
            (CERTIFICATE, path("cert.pem")),
            (KEY, path("key.pem")),
        ] {
            assert!(site.contains(shipped), "{shipped} is not in the file");
            site = site.replace(shipped, &ours);
        }
        fs::write(path("site.conf"), site).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
            .concat();
        let user = if geteuid().is_root() { "user root;" } else { "" };
        let main = format!(
            "{user} daemon off; worker_processes 1; worker_rlimit_nofile {CONNECTIONS}; pid {}; error_log {} info;\n\
             events {{ worker_connections {CONNECTIONS}; }}\n\
             http {{ access_log off;\n{temporary}include {}; }}\n",
            path("pid"),
            path("error.log"),
            path("site.conf")
        );
        fs::write(path("nginx.conf"), main).unwrap();
        Self { master: launch(folder.path(), ports), folder, ports }
    }

    /// Ends it as the system would, and starts it anew on the same ports.
    fn restart(&mut self) {
        self.end();
        self.master = launch(self.folder.path(), self.ports);
    }

    /// Kills all of it with SIGKILL, and starts it anew.
    pub(crate) fn kill(&mut self) {
        kill_with_children(Pid::from_child(&self.master).as_raw_pid());
        let _ended = self.master.wait();
        self.master = launch(self.folder.path(), self.ports);
    }

    fn end(&mut self) {
        // The master ends its workers.
        let _gone = kill_process(Pid::from_child(&self.master), Signal::TERM);
        let _ended = self.master.wait();
    }

    /// Where it listens for what is not redirected.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[2]))
    }

    fn url(&self, path: &str) -> String {
        format!("https://progress.example:{}{path}", self.ports[2])
    }

    /// How many files it has put bodies into, which it never should.
    fn spooled(&self) -> usize {
        ["client_body", "proxy"]
            .map(|folder| fs::read_dir(self.folder.path().join(folder)).unwrap().count())
            .iter()
            .sum()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(folder: &Path, ports: [u16; 4]) -> Child {
    let nginx = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].map(PathBuf::from);
    let nginx = nginx.iter().find(|path| path.exists()).expect("nginx is there: scripts/setup test installs it");
    let log = folder.join("error.log");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(&log);
    let mut master = command.spawn().unwrap();
    let start = Instant::now();
    while ports.iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
        let ended = master.try_wait().unwrap();
        assert!(ended.is_none() && start.elapsed() < WAIT_MAX, "{}", fs::read_to_string(&log).unwrap_or_default());
        std::thread::yield_now();
    }
    master
}

/// A service, nginx in front of it, and who signed its certificate.
struct Proxied {
    nginx: Nginx,
    authority: Authority,
    service: Binary,
    data: TempDir,
}

impl Proxied {
    fn start() -> Self {
        let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
        let service = serve(data.path(), &format!("127.0.0.1:{}", free_port()));
        let nginx = Nginx::start(service.base().strip_prefix("http://").unwrap(), &authority.issue());
        Self { nginx, authority, service, data }
    }

    fn client(&self) -> ClientBuilder {
        self.authority.client().resolve("progress.example", self.nginx.address())
    }

    /// One client for each protocol.
    fn clients(&self) -> [(Client, Version); 2] {
        let [old, new] = [self.client().http1_only(), self.client()].map(|client| client.build().unwrap());
        [(old, Version::HTTP_11), (new, Version::HTTP_2)]
    }

    /// The URL of a new task.
    async fn submit(&self, client: &Client, task: Value) -> String {
        let made = client.post(self.nginx.url("/api/tasks")).json(&task).send().await.unwrap();
        assert_eq!(made.status(), 202);
        self.nginx.url(made.headers()["location"].to_str().unwrap())
    }
}

fn serve(data: &Path, listen: &str) -> Binary {
    let behind = ["--trusted-proxies", "127.0.0.1", "--allowed-hosts", "progress.example", "--insecure-open"];
    Binary::start_on(data, listen, &behind)
}

/// A stream that is being read.
struct Watched {
    response: Response,
    parser: SseParser,
    events: Vec<SseEvent>,
}

impl Watched {
    async fn open(client: &Client, url: &str, cursor: Option<&str>) -> Self {
        let request = client.get(url).header("accept", "text/event-stream");
        let request = cursor.into_iter().fold(request, |request, cursor| request.header("last-event-id", cursor));
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { response, parser: SseParser::default(), events: Vec::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<SseEvent> {
        while self.events.is_empty() {
            let bytes = tokio::time::timeout(WAIT_MAX, self.response.chunk()).await.expect("something comes");
            let bytes = bytes.expect("the stream ends in order")?;
            self.events = self.parser.feed(&bytes);
        }
        Some(self.events.remove(0))
    }

    /// The state in the next event.
    async fn state(&mut self) -> Value {
        serde_json::from_str(&self.next().await.expect("an event").data).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_at_once() {
    let proxied = Proxied::start();
    for (client, version) in proxied.clients() {
        let task = proxied.submit(&client, json!({ "start": true })).await;
        let mut stream = Watched::open(&client, &format!("{task}/progress"), None).await;
        assert_eq!(stream.response.version(), version);
        stream.state().await;
        let mut waits = Vec::new();
        for progress in 1..=20 {
            let asked = Instant::now();
            let report = client.patch(&task).json(&json!({ "progress": progress })).send();
            let (answer, state) = tokio::join!(report, stream.state());
            assert_eq!((answer.unwrap().status().as_u16(), &state["progress"]), (200, &json!(f64::from(progress))));
            waits.push(asked.elapsed());
        }
        waits.sort();
        // A tick may be held for 50 ms; a buffer would hold all of them for ever.
        assert!(waits[10] < Duration::from_millis(100), "{waits:?} over {version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_streams_through() {
    let proxied = Proxied::start();
    for (client, version) in proxied.clients() {
        let task = proxied.submit(&client, json!({ "kind": "upload" })).await;
        let id = task.rsplit('/').next().unwrap();
        let mut stream = Watched::open(&client, &format!("{task}/progress"), None).await;
        let (pieces, body) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
        let body = futures_util::stream::unfold(body, async |mut body| {
            let piece = body.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), body))
        });
        let sending = client
            .post(proxied.nginx.url(&format!("/api/tasks/upload?taskId={id}")))
            .header("content-type", "multipart/form-data; boundary=x")
            .body(Body::wrap_stream(body));
        let sending = tokio::spawn(sending.send());
        let head = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n";
        pieces.send(head.to_vec()).await.unwrap();
        for _ in 0..4 {
            pieces.send(vec![0; 1 << 20]).await.unwrap();
        }
        // Half of it is shown before the other half is sent.
        while stream.state().await["current"].as_u64().is_none_or(|current| current == 0) {}
        assert!(!sending.is_finished());
        pieces.send(b"the end\r\n--x--\r\n".to_vec()).await.unwrap();
        drop(pieces);
        let answer = sending.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (202, version));
        let mut last = Value::Null;
        while let Some(event) = stream.next().await {
            last = serde_json::from_str(&event.data).unwrap();
        }
        assert_eq!(last["status"], "completed");
        let file = client.get(format!("{task}/file")).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(file.len(), (4 << 20) + 7);
    }
    assert_eq!(proxied.nginx.spooled(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_own_address_and_scheme_arrive() {
    let proxied = Proxied::start();
    // Not the proxy's address, and not what the client says.
    let client = proxied.client().local_address(IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let url = proxied.nginx.url("/api/tasks");
    let status = async |origin: &str| {
        let asking = client.post(&url).header("x-forwarded-for", "203.0.113.7").header("forwarded", "for=203.0.113.8");
        let asking = asking.header("x-forwarded-proto", "http").header("x-forwarded-host", "evil.example");
        asking.header("origin", origin).json(&json!({})).send().await.unwrap().status().as_u16()
    };
    let port = proxied.nginx.ports[2];
    assert_eq!(status(&format!("https://progress.example:{port}")).await, 202);
    assert_eq!(status(&format!("http://progress.example:{port}")).await, 403);
    assert_eq!(status("https://evil.example").await, 403);
    let log = proxied.service.log();
    assert_eq!(log.matches(r#""span":{"client.address":"127.0.0.2""#).count(), 3, "{log}");
    assert!(!log.contains("203.0.113"), "{log}");

    let plain = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let plain = plain.get(format!("http://127.0.0.1:{}/a?b=c", proxied.nginx.ports[0])).send().await.unwrap();
    assert_eq!(
        (plain.status().as_u16(), &plain.headers()["location"]),
        (308, &"https://127.0.0.1/a?b=c".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_outlive_a_restart_of_the_service() {
    let mut proxied = Proxied::start();
    let clients = proxied.clients();
    let task = proxied.submit(&clients[0].0, json!({ "start": true })).await;
    let progress = format!("{task}/progress");
    let mut cursors = Vec::new();
    let mut streams = Vec::new();
    for (client, _) in &clients {
        let mut stream = Watched::open(client, &progress, None).await;
        cursors.push(stream.next().await.unwrap().id);
        streams.push(stream);
    }
    let address = proxied.service.base().strip_prefix("http://").unwrap().to_owned();
    proxied.service.terminate();
    for mut stream in streams {
        assert_eq!(stream.next().await, None);
        assert!(stream.parser.retry_ms.is_some(), "it is told when to come again");
    }
    for (client, _) in &clients {
        let mut refused = Watched::open(client, &progress, None).await;
        let event = refused.next().await.unwrap();
        assert_eq!((&*event.event, refused.next().await), ("refused", None));
        let wait: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!((&wait["code"], wait["retryAfterMs"].as_u64()), (&json!("stopping"), refused.parser.retry_ms));
        let other = client.get(&task).send().await.unwrap();
        assert_eq!(
            (other.status().as_u16(), &other.headers()["content-type"]),
            (503, &"application/problem+json".parse().unwrap())
        );
        assert_eq!(other.json::<Value>().await.unwrap()["code"], "stopping");
        let posted =
            client.post(proxied.nginx.url("/api/tasks")).header("accept", "text/event-stream").json(&json!({}));
        assert_eq!(posted.send().await.unwrap().status(), 503, "only a GET is repeated by itself");
    }
    proxied.service = serve(proxied.data.path(), &address);
    for ((client, _), cursor) in clients.iter().zip(&cursors) {
        let mut stream = Watched::open(client, &progress, Some(cursor)).await;
        let report = client.patch(&task).json(&json!({ "message": "again" })).send().await.unwrap();
        assert_eq!(report.status(), 200);
        assert_eq!(stream.state().await["message"], "again", "no reset, nothing twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_outlive_a_restart_of_nginx() {
    let mut proxied = Proxied::start();
    for (client, _) in proxied.clients() {
        let task = proxied.submit(&client, json!({ "start": true })).await;
        let progress = format!("{task}/progress");
        let mut stream = Watched::open(&client, &progress, None).await;
        let cursor = stream.next().await.unwrap().id;
        proxied.nginx.restart();
        // The old one is gone, in order or not.
        while let Ok(Some(_)) = stream.response.chunk().await {}
        let direct = format!("{}{}", proxied.service.base(), &task[proxied.nginx.url("").len()..]);
        let missed = Client::builder().no_proxy().build().unwrap().patch(direct).json(&json!({ "message": "missed" }));
        assert_eq!(missed.send().await.unwrap().status(), 200);
        let mut stream = Watched::open(&client, &progress, Some(&cursor)).await;
        assert_eq!(stream.state().await["message"], "missed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_back_is_used_at_once() {
    let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
    let nodes = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let nginx = Nginx::balance(&nodes, &authority.issue(), " ssl http2");
    let client = authority.client().resolve("progress.example", nginx.address()).build().unwrap();
    let url = nginx.url("/api/tasks");
    let status = async || client.get(&url).send().await.unwrap().status().as_u16();
    assert_eq!(status().await, 503, "both have failed");
    let _node = serve(data.path(), &nodes[1]);
    assert_eq!([status().await, status().await], [200, 200]);
}
