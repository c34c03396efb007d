//! Clients of a cluster: who reports, and who watches. Each is patient: what fails is tried again, as real clients do.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use progressd::{
    event::Cursor,
    testing::{SseEvent, SseParser},
};
use reqwest::{Client, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// How many reports a step of a task has: the first is kept for everybody, and of the others the last one may stand for those
/// before it.
const STEP_REPORTS: u32 = 5;
/// Until something that failed is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Every request is answered within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(40);

/// Which report an event tells of, and which attempt at it; nothing for the start of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark(u32);

impl Mark {
    pub(super) fn new(report: u32, attempt: u32) -> Self {
        Self(report << 16 | attempt)
    }

    /// The mark of a task's state.
    pub(super) fn of(data: &[u8]) -> (Self, bool) {
        #[derive(Deserialize)]
        struct Shown<'a> {
            message: Option<&'a str>,
            status: &'a str,
        }
        let shown: Shown<'_> = serde_json::from_slice(data).expect("the state of a task");
        let mark = shown.message.map_or(Self::default(), |message| Self(message.parse().expect("a mark")));
        (mark, shown.status == "completed")
    }
}

/// Who works on one task after the other.
pub(super) struct Lane {
    tasks: watch::Sender<Vec<String>>,
}

/// What one watcher saw of a task.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) task: String,
    pub(super) seen: Vec<(u64, Mark)>,
}

/// How a stream ended.
enum WatchEnd {
    Task,
    /// At once; it is to be tried again after this time.
    Refused(Duration),
    Stream,
}

/// What happened since it was last looked at.
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    pub(super) turned_away: u64,
    /// Streams that ended before their tasks.
    pub(super) reconnects: u64,
    pub(super) longest_gap: Duration,
    pub(super) slowest: Duration,
    last: Instant,
}

pub(super) struct Load {
    client: Client,
    base: String,
    interval: Duration,
    /// Reports of a task before its end.
    reports: u32,
    lanes: Vec<Lane>,
    /// No further task is begun.
    pub(super) stop: CancellationToken,
    /// Whoever has not seen the end will not see it.
    pub(super) give_up: CancellationToken,
    tally: Mutex<Tally>,
    /// The reports of each task that were acknowledged.
    acknowledged: Mutex<BTreeMap<String, Vec<Mark>>>,
    /// What nobody should have been answered.
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    fn new() -> Self {
        Self {
            acknowledged: 0,
            turned_away: 0,
            reconnects: 0,
            longest_gap: Duration::ZERO,
            slowest: Duration::ZERO,
            last: Instant::now(),
        }
    }
}

impl Load {
    pub(super) fn new(client: Client, base: String, lanes: usize, interval: Duration, reports: u32) -> Self {
        let lanes = (0..lanes).map(|_| Lane { tasks: watch::Sender::default() }).collect();
        let (stop, give_up) = Default::default();
        let (tally, acknowledged, wrong) = (Mutex::new(Tally::new()), Mutex::default(), Mutex::default());
        Self { client, base, interval, reports, lanes, stop, give_up, tally, acknowledged, wrong }
    }

