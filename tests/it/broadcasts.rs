//! Routes of earlier systems that broadcast, byte for byte: events, new users, scores, metrics.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Answer, Events, TestApp, binary::Binary, first_events, golden_stream};

impl TestApp {
    async fn broadcast(&self, publication: Value) -> Value {
        let answer = self.post("/api/broadcast").json(&publication).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.json()
    }

    async fn score(&self, game: &str, score: Value) -> Answer {
        self.post(&format!("/api/games/{game}/score")).json(&score).send().await
    }
}

async fn named(events: &mut Events) -> (String, Value) {
    let event = events.next().await.expect("an event");
    (event.event, serde_json::from_str(&event.data).unwrap())
}

#[tokio::test]
async fn a_broadcast_goes_to_all_who_listen_and_to_those_who_come_back() {
    let app = TestApp::in_process().await;
    assert_eq!(app.broadcast(json!({ "data": "nobody" })).await["clients"], 0);
    let mut one = app.get("/api/events").events().await;
    let mut other = app.get("/api/sse/events").events().await;
    let (name, hello) = named(&mut one).await;
    assert_eq!((name.as_str(), hello["client_id"].as_str().map(str::len)), ("connected", Some(36)));
    let hello = json!({ "type": "connected", "message": "SSE connection established" });
    assert_eq!(named(&mut other).await, ("message".into(), hello));

    let sent = json!({ "event": "notice", "data": { "text": "é\n" }, "id": "x-1" });
    let answer = app.broadcast(sent.clone()).await;
    assert_eq!((&answer["success"], &answer["clients"]), (&json!(true), &json!(2)));
    let answer_text = app.post("/api/broadcast").json(&sent).send().await;
    let event_id = answer["event_id"].as_str().unwrap();
    let expected = format!(r#"{{"success":true,"clients":2,"event_id":"{event_id}"}}"#);
    assert_eq!(answer_text.text(), expected, "the same id sends nothing more");
    let last = app.broadcast(json!({ "data": [1, 2] })).await;
    for events in [&mut one, &mut other] {
        let notice = events.next().await.unwrap();
        assert_eq!((notice.event.as_str(), notice.id.as_str()), ("notice", event_id));
        let last_seen = events.next().await.unwrap();
        assert_eq!((last_seen.data.as_str(), &json!(last_seen.id)), ("[1,2]", &last["event_id"]));
    }
    golden_stream("events.txt", &one);
    golden_stream("sse-events.txt", &other);

    for mut events in [
        app.get("/api/events").header("last-event-id", event_id).events().await,
        app.get(&format!("/api/events?lastEventId={event_id}")).events().await,
        app.get("/api/sse/events").header("last-event-id", event_id).events().await,
    ] {
        let hello = events.next().await.unwrap();
        assert_eq!(hello.id, "", "a client that is cut off here still comes back from its own cursor");
        assert_eq!(named(&mut events).await.1, json!([1, 2]));
    }
    let mut lost = app.get("/api/events?lastEventId=elsewher-1").events().await;
    assert_eq!(named(&mut lost).await.0, "connected");
    assert_eq!(named(&mut lost).await, ("reset".into(), json!({ "channel": "topic:broadcast" })));

    for (publication, refusal) in [
        (json!({ "event": "a\nb", "data": 1 }), "422 invalid event"),
        (json!({ "id": "a\rb", "data": 1 }), "422 invalid id"),
        (json!({ "event": "e" }), "422 invalid data"),
        (json!({ "id": "x-1", "data": "other" }), "422 idempotency_mismatch"),
    ] {
        assert_eq!(app.post("/api/broadcast").json(&publication).send().await.refusal(), refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn updates_come_at_intervals_if_they_are_asked_for() {
    let app = TestApp::with(|config| config.topics.update_interval = Some(Duration::from_secs(3))).await;
    let started = Instant::now();
    let mut events = app.get("/api/events").events().await;
    assert_eq!(named(&mut events).await.0, "connected");
    for nth in 1..=3 {
        let (name, update) = named(&mut events).await;
        assert_eq!((name.as_str(), &update["message"]), ("update", &json!(format!("Update {nth}"))));
        assert_eq!(started.elapsed(), Duration::from_secs(3 * nth));
        app.broadcast(json!({ "event": "e", "data": nth })).await;
        assert_eq!(named(&mut events).await, ("e".into(), json!(nth)));
    }
    let mut other = app.get("/api/sse/events").events().await;
    assert_eq!(named(&mut other).await.0, "message");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(other.waiting().is_none(), "not here");
}

#[tokio::test]
async fn a_new_user_is_told_to_all_and_known_from_then_on() {
    let app = TestApp::in_process().await;
    let mut events = app.get("/api/sse/events").events().await;
    named(&mut events).await;
    let made = app.post("/api/users").json(&json!({ "name": "Alice", "email": "alice@example.org" })).send().await;
    let user = made.json();
    assert_eq!((made.status(), &user["name"], &user["email"]), (201, &json!("Alice"), &json!("alice@example.org")));
    let (name, told) = named(&mut events).await;
    let expected = json!({
        "userId": user["id"], "userName": "Alice", "email": "alice@example.org", "createdAt": user["createdAt"],
        "message": "User Alice was created",
    });
    assert_eq!((name.as_str(), &told), ("user.created", &expected));
    golden_stream("user-created.txt", &events);
    let known = app.get(&format!("/api/users/{}", user["id"].as_str().unwrap())).send().await.json();
    assert_eq!((&known["status"], &known["profile"]["email"]), (&json!("disconnected"), &json!("alice@example.org")));
    for (new, refusal) in [
        (json!({ "name": "a\nb", "email": "a@b" }), "422 invalid name"),
        (json!({ "name": "a", "email": "b" }), "422 invalid email"),
        (json!({ "name": "a" }), "422 invalid email"),
    ] {
        assert_eq!(app.post("/api/users").json(&new).send().await.refusal(), refusal);
    }
}

#[tokio::test]
async fn a_game_shows_its_score_then_every_change() {
    let app = TestApp::in_process().await;
    let mut early = app.get("/api/games/7/stream").events().await;
    let answer = app.score("7", json!({ "home_score": 1, "away_score": 0, "minute": 12 })).await;
    assert_eq!((answer.status(), answer.text()), (200, r#"{"success":true}"#));
    assert_eq!(named(&mut early).await.0, "score", "nothing was there before");
    let cursor = app.get("/api/topics/game.7").send().await.json()["cursor"].as_str().unwrap().to_owned();
    let mut events = app.get("/api/games/7/stream").events().await;
    app.score("7", json!({ "home_score": 1, "away_score": 1, "event_type": "goal" })).await;
    app.score("8", json!({ "home_score": 9, "away_score": 9 })).await;
    app.score("7", json!({ "home_score": 2, "away_score": 1 })).await;
    for (name, home, away) in [("initial", 1, 0), ("goal", 1, 1), ("score", 2, 1)] {
        let (event, score) = named(&mut events).await;
        assert_eq!((event.as_str(), &score["home_score"], &score["away_score"]), (name, &json!(home), &json!(away)));
        assert!(score["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    golden_stream("game.txt", &events);
    let mut resumed = app.get(&format!("/api/games/7/stream?lastEventId={cursor}")).events().await;
    assert_eq!(named(&mut resumed).await.0, "goal", "what was missed, and no state");
    for (game, score, refusal) in [
        ("a%0ab", json!({ "home_score": 1, "away_score": 0 }), "422 invalid gameId"),
        ("7", json!({ "home_score": 1 }), "422 invalid away_score"),
        ("7", json!({ "home_score": 1, "away_score": 0, "event_type": "a\0" }), "422 invalid event_type"),
    ] {
        assert_eq!(app.score(game, score).await.refusal(), refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_come_once_a_second() {
    let app = TestApp::in_process().await;
    let started = Instant::now();
    let mut events = app.get("/api/metrics/stream").events().await;
    // There is no use of the processor before something has passed.
    for second in 1..=3 {
        let (name, metrics) = named(&mut events).await;
        assert_eq!((name.as_str(), started.elapsed()), ("metrics", Duration::from_secs(second)));
        let members: Vec<_> = metrics.as_object().unwrap().keys().collect();
        assert_eq!(members, ["cpu_usage", "goroutines", "memory", "timestamp"]);
        assert!(metrics["cpu_usage"].as_f64().unwrap() >= 0.0 && metrics["goroutines"].as_u64().unwrap() > 0);
        let memory = ["alloc", "sys", "total_alloc"].map(|name| metrics["memory"][name].as_u64().unwrap());
        assert!(1 << 20 < memory[0] && memory[0] <= memory[1] && memory[1] <= memory[2], "{memory:?}");
    }
    assert!(events.text().starts_with("event: metrics\ndata: {\""), "{}", events.text());
    assert_eq!(app.service.app.tracker.streams(), 1, "it counts among the streams");
    app.service.app.draining.cancel();
    assert!(events.next().await.is_none(), "it ends with the service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_and_scores_are_replayed_after_the_server_was_killed() {
    let data = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut server = Binary::start(data.path(), &[]);
    let mut ids = Vec::new();
    for round in 0..2 {
        let base = server.base();
        for nth in 0..3 {
            let publication = json!({ "event": "e", "data": round * 3 + nth });
            let sent = client.post(format!("{base}/api/broadcast")).json(&publication).send().await.unwrap();
            ids.push(sent.json::<Value>().await.unwrap()["event_id"].as_str().unwrap().to_owned());
        }
        let score = json!({ "home_score": round, "away_score": 0 });
        assert!(
            client.post(format!("{base}/api/games/1/score")).json(&score).send().await.unwrap().status().is_success()
        );
        server.kill();
        server = Binary::start(data.path(), &[]);
    }
    let base = server.base();
    for request in [
        client.get(format!("{base}/api/events")).header("last-event-id", &ids[1]),
        client.get(format!("{base}/api/sse/events?lastEventId={}", ids[1])),
    ] {
        let told = first_events(request, 5).await;
        let told: Vec<_> = told[1..].iter().map(|event| (event.data.as_str(), event.id.as_str())).collect();
        assert_eq!(told, [("2", &*ids[2]), ("3", &*ids[3]), ("4", &*ids[4]), ("5", &*ids[5])]);
    }
    let initial = &first_events(client.get(format!("{base}/api/games/1/stream")), 1).await[0];
    assert!(initial.event == "initial" && initial.data.contains("\"home_score\":1,"), "{initial:?}");
}
