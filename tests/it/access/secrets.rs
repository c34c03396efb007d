//! Credentials are in nothing that the service writes, however much it is asked to log.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{SECRET, now, signed, token};

/// What must be found nowhere, by what it is.
type Secrets<'a> = Vec<(&'static str, &'a str)>;

#[tokio::test]
async fn no_credential_is_in_a_log_line_an_answer_a_metric_or_a_file() {
    let data = tempfile::tempdir().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let progressd = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_progressd"));
        command.args(arguments).arg("--data-dir").arg(data.path());
        command
    };
    let made = progressd(&["key", "create", "--name", "ci", "--scope", "admin"]).output().unwrap();
    let key = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    let mut service = progressd(&["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--jwt-secret", SECRET]);
    let mut service = service.stdout(Stdio::piped()).stderr(File::create(log.path()).unwrap()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let base = line.trim().strip_prefix("listening on ").unwrap().to_owned();

    let (alice, expired) = (token("alice"), signed(&json!({ "sub": "alice", "exp": now() - 1 })));
    let wrong = format!("{}wrong", key);
    let client = reqwest::Client::new();
    let mut answers = Vec::new();
    let mut ask = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        let text = format!("{:?}\n", answer.headers()) + &answer.text().await.unwrap();
        answers.push(text.clone());
        text
    };
    let new = json!({ "title": "a" });
    let task = ask(client.post(format!("{base}/api/tasks")).bearer_auth(&alice).json(&new)).await;
    let task: Value = serde_json::from_str(task.split_once('\n').unwrap().1).unwrap();
    let path = format!("{base}/api/tasks/{}", task["taskId"].as_str().unwrap());
    for credential in [&alice, &expired, &key, &wrong] {
        ask(client.get(&path).bearer_auth(credential)).await;
        ask(client.patch(&path).bearer_auth(credential).json(&json!({ "progress": 200 }))).await;
        ask(client.get(format!("{base}/api/stream?channel=user:nobody&token={credential}&dialect=no"))).await;
        ask(client.get(format!("{path}/progress?token={credential}&x=%")).header("accept", "image/png")).await;
        ask(client.get(format!("{path}?token={credential}"))).await;
        ask(client.get(format!("{base}/nothing?token={credential}")).bearer_auth(credential)).await;
        ask(client.get(&path).header("authorization", format!("Basic {credential}"))).await;
    }
    let wanted = json!({ "channels": [format!("task:{}", task["taskId"].as_str().unwrap())] });
    let asked = client.post(format!("{base}/api/tickets")).bearer_auth(&key).json(&wanted).send().await.unwrap();
    let ticket = asked.json::<Value>().await.unwrap()["ticket"].as_str().unwrap().to_owned();
    ask(client.get(format!("{base}/api/tasks?ticket={ticket}")).header("accept", "text/event-stream")).await;
    ask(client.get(format!("{path}/progress?ticket={ticket}x"))).await;
    let signed_in = client.post(format!("{base}/api/session")).bearer_auth(&alice).send().await.unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    for request in by_cookie(&client, &base, &path, &cookie) {
        ask(request).await;
    }
    ask(client.get(format!("{base}/metrics")).bearer_auth(&key)).await;
    service.kill().unwrap();
    service.wait().unwrap();

    let of_key = key.rsplit('_').next().unwrap();
    let secrets: Secrets<'_> = [
        ("the secret of tokens", SECRET),
        ("a key", of_key),
        ("a token", signature(&alice)),
        ("an expired token", signature(&expired)),
        ("a ticket", signature(&ticket)),
        ("a cookie", cookie.split_once('=').unwrap().1),
    ]
    .into();
    let logged = std::fs::read_to_string(log.path()).unwrap();
    assert!(logged.matches("the request was answered").count() > 20, "it logs each request: {logged}");
    find(&secrets, "the log", &logged);
    for answer in answers {
        find(&secrets, "an answer", &answer);
    }
    for file in files(data.path()) {
        find(&secrets, &file.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&file).unwrap()));
    }
}

/// Requests with this cookie: good ones, bad ones, and in the end one with which the session is over.
fn by_cookie(client: &reqwest::Client, base: &str, path: &str, cookie: &str) -> Vec<reqwest::RequestBuilder> {
    let session = format!("{base}/api/session");
    let mut requests = Vec::new();
    for cookie in [cookie.to_owned(), format!("{cookie}x"), format!("{cookie}; {cookie}")] {
        requests.extend([
            client.get(path).header("cookie", &cookie),
            client.get(format!("{path}/progress")).header("cookie", &cookie).header("accept", "image/png"),
            client.get(&session).header("cookie", &cookie).header("sec-fetch-site", "cross-site"),
            client.post(&session).header("cookie", &cookie),
        ]);
    }
    requests.push(client.delete(&session).header("cookie", cookie));
    requests.push(client.get(&session).header("cookie", cookie));
    requests
}

fn signature(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

fn find(secrets: &Secrets<'_>, place: &str, text: &str) {
    for (what, secret) in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} is in {place}: {line:?}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
