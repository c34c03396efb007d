//! Uploads, from outside: the real binary, real sockets, a real disk.

use std::{fs, path::Path, time::Duration};

use futures_util::future::join_all;
use reqwest::{
    Client, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::binary::Binary;

const BOUNDARY: &str = "xxBOUNDARYxx";

/// A server with a directory of its own.
struct House {
    binary: Binary,
    data: TempDir,
    client: Client,
}

impl House {
    fn new(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { binary: Binary::start(data.path(), arguments), data, client: Client::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.binary.base())
    }

    async fn send(&self, query: &str, form: Form) -> Response {
        self.client.post(self.url(&format!("/api/tasks/upload{query}"))).multipart(form).send().await.unwrap()
    }

    /// Sends bytes as they are, and reads the answer.
    async fn send_raw(&self, body: &[u8]) -> Response {
        let request = self.client.post(self.url("/api/tasks/upload")).body(body.to_vec());
        request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}")).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// The task's last state.
    async fn end(&self, id: &str) -> Value {
        let mut etag = String::from("\"none\"");
        loop {
            let request = self.client.get(self.url(&format!("/api/tasks/{id}")));
            let answer = request.header("prefer", "wait=30").header("if-none-match", &etag).send().await.unwrap();
            assert_eq!(answer.status(), 200, "a long-poll is answered by the change that it waits for");
            etag = answer.headers()["etag"].to_str().unwrap().to_owned();
            let task: Value = answer.json().await.unwrap();
            if ["completed", "error", "cancelled"].contains(&task["status"].as_str().unwrap()) {
                return task;
            }
        }
    }

    /// The last state of the only task.
    async fn end_of_only(&self) -> Value {
        let page: Value = self.get("/api/tasks").await.json().await.unwrap();
        let tasks = page["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), 1, "{page}");
        self.end(tasks[0]["taskId"].as_str().unwrap()).await
    }

    /// Waits until nothing of an upload is on the disk: it is removed right before or after its task's end.
    async fn assert_no_files(&self) {
        let left = || [listed(self.data.path(), "incoming"), listed(self.data.path(), "files")].concat();
        let emptied = async {
            while !left().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let emptied = tokio::time::timeout(Duration::from_secs(10), emptied).await;
        assert!(emptied.is_ok(), "left behind: {:?}", left());
    }
}

/// The files in a directory, but for the one that names its store.
fn listed(data: &Path, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(data.join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "store").collect()
}

fn file(content: impl Into<Vec<u8>>) -> Part {
    Part::bytes(content.into()).file_name("a.bin")
}

fn form(content: impl Into<Vec<u8>>) -> Form {
    Form::new().part("file", file(content))
}

fn head(length: usize) -> String {
    format!(
        "POST /api/tasks/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    )
}

fn part(name: &str, content: &str) -> String {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a\"\r\n\r\n{content}\r\n")
}

/// The refusal as it is answered and as its task has it; nothing is left.
async fn refused(house: &House, answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    let task = house.end(problem["taskId"].as_str().unwrap()).await;
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("error"), &problem["code"]));
    house.assert_no_files().await;
    (status, problem["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_sent() {
    let house = House::new(&[]);
    let content: Vec<u8> = (0..20_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let named = Part::bytes(content.clone()).file_name("../Füße \"1\".bin");
    let answer = house.send("?userId=alice&title=A%20file", Form::new().part("file", named)).await;
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let id = answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/api/tasks/{id}"));

    let task = house.end(&id).await;
    let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let blake3 = blake3::hash(&content).to_hex().to_string();
    assert_eq!(
        task["result"],
        json!({"fileName": "Füße \"1\".bin", "size": 20_000_000, "contentType": "application/octet-stream",
               "blake3": blake3, "sha256": sha256, "file": format!("/api/tasks/{id}/file")})
    );
    assert_eq!(
        (&task["userId"], &task["title"], &task["current"]),
        (&json!("alice"), &json!("A file"), &json!(20_000_000))
    );
    assert_eq!(listed(house.data.path(), "files"), [id.as_str()]);

    let path = format!("/api/tasks/{id}/file");
    let whole = house.get(&path).await;
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", "20000000"),
        ("content-disposition", "attachment; filename=\"F__e _1_.bin\"; filename*=UTF-8''F%C3%BC%C3%9Fe%20%221%22.bin"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("etag", &format!("\"{blake3}\"")),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(whole.headers()[name], value, "{name}");
        assert_eq!(whole.headers().get_all(name).iter().count(), 1, "{name}");
    }
    assert!(whole.bytes().await.unwrap() == content);
    let ask = |name: &str, value: &str| house.client.get(house.url(&path)).header(name, value).send();
    let range = ask("range", "bytes=5-9").await.unwrap();
    assert_eq!(
        (range.status().as_u16(), &range.headers()["content-range"]),
        (206, &"bytes 5-9/20000000".parse().unwrap())
    );
    assert_eq!(range.bytes().await.unwrap(), content[5..10]);
    assert_eq!(ask("range", "bytes=20000000-").await.unwrap().status(), 416);
    assert_eq!(ask("if-none-match", &format!("\"{blake3}\"")).await.unwrap().status(), 304);
    let head = house.client.head(house.url(&path)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"20000000".parse().unwrap()));

    let deleted = house.client.delete(house.url(&location)).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    house.assert_no_files().await;
    assert_eq!(house.get(&path).await.status(), 410);
}

#[tokio::test]
async fn a_task_made_before_is_watched_from_before_the_first_byte() {
    let house = House::new(&[]);
    let id = "019a0000-0000-7000-8000-000000000001";
    let url = house.url(&format!("/api/tasks/{id}"));
    let put = house.client.put(&url).json(&json!({"kind": "upload", "title": "a.bin", "total": 3_000_000}));
    let made: Value = put.send().await.unwrap().json().await.unwrap();
    assert_eq!(made["steps"].as_array().unwrap().len(), 4, "the job's own steps: {made}");
    let early = house.get(&format!("/api/tasks/{id}/file")).await;
    assert_eq!(early.status(), 409);
    let stream = house.client.get(format!("{url}/progress")).send().await.unwrap();
    let stream = tokio::spawn(stream.text());
    assert_eq!(house.send(&format!("?taskId={id}"), form(vec![7; 3_000_000])).await.status(), 202);
    let events = stream.await.unwrap().unwrap();
    let bar: Vec<f64> = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).unwrap()["progress"].as_f64())
        .collect();
    assert!(bar.len() >= 3 && bar.is_sorted() && bar.last() == Some(&100.0), "{bar:?}");

    let again = house.send(&format!("?taskId={id}"), form("x")).await;
    assert_eq!(
        (again.status().as_u16(), again.json::<Value>().await.unwrap()["code"].as_str()),
        (409, Some("task_final"))
    );
    let other = house.client.post(house.url("/api/tasks")).json(&json!({"kind": "other"})).send().await.unwrap();
    let other: Value = other.json().await.unwrap();
    for (query, status) in [
        ("?taskId=019a0000-0000-7000-8000-000000000002".to_owned(), 404),
        (format!("?taskId={}", other["taskId"].as_str().unwrap()), 422),
        ("?taskId=x".to_owned(), 422),
        (format!("?taskId={id}&title=x"), 422),
        ("?userId=a%20b".to_owned(), 422),
        ("?colour=red".to_owned(), 400),
    ] {
        assert_eq!(house.send(&query, form("x")).await.status(), status, "{query}");
    }
    house.client.delete(&url).send().await.unwrap();
    assert_eq!(house.send(&format!("?taskId={id}"), form("x")).await.status(), 410);
}

#[tokio::test]
async fn forms_without_one_good_file_are_refused() {
    let house = House::new(&["--max-upload", "100000", "--upload-types", "image/*"]);
    let end = format!("--{BOUNDARY}--\r\n");
    let bomb = "x".repeat(1_000_000);
    for (body, status, code) in [
        (String::new(), 422, "file_missing"),
        (end.clone(), 422, "file_missing"),
        (part("other", "x") + &end, 422, "unknown_field"),
        (part("file", "x") + &part("file", "y") + &end, 422, "too_many_files"),
        (part("file", "x"), 400, "malformed_form"),
        ("--other\r\n\r\n--other--\r\n".to_owned(), 400, "malformed_form"),
        (format!("--{BOUNDARY}\r\nX: {}", &bomb[..50_000]), 431, "form_head_too_large"),
        // Large enough that it is refused while the client still sends: it must read why all the same.
        (part("file", &bomb) + &end, 413, "upload_too_large"),
        (format!("{bomb}{bomb}"), 413, "upload_too_large"),
    ] {
        let answer = house.send_raw(body.as_bytes()).await;
        assert_eq!(refused(&house, answer).await, (status, code.to_owned()), "{:.80}", body);
    }

    let wrong_type = house.send("", form("just words")).await;
    assert_eq!(wrong_type.status(), 202, "it was received");
    let id = wrong_type.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    let task = house.end(&id).await;
    assert_eq!((&task["error"]["code"], &task["error"]["status"]), (&json!("type_not_allowed"), &json!(415)));
    house.assert_no_files().await;
    assert_eq!(house.get(&format!("/api/tasks/{id}/file")).await.status(), 404);

    // What is no form at all becomes no task.
    let before = house.get("/api/tasks?limit=500").await.text().await.unwrap();
    for (content_type, status) in [("application/json", 415), ("multipart/form-data", 400)] {
        let request = house.client.post(house.url("/api/tasks/upload")).header("content-type", content_type);
        assert_eq!(request.body("{}").send().await.unwrap().status(), status);
    }
    assert_eq!(house.get("/api/tasks?limit=500").await.text().await.unwrap(), before);
}

#[tokio::test]
async fn an_upload_that_is_hung_up_on_ends_in_an_error() {
    let house = House::new(&[]);
    let mut socket = TcpStream::connect(house.binary.base().strip_prefix("http://").unwrap()).await.unwrap();
    let half = format!("{}\r\n{}", head(1_000_000), part("file", &"x".repeat(500_000)));
    socket.write_all(half.as_bytes()).await.unwrap();
    // The task is there, and counts what is on the disk, before the hang-up.
    loop {
        let page: Value = house.get("/api/tasks").await.json().await.unwrap();
        if page["tasks"][0]["current"].as_u64() > Some(400_000) {
            assert_eq!(listed(house.data.path(), "incoming").len(), 1);
            break;
        }
    }
    drop(socket);
    let task = house.end_of_only().await;
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("error"), &json!("upload_interrupted")));
    house.assert_no_files().await;
}

