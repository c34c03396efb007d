//! The routes of earlier systems, byte for byte.

use std::time::Duration;

use progressd::{event::ChannelName, people};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Answer, Events, TestApp};

impl TestApp {
    async fn connect(&self, user: &str) -> Events {
        self.get(&format!("/sse/connect/{user}")).events().await
    }

    async fn say(&self, user: &str, text: &str) {
        let draft = people::message(&ChannelName::user(user).unwrap(), text.to_owned().into());
        self.service.app.tracker.append(vec![draft], None).await.unwrap();
    }

    async fn presence(&self, user: &str) -> (String, u64) {
        let answer = self.get(&format!("/api/users/{user}")).send().await.json();
        assert_eq!(answer["userId"], user);
        assert!(answer["since"].as_str().unwrap().ends_with('Z'), "{answer}");
        (answer["status"].as_str().unwrap().to_owned(), answer["connections"].as_u64().unwrap())
    }
}

/// The texts of messages in plain frames, read by hand: no id, no name, no retry.
fn plain(text: &str) -> Vec<&str> {
    let frames = text.strip_suffix("\n\n").unwrap().split("\n\n");
    frames.map(|frame| frame.strip_prefix("data: ").unwrap_or_else(|| panic!("{frame:?} is not plain"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_user_connects_and_is_kept_alive() {
    let app = TestApp::in_process().await;
    let started = Instant::now();
    let mut events = app.connect("alice").await;
    assert_eq!((events.status(), &events.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    events.next().await;
    events.next().await;
    assert_eq!(events.text(), "data: User 'alice' connected\n\ndata: <3: Keep alive\n\n");
    assert_eq!(started.elapsed(), Duration::ZERO, "both at once");
    // A message in between does not put the next one off.
    let talk = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        app.say("alice", "hello\nthere").await;
    };
    let (message, ()) = tokio::join!(events.next(), talk);
    assert_eq!(message.unwrap().data, "hello\nthere");
    for beat in 1..=3 {
        assert_eq!(events.next().await.unwrap().data, "<3: Keep alive");
        assert_eq!(started.elapsed(), Duration::from_secs(5 * beat));
    }
    assert_eq!(
        events.text(),
        "data: User 'alice' connected\n\ndata: <3: Keep alive\n\ndata: hello\ndata: there\n\n\
         data: <3: Keep alive\n\ndata: <3: Keep alive\n\ndata: <3: Keep alive\n\n"
    );
}

#[tokio::test(start_paused = true)]
async fn presence_follows_the_streams() {
    let app = TestApp::in_process().await;
    assert_eq!(app.get("/api/users/alice").send().await.refusal(), "404 user_not_found");
    let first = app.connect("alice").await;
    let second = app.connect("alice").await;
    assert_eq!(app.presence("alice").await, ("connected".into(), 2));
    drop(first);
    assert_eq!(app.presence("alice").await, ("connected".into(), 1));
    drop(second);
    assert_eq!(app.presence("alice").await, ("connected".into(), 0), "a page may be loaded again");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(app.presence("alice").await, ("disconnected".into(), 0));

    let mut bob = app.connect("bob").await;
    let gone = app.get("/sse/disconnect/bob").send().await;
    assert_eq!((gone.status(), gone.json()), (200, json!({ "message": "User 'bob' disconnected" })));
    assert_eq!(app.presence("bob").await, ("disconnected".into(), 0));
    assert_eq!(bob.rest().await.len(), 2, "the stream ends");
    let again = app.connect("bob").await;
    assert_eq!(app.presence("bob").await, ("connected".into(), 1));

    let users = async |query: &str| app.get(&format!("/api/users?{query}")).send().await.json();
    let ids = |list: serde_json::Value| -> Vec<String> {
        list["users"].as_array().unwrap().iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(users("").await), ["alice", "bob"]);
    assert_eq!(ids(users("status=connected").await), ["bob"]);
    let page = users("limit=1").await;
    assert_eq!(ids(users(&format!("limit=1&page={}", page["nextPage"].as_str().unwrap())).await), ["bob"]);
    for (query, refusal) in [
        ("status=away", "422 invalid status"),
        ("limit=501", "422 invalid limit"),
        ("page=a%20b", "422 invalid page"),
        ("name=x", "400 unknown_parameter name"),
    ] {
        assert_eq!(app.get(&format!("/api/users?{query}")).send().await.refusal(), refusal, "{query}");
    }
    drop(again);
}

#[tokio::test]
async fn names_that_could_break_a_frame_are_refused() {
    let app = TestApp::in_process().await;
    for user in ["a%0ab", "a%0d", "a%00", "a%20b", "%C3%A9", "a:b", "%27", &"x".repeat(129)] {
        for route in ["connect", "disconnect", "task", "task-with-obj"] {
            let answer = app.get(&format!("/sse/{route}/{user}")).send().await;
            assert_eq!(answer.refusal(), "422 invalid userId", "{route} {user}");
        }
        assert_eq!(app.get(&format!("/api/users/{user}")).send().await.refusal(), "422 invalid userId", "{user}");
    }
    assert_eq!(app.get("/sse/connect/a").header("accept", "text/html").send().await.refusal(), "406 not_acceptable");
}

#[tokio::test]
async fn a_cursor_replays_what_a_user_missed() {
    let app = TestApp::in_process().await;
    app.say("alice", "one").await;
    let seen = app.service.app.tracker.cursor(app.service.app.tracker.head()).to_string();
    app.say("alice", "two").await;
    let mut events = app.get("/sse/connect/alice").header("last-event-id", &seen).events().await;
    for text in ["User 'alice' connected", "<3: Keep alive", "two"] {
        assert_eq!(events.next().await.unwrap().data, text);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_messages_come_one_a_second() {
    let app = TestApp::in_process().await;
    let mut events = app.get("/sse").events().await;
    let started = Instant::now();
    for index in 0..10 {
        let message = events.next().await.unwrap().data;
        let (text, time) = message.split_once(" à ").unwrap();
        assert_eq!(text, format!("Message {index}"));
        assert!(time.ends_with('Z'), "{time}");
        assert_eq!(started.elapsed(), Duration::from_secs(index));
    }
    assert!(events.next().await.is_none());
    assert_eq!(plain(events.text()).len(), 10);
    assert_eq!(app.get("/sse").header("accept", "image/*").send().await.refusal(), "406 not_acceptable");
    let head = app.request("HEAD", "/sse").send().await;
    assert_eq!((head.status(), head.body.len()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn ten_messages_do_not_keep_a_service_from_stopping() {
    let app = TestApp::in_process().await;
    let mut events = app.get("/sse").events().await;
    assert!(events.next().await.is_some());
    app.service.app.draining.cancel();
    assert!(events.next().await.is_none());
}

fn completed(answer: &Answer, user: &str) {
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"), "{answer:?}");
    let begin = format!("{{\"message\":\"Task completed\",\"data\":\"User '{user}' completed the task at: ");
    assert!(answer.text().starts_with(&begin) && answer.text().ends_with(".\"}"), "{}", answer.text());
}

#[tokio::test(start_paused = true)]
async fn the_simulated_task_tells_its_user_ten_times() {
    let app = TestApp::in_process().await;
    for method in ["GET", "POST"] {
        let mut events = app.connect("alice").await;
        let started = Instant::now();
        let answer = app.request(method, "/sse/task/alice").send().await;
        completed(&answer, "alice");
        assert_eq!(started.elapsed().as_secs(), 10);
        let task = app.get(answer.header("location")).send().await.json();
        assert_eq!(
            (&task["kind"], &task["status"], &task["userId"]),
            (&"simulate".into(), &"completed".into(), &"alice".into())
        );
        let mut attempts = Vec::new();
        while attempts.len() < 10 {
            attempts
                .extend(events.next().await.map(|event| event.data).filter(|text| text.starts_with("User 'alice', ")));
        }
        let expected: Vec<_> = (1..=10).map(|attempt| format!("User 'alice', attempt {attempt} / 10")).collect();
        assert_eq!(attempts, expected);
        plain(events.text());
    }
}

#[tokio::test(start_paused = true)]
async fn the_object_is_sent_after_a_count_down() {
    let app = TestApp::in_process().await;
    for method in ["GET", "POST"] {
        let mut events = app.connect("v").await;
        let answer = app.request(method, "/sse/task-with-obj/v").send().await;
        completed(&answer, "v");
        let mut texts = Vec::new();
        while texts.len() < 6 {
            texts.extend(
                events
                    .next()
                    .await
                    .map(|event| event.data)
                    .filter(|text| !text.contains("connected") && !text.contains("alive")),
            );
        }
        assert_eq!(texts[0], "Object sent to user 'v' in 5...");
        assert_eq!(texts[4], "Object sent to user 'v' in 1...");
        assert_eq!(texts[5], r#"{"Name":"Victor","Age":30,"Country":"Spain","IsActive":true}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_task_is_an_ordinary_one() {
    let app = TestApp::in_process().await;
    let started = Instant::now();
    let accepted = app.post("/sse/task/alice").header("prefer", "respond-async").send().await;
    assert_eq!((accepted.status(), accepted.header("preference-applied")), (202, "respond-async"));
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(accepted.header("location"), format!("/api/tasks/{}", accepted.json()["taskId"].as_str().unwrap()));

    // A caller who hangs up does not stop it.
    let hung_up = tokio::time::timeout(Duration::from_secs(2), app.get("/sse/task/bob").send()).await;
    assert!(hung_up.is_err());
    let list = app.get("/api/tasks?userId=bob").send().await.json();
    let path = format!("/api/tasks/{}", list["tasks"][0]["taskId"].as_str().unwrap());
    let mut events = app.get(&format!("{path}/progress")).events().await;
    let states = events.rest().await;
    assert!(states.last().unwrap().data.contains("\"status\":\"completed\""), "{:?}", states.last());

    // One that is cancelled is told so to whoever waits.
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let list = app.get("/api/tasks?userId=carol").send().await.json();
        let path = format!("/api/tasks/{}/cancel", list["tasks"][0]["taskId"].as_str().unwrap());
        assert_eq!(app.post(&path).send().await.status(), 200);
    };
    let (answer, ()) = tokio::join!(app.post("/sse/task/carol").send(), cancel);
    assert_eq!(answer.refusal(), "409 task_cancelled");
    assert!(answer.has_header("location"));
}
