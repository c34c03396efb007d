//! API keys: made and revoked from the command line, beside a running service or a stopped one.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use progressd::access::Scope;
use serde_json::json;

use crate::support::{TestApp, binary::Binary};

fn progressd(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
    command.args(arguments).arg("--data-dir").arg(data).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn access_is_on_as_soon_as_there_is_a_key_and_stays_on() {
    let app = TestApp::in_process().await;
    assert_eq!(app.get("/api/tasks").send().await.status(), 200);
    let key = app.key(&[Scope::Read]);
    assert_eq!(app.get("/api/tasks").send().await.refusal(), "401 credential_required");
    assert_eq!(app.get("/api/tasks").bearer(&key).send().await.status(), 200);
    app.access_files().revoke("key-0").unwrap();
    assert_eq!(app.get("/api/tasks").bearer(&key).send().await.refusal(), "401 credential_invalid");
    assert_eq!(app.get("/api/tasks").send().await.refusal(), "401 credential_required");
    let file = app.service.app.config.data_dir.join("access/keys.json");
    for broken in ["not json", "[]"] {
        std::fs::write(&file, broken).unwrap();
        assert_eq!(app.get("/api/tasks").send().await.refusal(), "401 credential_required", "{broken}");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(app.get("/api/tasks").send().await.refusal(), "401 credential_required");
}

#[tokio::test]
async fn a_key_that_has_expired_is_refused() {
    let app = TestApp::in_process().await;
    let key = app.access_files().create("short", &[Scope::Read], Some(Duration::ZERO)).unwrap();
    // The clock of the service is not the system's, which made the key.
    app.service.app.tracker.clock().step(1_000);
    let answer = app.get("/api/tasks").bearer(&key).send().await;
    assert_eq!(
        (answer.refusal().as_str(), &answer.json()["detail"]),
        ("401 credential_invalid", &json!("The token has expired."))
    );
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_beside_the_running_service() {
    let data = tempfile::tempdir().unwrap();
    let made = said(&progressd(data.path(), &["key", "create", "--name", "early", "--scope", "tasks:read"]));
    let early = made.trim_end().to_owned();
    assert_eq!(made.lines().count(), 1, "the key alone on a line");
    let service = Binary::start(data.path(), &[]);
    let client = reqwest::Client::new();
    let list = async |key: &str| {
        client.get(format!("{}/api/tasks", service.base())).bearer_auth(key).send().await.unwrap().status().as_u16()
    };
    assert_eq!(list(&early).await, 200, "one that was made while the service was stopped");
    let arguments =
        ["key", "create", "--name", "late", "--scope", "tasks:submit", "--scope", "tasks:read", "--expires", "90d"];
    let late = said(&progressd(data.path(), &arguments)).trim_end().to_owned();
    assert_eq!(list(&late).await, 200);

    let again = progressd(data.path(), &["key", "create", "--name", "late", "--scope", "admin"]);
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("a key named late exists already")
    );
    for wrong in
        [&["--name", "a b", "--scope", "admin"][..], &["--name", "a", "--scope", "tasks:everything"], &["--name", "a"]]
    {
        assert!(!progressd(data.path(), &[&["key", "create"], wrong].concat()).status.success(), "{wrong:?}");
    }

    said(&progressd(data.path(), &["key", "revoke", "early"]));
    assert_eq!(list(&early).await, 401, "at once");
    assert_eq!(list(&late).await, 200);
    assert!(!progressd(data.path(), &["key", "revoke", "early"]).status.success());

    let mut service = service;
    service.terminate();
    let table = said(&progressd(data.path(), &["key", "list"]));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0], ["id", "name", "scopes", "created", "expires", "revoked", "last used"]);
    assert_eq!((rows[1][1], rows[1][2], rows[1][4]), ("early", "tasks:read", "-"));
    assert_eq!((rows[2][1], rows[2][2], rows[2][5]), ("late", "tasks:submit,tasks:read", "-"));
    assert!(rows[1][5].starts_with("20") && rows[2][4].starts_with("20") && rows[2][6].starts_with("20"), "{table}");

    for (secret, name) in [(&early, "early"), (&late, "late")] {
        for file in walk(data.path()) {
            let bytes = std::fs::read(&file).unwrap();
            let secret = secret.rsplit('_').next().unwrap().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{name} is in {}", file.display());
        }
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data.path().join("access")), 0o700);
    for file in walk(&data.path().join("access")) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn beyond_loopback_only_with_access_or_on_demand() {
    let data = tempfile::tempdir().unwrap();
    // An address reserved for documentation (RFC 5737): nobody can listen on it, so no start succeeds.
    let start = |arguments: &[&str]| {
        let output = progressd(data.path(), &[&["serve", "--listen", "192.0.2.1:80"], arguments].concat());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let (refusal, warning) =
        ("access is off: whoever reaches it could do everything", "access is off: whoever reaches this");
    let refused = start(&[]);
    assert!(refused.contains(refusal) && refused.contains("--jwt-secret"), "{refused}");
    for open in [&["--insecure-open"][..], &["--insecure-open", "true"]] {
        let said = start(open);
        assert!(said.contains(warning) && said.contains("cannot listen on"), "{said}");
    }
    assert!(start(&["--insecure-open", "false"]).contains(refusal));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let proxied = |arguments: &[&str]| {
        let behind = ["serve", "--listen", &taken, "--trusted-proxies", "127.0.0.1"];
        String::from_utf8(progressd(data.path(), &[&behind, arguments].concat()).stderr).unwrap()
    };
    assert!(proxied(&[]).contains(refusal), "a proxy lets others in, too");
    assert!(proxied(&["--insecure-open"]).contains("cannot listen on"));
    let said = start(&["--jwt-secret", "a secret"]);
    assert!(
        !said.contains("access is off") && said.contains("cannot listen on") && !said.contains("a secret"),
        "{said}"
    );
    progressd(data.path(), &["key", "create", "--name", "a", "--scope", "admin"]);
    assert!(!start(&[]).contains("access is off"));
    for wrong in ["@/nowhere", "@", ""] {
        assert!(start(&["--jwt-secret", wrong]).contains("jwt-secret (flag --jwt-secret) is wrong"), "{wrong}");
    }
    assert!(start(&["--jwks", "/nowhere"]).contains("/nowhere: "));
    for unsafe_url in
        ["http://issuer.example/keys", "https://me:secret@issuer.example/keys", "ftp://localhost/", "file:///a"]
    {
        let said = start(&["--jwks", unsafe_url]);
        assert!(said.contains("or of http on this machine"), "{unsafe_url}: {said}");
    }
    let said = start(&["--jwks", "https://localhost:9/keys"]);
    assert!(!said.contains("access is off") && said.contains("cannot listen on"), "{said}");
}
