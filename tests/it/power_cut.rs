//! A power cut: the real binary is killed, and what it had not synced is forgotten. What it had acknowledged is there.
//!
//! A shim that is preloaded into the server (`tests/power_cut/shim.c`) keeps what each fsync made durable. From that the
//! test builds the worst that a power cut may leave: no content that was not synced, no name whose directory was not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{
    Client,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::support::binary::Binary;

const TASKS: usize = 25;
const UPLOADS: u32 = 3;

/// After which acknowledgement the power is cut.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Report,
    Upload,
}

/// What was acknowledged before a cut.
#[derive(Default)]
struct Acknowledged {
    /// Tasks with the last `current` that was answered, and the final status if one was.
    tasks: Vec<(String, u64, Option<String>)>,
    /// Uploads with their bytes.
    uploads: Vec<(String, Vec<u8>)>,
}

fn build_shim(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_cut/shim.c");
    let shim = directory.join("shim.so");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&shim).arg(source).status();
    assert!(built.expect("a C compiler").success());
    shim
}

/// Builds what is durable: `listing` is the kept listing of a directory.
fn restore(kept: &Path, listing: &str, into: &Path) {
    fs::create_dir_all(into).unwrap();
    // A directory that was never synced has nothing in it.
    let entries = fs::read_to_string(kept.join(listing)).unwrap_or_default();
    for entry in entries.lines() {
        let mut parts = entry.splitn(3, ' ');
        let (kind, key, name) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        if kind == "d" {
            restore(kept, key, &into.join(name));
        } else if !name.ends_with("-shm") {
            // Shared memory is made anew. A file that was never synced is empty.
            fs::write(into.join(name), fs::read(kept.join(key)).unwrap_or_default()).unwrap();
        }
    }
}

/// Lets a server acknowledge things, and cuts the power at once after the last.
async fn run(server: &mut Binary, last: Last) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    if last == Last::Report {
        upload(&server.base(), &mut acknowledged).await;
    }
    report(&server.base(), &mut acknowledged).await;
    if last == Last::Upload {
        upload(&server.base(), &mut acknowledged).await;
    }
    server.kill();
    acknowledged
}

async fn report(base: &str, acknowledged: &mut Acknowledged) {
    let client = Client::new();
    for nth in 0..TASKS {
        let new = json!({ "start": true, "total": 100 });
        let made = client.post(format!("{base}/api/tasks")).json(&new).send().await.unwrap();
        let id = made.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
        let ends = nth % 2 == 0;
        for current in 1..=4 {
            let status = if current == 4 && ends { "completed" } else { "processing" };
            let report = json!({ "current": current, "status": status });
            let answer = client.patch(format!("{base}/api/tasks/{id}")).json(&report).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        acknowledged.tasks.push((id, 4, ends.then(|| "completed".to_owned())));
    }
}

async fn upload(base: &str, acknowledged: &mut Acknowledged) {
    for nth in 0..UPLOADS {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(|index| index.wrapping_mul(nth + 7).to_le_bytes()).collect();
        let form = Form::new().part("file", Part::bytes(bytes.clone()).file_name("a.bin"));
        let answer = Client::new().post(format!("{base}/api/tasks/upload")).multipart(form).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let id = answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned();
        acknowledged.uploads.push((id, bytes));
    }
}

async fn check(base: &str, acknowledged: &Acknowledged) {
    let client = Client::new();
    for (id, current, status) in &acknowledged.tasks {
        let answer = client.get(format!("{base}/api/tasks/{id}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{id} was acknowledged and is gone");
        let task: Value = answer.json().await.unwrap();
        assert_eq!(task["current"], *current, "{task}");
        if let Some(status) = status {
            assert_eq!(task["status"], status.as_str(), "{task}");
        }
    }
    for (id, bytes) in &acknowledged.uploads {
        // It ends when the upload does.
        let stream = client.get(format!("{base}/api/tasks/{id}/progress")).send().await.unwrap();
        let stream = stream.text().await.unwrap();
        assert!(stream.contains("\"status\":\"completed\""), "{id} was acknowledged: {stream}");
        let file = client.get(format!("{base}/api/tasks/{id}/file")).send().await.unwrap();
        assert_eq!(file.status(), 200, "{id}");
        assert!(file.bytes().await.unwrap() == bytes, "the file of {id} has other bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut() {
    let tools = tempfile::tempdir().unwrap();
    let shim = build_shim(tools.path());
    for last in [Last::Upload, Last::Report] {
        let (root, kept, left) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = fs::canonicalize(root.path()).unwrap();
        let environment = [("LD_PRELOAD", shim.as_path()), ("POWER_CUT_ROOT", &root), ("POWER_CUT_KEPT", kept.path())];
        // Two directories that are to be made, and so to be synced.
        let mut server = Binary::start_with(&root.join("made/data"), &[], &environment);
        let acknowledged = run(&mut server, last).await;
        restore(kept.path(), "root", left.path());
        let server = Binary::start(&left.path().join("made/data"), &[]);
        check(&server.base(), &acknowledged).await;
    }
}