#[tokio::test]
async fn a_hang_up_after_the_last_byte_changes_nothing() {
    let house = House::new(&[]);
    let body = part("file", &"x".repeat(5_000_000)) + &format!("--{BOUNDARY}--\r\n");
    let mut socket = TcpStream::connect(house.binary.base().strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(format!("{}\r\n{body}", head(body.len())).as_bytes()).await.unwrap();
    while house.get("/api/tasks").await.json::<Value>().await.unwrap()["tasks"][0]["current"] != 5_000_000 {}
    drop(socket);
    assert_eq!(house.end_of_only().await["status"], "completed");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_is_refused_first() {
    let house = House::new(&["--max-upload", "1000"]);
    let address = house.binary.base();
    for (length, expected) in [(500, "HTTP/1.1 100 Continue"), (1_000_000, "HTTP/1.1 413 ")] {
        let mut socket = TcpStream::connect(address.strip_prefix("http://").unwrap()).await.unwrap();
        let request = format!("{}Expect: 100-continue\r\n\r\n", head(length));
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; expected.len()];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for() {
    let house = House::new(&["--body-timeout", "1s"]);
    let mut socket = TcpStream::connect(house.binary.base().strip_prefix("http://").unwrap()).await.unwrap();
    let half = format!("{}\r\n{}", head(1_000_000), part("file", "a beginning"));
    socket.write_all(half.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"body_timed_out\""), "{answer}");
    assert_eq!(house.end_of_only().await["error"]["code"], "body_timed_out");
    house.assert_no_files().await;
}

#[tokio::test]
async fn a_cancel_ends_an_upload_and_tells_its_sender() {
    let house = House::new(&[]);
    let mut socket = TcpStream::connect(house.binary.base().strip_prefix("http://").unwrap()).await.unwrap();
    let half = format!("{}\r\n{}", head(1_000_000), part("file", "a beginning"));
    socket.write_all(half.as_bytes()).await.unwrap();
    let id = loop {
        let page: Value = house.get("/api/tasks").await.json().await.unwrap();
        if page["tasks"][0]["current"].as_u64() > Some(0) {
            break page["tasks"][0]["taskId"].as_str().unwrap().to_owned();
        }
    };
    let cancel = house.client.post(house.url(&format!("/api/tasks/{id}/cancel"))).send().await.unwrap();
    assert_eq!(cancel.status(), 200);
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("\"code\":\"task_cancelled\""), "{answer}");
    assert_eq!(house.end(&id).await["status"], "cancelled");
    house.assert_no_files().await;
}

#[tokio::test]
async fn an_upload_that_was_acknowledged_survives_the_end_of_the_service() {
    for end in [Binary::kill, Binary::terminate] {
        // One at a time, so that most of them still wait when the service ends.
        let mut house = House::new(&["--job-concurrency", "1"]);
        let contents: Vec<Vec<u8>> = (1..=4).map(|byte| vec![byte; 20_000_000]).collect();
        let sending = contents.iter().map(|content| house.send("", form(content.clone())));
        let mut ids = Vec::new();
        for answer in join_all(sending).await {
            assert_eq!(answer.status(), 202);
            ids.push(answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned());
        }
        end(&mut house.binary);
        assert!(!listed(house.data.path(), "incoming").is_empty(), "not all was done when it ended");
        house.binary = Binary::start(house.data.path(), &[]);
        for (id, content) in ids.iter().zip(contents) {
            let task = house.end(id).await;
            assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)), "{task}");
            let file = house.get(&format!("/api/tasks/{id}/file")).await.bytes().await.unwrap();
            assert!(file == content, "the bytes are those that were sent");
        }
        assert!(listed(house.data.path(), "incoming").is_empty());
    }
}

