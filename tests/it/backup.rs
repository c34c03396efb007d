//! Backups of the real binary's data directory, made while it serves, and what a restored one knows.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use reqwest::{
    Client,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::Binary;

fn progressd(command: &str, archive: &Path, data: &Path) -> Output {
    let mut progressd = Command::new(env!("CARGO_BIN_EXE_progressd"));
    progressd.arg(command).arg(archive).arg("--data-dir").arg(data).output().unwrap()
}

fn done(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a command that failed said.
fn refused(output: Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// A server, and the URL of its tasks.
struct Serving {
    server: Binary,
    tasks: String,
}

impl Serving {
    fn on(data: &Path) -> Self {
        let server = Binary::start(data, &[]);
        Self { tasks: format!("{}/api/tasks", server.base()), server }
    }

    async fn submit(&self) -> Value {
        Client::new().post(&self.tasks).json(&json!({ "start": true })).send().await.unwrap().json().await.unwrap()
    }

    async fn report(&self, id: &str, report: Value) -> u16 {
        Client::new().patch(format!("{}/{id}", self.tasks)).json(&report).send().await.unwrap().status().as_u16()
    }

    async fn task(&self, id: &str) -> Value {
        Client::new().get(format!("{}/{id}", self.tasks)).send().await.unwrap().json().await.unwrap()
    }

    /// What a stream of a task that has ended says to who comes back with a cursor.
    async fn watch(&self, id: &str, cursor: &str) -> String {
        let url = format!("{}/{id}/progress?lastEventId={cursor}", self.tasks);
        Client::new().get(url).send().await.unwrap().text().await.unwrap()
    }
}

fn id(task: &Value) -> &str {
    task["taskId"].as_str().unwrap()
}

fn cursor(task: &Value) -> &str {
    task["cursor"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_reports_has_all_that_was_acknowledged_before_it() {
    let (old, new, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = elsewhere.path().join("progressd.tar");
    let serving = Serving::on(old.path());
    let content = vec![7_u8; 300_000];
    let file = Form::new().part("file", Part::bytes(content.clone()).file_name("a.bin"));
    let upload = Client::new().post(format!("{}/upload", serving.tasks)).multipart(file).send().await.unwrap();
    let upload: Value = upload.json().await.unwrap();
    serving.watch(id(&upload), "").await;
    fs::write(old.path().join("access/other"), "kept").unwrap();
    let task = serving.submit().await;
    assert_eq!(serving.report(id(&task), json!({ "message": "before" })).await, 200);
    let before = serving.task(id(&task)).await;

    // Reports go on while the backup is written, into a file that an older backup has.
    fs::write(&archive, "older").unwrap();
    let (from, to) = (old.path().to_owned(), archive.clone());
    let mut backup = tokio::task::spawn_blocking(move || progressd("backup", &to, &from));
    let busy = serving.submit().await;
    let mut reports = 0;
    loop {
        tokio::select! {
            output = &mut backup => break done(output.unwrap()),
            status = serving.report(id(&busy), json!({ "message": format!("{reports}") })) => assert_eq!(status, 200),
        }
        reports += 1;
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1, "nothing but the archive is left");
    assert_eq!(serving.report(id(&task), json!({ "message": "after" })).await, 200);
    let lost = serving.task(id(&task)).await;
    drop(serving.server);

    done(progressd("restore", &archive, new.path()));
    assert_eq!(fs::read_to_string(new.path().join("access/other")).unwrap(), "kept");
    let serving = Serving::on(new.path());
    assert_eq!(cursor(&serving.task(id(&task)).await), cursor(&before));
    let saved = Client::new().get(format!("{}/{}/file", serving.tasks, id(&upload))).send().await.unwrap();
    assert_eq!(saved.bytes().await.unwrap(), content);
    assert_eq!(serving.report(id(&task), json!({ "status": "completed" })).await, 200);
    let resumed = serving.watch(id(&task), cursor(&before)).await;
    assert!(resumed.contains("completed") && !resumed.contains("event: reset"), "{resumed}");
    let reset = serving.watch(id(&task), cursor(&lost)).await;
    assert!(reset.contains("event: reset") && reset.contains("completed"), "{reset}");
}

#[tokio::test]
async fn what_is_no_whole_backup_is_not_restored() {
    let (data, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = elsewhere.path().join("a.tar");
    let said = refused(progressd("backup", &archive, data.path()));
    assert!(said.contains("journal.db") && !archive.exists(), "{said}");
    let serving = Serving::on(data.path());
    let task = serving.submit().await;
    assert_eq!(serving.report(id(&task), json!({ "message": "a needle" })).await, 200);
    drop(serving);
    let said = refused(progressd("backup", &data.path().join("a.tar"), data.path()));
    assert!(said.contains("in the data directory"), "{said}");
    done(progressd("backup", &archive, data.path()));
    let said = refused(progressd("restore", &archive, data.path()));
    assert!(said.contains("is not empty"), "{said}");

    let restored = elsewhere.path().join("data");
    let whole = fs::read(&archive).unwrap();
    let place = |text: &[u8]| whole.windows(text.len()).rposition(|bytes| bytes == text).unwrap();
    let names_journal = place(b"journal.db");
    let mut damaged = whole.clone();
    damaged[place(b"needle")] ^= 1;
    let bad = elsewhere.path().join("bad.tar");
    for (bytes, why) in
        [(&whole[..whole.len() / 2], "cut"), (&whole[..names_journal], "cut off"), (&damaged, "damaged")]
    {
        fs::write(&bad, bytes).unwrap();
        refused(progressd("restore", &bad, &restored));
        assert_eq!(fs::read_dir(&restored).unwrap().count(), 0, "{why}");
    }
    let mut builder = tar::Builder::new(File::create(&bad).unwrap());
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..9].copy_from_slice(b"../stolen");
    header.set_size(1);
    header.set_cksum();
    builder.append(&header, &b"x"[..]).unwrap();
    builder.into_inner().unwrap();
    let said = refused(progressd("restore", &bad, &restored));
    assert!(said.contains("not a backup") && !elsewhere.path().join("stolen").exists(), "{said}");
    done(progressd("restore", &archive, &restored));
}
