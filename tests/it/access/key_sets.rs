//! The keys of whoever signs people in, as they change: in a file, and at a URL.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, response::IntoResponse, routing::get, serve::Listener};
use http::{StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use progressd::{access::Scope, config::KeySource};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{let_guess, now};
use crate::support::{TestApp, authority::Authority, binary::Binary};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys");

/// The token of alice, signed with one of the keys of the fixtures under this name.
fn token_of(key: &str, id: &str) -> String {
    let der = std::fs::read(format!("{FOLDER}/{key}.der")).unwrap();
    let (algorithm, key) = match key {
        "es256" => (Algorithm::ES256, EncodingKey::from_ec_der(&der)),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_der(&der)),
    };
    let header = Header { kid: Some(id.into()), ..Header::new(algorithm) };
    encode(&header, &json!({ "sub": "alice", "exp": now() + 3600 }), &key).unwrap()
}

/// A set with the public half of that key under this name.
fn set_of(kind: &str, id: &str) -> String {
    let set: Value = serde_json::from_slice(&std::fs::read(format!("{FOLDER}/jwks.json")).unwrap()).unwrap();
    let mut key = set["keys"].as_array().unwrap().iter().find(|key| key["kty"] == kind).unwrap().clone();
    key["kid"] = json!(id);
    json!({ "keys": [key] }).to_string()
}

async fn status(app: &TestApp, token: &str) -> u16 {
    app.get("/api/tasks").bearer(token).send().await.status()
}

/// An issuer on loopback that answers what it is told to.
struct Issuer {
    url: String,
    says: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(status: StatusCode, says: String) -> Self {
        let (says, asked) = (Arc::new(Mutex::new((status, says))), Arc::new(AtomicUsize::new(0)));
        let (told, count) = (Arc::clone(&says), Arc::clone(&asked));
        let answer = async move || {
            count.fetch_add(1, Ordering::Relaxed);
            let (status, text) = told.lock().unwrap().clone();
            (status, [(header::LOCATION, "/others"), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
        };
        let others = get(async || set_of("EC", "others"));
        let router = Router::new().route("/keys", get(answer)).route("/others", others);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, says, asked }
    }

    async fn app(&self) -> TestApp {
        let url = KeySource::Url(self.url.clone());
        TestApp::with(|config| {
            config.access.jwks = Some(url);
            let_guess(config);
        })
        .await
    }

    fn say(&self, status: StatusCode, text: String) {
        *self.says.lock().unwrap() = (status, text);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn let_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_of_a_url_are_asked_for_again_when_a_token_names_another() {
    let issuer = Issuer::start(StatusCode::OK, set_of("EC", "first")).await;
    let app = issuer.app().await;
    let (first, second) = (token_of("es256", "first"), token_of("eddsa", "second"));
    assert_eq!((issuer.asked(), status(&app, &first).await), (1, 200), "at the start");
    issuer.say(StatusCode::OK, set_of("OKP", "second"));
    assert_eq!((status(&app, &second).await, issuer.asked()), (401, 1), "it was asked a moment ago");
    let_pass(Duration::from_secs(11)).await;
    assert_eq!((status(&app, &second).await, issuer.asked()), (200, 2));
    assert_eq!(status(&app, &first).await, 401, "it is withdrawn");
    let_pass(Duration::from_secs(11)).await;
    for guess in 0..100 {
        assert_eq!(status(&app, &token_of("es256", &guess.to_string())).await, 401);
    }
    assert_eq!((issuer.asked(), status(&app, &second).await), (3, 200), "guesses ask once");

    // An issuer that is away, or talks nonsense, takes nothing from what is known.
    for (status_, text) in [
        (StatusCode::SERVICE_UNAVAILABLE, String::new()),
        (StatusCode::OK, "<html>".into()),
        (StatusCode::OK, json!({ "keys": [] }).to_string()),
        (StatusCode::OK, " ".repeat(300 * 1024) + &set_of("EC", "first")),
        (StatusCode::FOUND, String::new()),
    ] {
        issuer.say(status_, text);
        let_pass(Duration::from_secs(11)).await;
        assert_eq!(status(&app, &first).await, 401, "{status_}");
        assert_eq!(status(&app, &second).await, 200, "{status_}");
    }
    assert_eq!(status(&app, &token_of("es256", "others")).await, 401, "a redirect is not followed");
}

#[tokio::test]
async fn until_keys_can_be_had_people_are_asked_to_come_again() {
    let issuer = Issuer::start(StatusCode::BAD_GATEWAY, String::new()).await;
    let app = issuer.app().await;
    let token = token_of("es256", "first");
    assert_eq!(app.get("/api/tasks").bearer(&token).send().await.refusal(), "503 token_keys_unavailable");
    let stream = app.get(&format!("/api/stream?token={token}")).send().await;
    assert!(stream.status() == 200 && stream.text().contains("event: refused"), "{stream:?}");
    assert_eq!(status(&app, &app.key(&[Scope::Read])).await, 200, "programs need none");
    assert_eq!(app.get("/api/tasks").send().await.refusal(), "401 credential_required", "it does not open");
    issuer.say(StatusCode::OK, set_of("EC", "first"));
    let_pass(Duration::from_secs(11)).await;
    assert_eq!(status(&app, &token).await, 200);
}

/// Connections of a listener, under TLS.
struct TlsListener(TcpListener, TlsAcceptor);

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = self.0.accept().await.unwrap();
            // A client that does not trust the certificate ends the handshake.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_from_an_issuer_whose_certificate_is_trusted() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    let router = Router::new().route("/keys", get(async || set_of("EC", "first")));
    tokio::spawn(axum::serve(TlsListener(listener, authority.issue().acceptor()), router).into_future());
    for (trusted, status) in [(authority.pem(), 200), (Authority::new().pem(), 503)] {
        let (file, data) = (folder.path().join("trusted.pem"), tempfile::tempdir().unwrap());
        std::fs::write(&file, trusted).unwrap();
        let service = Binary::start_with(data.path(), &["--jwks", &url], &[("SSL_CERT_FILE", &file)]);
        let request = reqwest::Client::new().get(format!("{}/api/tasks", service.base()));
        let answer = request.bearer_auth(token_of("es256", "first")).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn keys_of_a_file_are_read_again_when_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let replace = |text: &str| {
        let draft = folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &file).unwrap();
    };
    replace(&set_of("EC", "first"));
    let source = KeySource::File(file.clone());
    let app = TestApp::with(|config| config.access.jwks = Some(source)).await;
    let (first, second) = (token_of("es256", "first"), token_of("eddsa", "second"));
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (200, 401));
    replace(&set_of("OKP", "second"));
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (401, 200));
    replace("not json");
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (401, 200), "what is known stays");
}