#[tokio::test]
async fn files_stay_with_the_journal_that_knows_them() {
    let mut house = House::new(&[]);
    let answer = house.send("", form("old")).await;
    let id = answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    assert_eq!(house.end(&id).await["status"], "completed");
    let file = format!("/api/tasks/{id}/file");
    let elsewhere = tempfile::tempdir().unwrap();
    let move_journal = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_name().to_str().unwrap().starts_with("journal.db") {
                fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    };

    house.binary.terminate();
    move_journal(house.data.path(), elsewhere.path());
    let third = tempfile::tempdir().unwrap();
    Binary::start(third.path(), &[]).terminate();
    move_journal(third.path(), house.data.path());
    house.binary = Binary::start(house.data.path(), &[]);
    assert_eq!(house.get(&file).await.status(), 404);
    let answer = house.send("", form("new")).await;
    let other = answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    assert_eq!(house.end(&other).await["status"], "completed");
    assert_eq!(listed(house.data.path(), "files"), [other.as_str()]);

    house.binary.terminate();
    move_journal(house.data.path(), third.path());
    move_journal(elsewhere.path(), house.data.path());
    house.binary = Binary::start(house.data.path(), &[]);
    assert_eq!(house.get(&file).await.text().await.unwrap(), "old");

    house.binary.terminate();
    move_journal(house.data.path(), elsewhere.path());
    move_journal(third.path(), house.data.path());
    house.binary = Binary::start(house.data.path(), &[]);
    let file = format!("/api/tasks/{other}/file");
    assert_eq!(house.get(&file).await.text().await.unwrap(), "new");
}