    /// What happened since the last time.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = lock(&self.tally);
        tally.longest_gap = tally.longest_gap.max(tally.last.elapsed());
        std::mem::replace(&mut tally, Tally::new())
    }

    pub(super) fn acknowledged(&self) -> BTreeMap<String, Vec<Mark>> {
        std::mem::take(&mut lock(&self.acknowledged))
    }

    pub(super) fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.wrong))
    }

    /// Works on one task after the other.
    pub(super) async fn report(&self, lane: usize) {
        // They do not all ask at the same moment.
        sleep(self.interval * u32::try_from(lane).unwrap() / u32::try_from(self.lanes.len()).unwrap()).await;
        for nth in 0.. {
            let steps: Vec<_> = (0..self.reports.div_ceil(STEP_REPORTS)).map(|_| json!({ "name": "s" })).collect();
            let (key, new) = (format!("{lane}-{nth}"), json!({ "start": true, "steps": steps }));
            let made = self.ask(|_| {
                let url = format!("{}/api/tasks", self.base);
                self.client.post(url).header("idempotency-key", &key).json(&new)
            });
            let (task, _) = made.await;
            let Some(id) = task["taskId"].as_str().map(str::to_owned) else { return };
            self.lanes[lane].tasks.send_modify(|tasks| tasks.push(id.clone()));
            let mut interval = tokio::time::interval(self.interval);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for report in 1..=self.reports {
                interval.tick().await;
                if self.stop.is_cancelled() {
                    break;
                }
                let step = (report - 1) / STEP_REPORTS;
                self.tell(&id, report, json!({ "current": report, "total": self.reports, "step": step })).await;
            }
            self.tell(&id, self.reports + 1, json!({ "status": "completed" })).await;
            if self.stop.is_cancelled() {
                break;
            }
        }
    }

    /// Reports until it is acknowledged.
    async fn tell(&self, id: &str, report: u32, mut body: Value) {
        let url = format!("{}/api/tasks/{id}", self.base);
        let (_, attempt) = self
            .ask(|attempt| {
                body["message"] = Mark::new(report, attempt).0.to_string().into();
                self.client.patch(&url).json(&body)
            })
            .await;
        lock(&self.acknowledged).entry(id.to_owned()).or_default().extend(attempt.map(|nth| Mark::new(report, nth)));
    }

    /// Asks until there is an answer; tells at which attempt that was, if it is known to be the one that was carried out.
    async fn ask(&self, mut request: impl FnMut(u32) -> reqwest::RequestBuilder) -> (Value, Option<u32>) {
        for attempt in 1.. {
            let asked = Instant::now();
            let answer = request(attempt).timeout(ANSWERED_WITHIN).send().await;
            self.note(|tally| tally.slowest = tally.slowest.max(asked.elapsed()));
            match answer {
                Ok(answer) if answer.status().is_success() => {
                    let Ok(body) = answer.json().await else { continue };
                    self.note(|tally| {
                        tally.acknowledged += 1;
                        tally.longest_gap = tally.longest_gap.max(tally.last.elapsed());
                        tally.last = Instant::now();
                    });
                    return (body, Some(attempt));
                }
                Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {}
                // An attempt that was not acknowledged has ended the task.
                Ok(answer) if answer.status() == StatusCode::CONFLICT && attempt > 1 => return (Value::Null, None),
                Ok(answer) => {
                    let (status, url) = (answer.status(), answer.url().to_string());
                    self.note_wrong(format!("{url}: {status} {}", answer.text().await.unwrap_or_default()));
                    return (Value::Null, None);
                }
                Err(error) if error.is_timeout() => self.note_wrong(format!("not answered: {error}")),
                Err(_) => {}
            }
            self.note(|tally| tally.turned_away += 1);
            sleep(PAUSE).await;
        }
        unreachable!("there is another attempt")
    }

    fn note(&self, what: impl FnOnce(&mut Tally)) {
        what(&mut lock(&self.tally));
    }

    fn note_wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }

    /// Watches the tasks of a lane to their ends, from the current one.
    pub(super) async fn watch(&self, lane: usize) -> Vec<Watched> {
        let mut tasks = self.lanes[lane].tasks.subscribe();
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let is_there = |tasks: &Vec<String>| tasks.len() > next.unwrap_or(0);
            tokio::select! {
                _there = tasks.wait_for(is_there) => {}
                () = self.stop.cancelled() => {}
            }
            let task = {
                let tasks = tasks.borrow();
                let at = next.unwrap_or(tasks.len().saturating_sub(1));
                next = Some(at + 1);
                tasks.get(at).cloned()
            };
            // None is begun after the last.
            let Some(task) = task else { return all };
            let mut watched = Watched { task, seen: Vec::new() };
            let ended = self.give_up.run_until_cancelled(self.watch_task(&mut watched)).await;
            all.push(watched);
            if ended.is_none() {
                return all;
            }
        }
    }

    async fn watch_task(&self, watched: &mut Watched) {
        let url = format!("{}/api/tasks/{}/progress", self.base, watched.task);
        let mut cursor = None::<String>;
        loop {
            let request = self.client.get(&url).header(header::ACCEPT, "text/event-stream");
            let request = cursor.iter().fold(request, |request, cursor| request.header("last-event-id", cursor));
            match request.send().await {
                Ok(stream) if stream.status() == StatusCode::OK => {
                    match self.read(stream, watched, &mut cursor).await {
                        WatchEnd::Task => return,
                        WatchEnd::Refused(wait) => sleep(wait).await,
                        WatchEnd::Stream => {}
                    }
                }
                Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {}
                Ok(answer) => return self.note_wrong(format!("{url} after {cursor:?}: {}", answer.status())),
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads a stream to its end.
    async fn read(&self, mut stream: Response, watched: &mut Watched, cursor: &mut Option<String>) -> WatchEnd {
        let (mut parser, before) = (SseParser::default(), watched.seen.len());
        while let Ok(Some(bytes)) = stream.chunk().await {
            for SseEvent { event, data, id, .. } in parser.feed(&bytes) {
                match event.as_str() {
                    "progress" => {
                        let (mark, is_end) = Mark::of(data.as_bytes());
                        watched.seen.push((id.parse::<Cursor>().expect("a cursor").seq.0, mark));
                        *cursor = Some(id);
                        if is_end {
                            return WatchEnd::Task;
                        }
                    }
                    "refused" if watched.seen.len() == before => {
                        return WatchEnd::Refused(parser.retry_ms.map_or(PAUSE, Duration::from_millis));
                    }
                    other => self.note_wrong(format!("{} after {cursor:?}: {other} {data}", watched.task)),
                }
            }
        }
        if watched.seen.len() > before {
            self.note(|tally| tally.reconnects += 1);
        }
        WatchEnd::Stream
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
