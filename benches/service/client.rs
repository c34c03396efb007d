//! Clients: a keep-alive HTTP/1.1 client that knows only what is needed here, and loads made of many of them.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::server::Server;

/// Connections that fill a store.
const FILLERS: usize = 256;

/// A request, as its bytes.
pub(crate) struct Ask(String);

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    pub(crate) fn patch(path: &str, body: &str) -> Self {
        Self::with_body("PATCH", path, "", body)
    }

    pub(crate) fn put(path: &str, body: &str) -> Self {
        Self::with_body("PUT", path, "", body)
    }

    pub(crate) fn post(path: &str, body: &str) -> Self {
        Self::with_body("POST", path, "", body)
    }

    /// The n-th task of a store; asked again it is the same one.
    pub(crate) fn keyed(nth: usize) -> Self {
        Self::with_body("POST", "/api/tasks", &format!("idempotency-key: key-{nth}\r\n"), &new_task(nth))
    }

    fn with_body(method: &str, path: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    }
}

/// The body of a small task.
pub(crate) fn new_task(nth: usize) -> String {
    let user = nth % 1_000;
    format!(r#"{{"kind":"import","title":"Customers","userId":"user-{user}","total":1200,"unit":"rows","start":true}}"#)
}

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(8192) }
    }

    /// Sends a request and gives the body of its answer, which must be a success.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> String {
        self.stream.write_all(ask.0.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server hung up");
            let Some(head) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&self.buffer[..head]);
            let length: usize =
                text.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            if self.buffer.len() >= head + 4 + length {
                let body = String::from_utf8_lossy(&self.buffer[head + 4..]);
                assert!(text.starts_with("HTTP/1.1 2"), "{text}\n{body}");
                return body.into_owned();
            }
        }
    }

    /// Submits a task and gives its path.
    pub(crate) async fn submit(&mut self, ask: &Ask) -> String {
        let body = self.ask(ask).await;
        format!("/api/tasks/{}", &body.split("\"taskId\":\"").nth(1).unwrap()[..36])
    }
}

/// Clients that ask anew as soon as they are answered.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    started: Instant,
    clients: JoinSet<Vec<Duration>>,
}

/// What came of a load.
pub(crate) struct Answers {
    pub(crate) seconds: f64,
    pub(crate) latencies: Vec<Duration>,
}

impl Answers {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }
}

impl Load {
    /// `asks` gives, for the number of a client, what that client asks with the number of its request.
    pub(crate) async fn start<A>(server: &Server, clients: usize, asks: impl Fn(usize) -> A) -> Self
    where
        A: Fn(usize) -> Ask + Send + Sync + 'static,
    {
        let mut load = Self { stop: Arc::default(), started: Instant::now(), clients: JoinSet::new() };
        for number in 0..clients {
            let (mut client, ask) = (Client::connect(&server.address).await, asks(number));
            let stop = Arc::clone(&load.stop);
            load.clients.spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let ask = ask(latencies.len());
                    let sent = Instant::now();
                    client.ask(&ask).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            });
        }
        load
    }

    pub(crate) async fn end(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let latencies = self.clients.join_all().await.into_iter().flatten().collect();
        Answers { seconds: self.started.elapsed().as_secs_f64(), latencies }
    }
}

/// Makes small tasks that have idempotency keys, completes all but those that `stays_live` names by their number, and
/// gives the paths of these.
pub(crate) async fn fill(server: &Server, numbers: Range<usize>, stays_live: fn(usize) -> bool) -> Vec<String> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS.min(numbers.len()) {
        let (next, address, end) = (Arc::clone(&next), server.address.clone(), numbers.end);
        fillers.spawn(async move {
            let (mut client, mut live) = (Client::connect(&address).await, Vec::new());
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= end {
                    break live;
                }
                let task = client.submit(&Ask::keyed(nth)).await;
                if stays_live(nth) {
                    live.push(task);
                } else {
                    client.ask(&Ask::patch(&task, r#"{"status":"completed"}"#)).await;
                }
            }
        });
    }
    fillers.join_all().await.concat()
}