#[tokio::test]
async fn after_a_crash_nothing_is_left_of_what_was_half_received() {
    let mut house = House::new(&[]);
    let mut socket = TcpStream::connect(house.binary.base().strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(format!("{}\r\n{}", head(1_000_000), part("file", "a beginning")).as_bytes()).await.unwrap();
    while house.get("/api/tasks").await.json::<Value>().await.unwrap()["tasks"][0]["current"].is_null() {}
    let simulation = json!({"kind": "simulate", "maxAttempts": 2, "input": {"steps": 1, "intervalMs": 500}});
    let simulation = house.client.post(house.url("/api/tasks")).json(&simulation).send().await.unwrap();
    let simulation = simulation.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
    loop {
        let task: Value = house.get(&format!("/api/tasks/{simulation}")).await.json().await.unwrap();
        if task["status"] != "pending" {
            break;
        }
    }
    house.binary.kill();
    assert_eq!(listed(house.data.path(), "incoming").len(), 1);
    house.binary = Binary::start(house.data.path(), &[]);
    house.assert_no_files().await;
    let retried = house.end(&simulation).await;
    assert_eq!((&retried["status"], &retried["attempt"]), (&json!("completed"), &json!(2)));
    let page: Value = house.get("/api/tasks?kind=upload").await.json().await.unwrap();
    let upload = house.end(page["tasks"][0]["taskId"].as_str().unwrap()).await;
    assert_eq!(upload["error"]["code"], "worker_lost");
}
