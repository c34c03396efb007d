//! The list of tasks, in pages.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use garde::Validate;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    event_streams::{LastEventId, RETRY, event_stream, refused},
    extract::Query,
    negotiate::wants_stream,
    problem::{Problem, Reads},
    refusals::Refusals,
    room::Room,
    tasks::{TaskDocument, document, json_response},
};
use crate::{
    access::Principal,
    channel::ViewWatcher,
    event::{Cursor, Name, Seq},
    stream::{Heartbeat, StreamBody, Style},
    task::{LIST_LIMIT_MAX, Status},
    tracker::{ListJoin, TaskFilter, counts_json},
    wire::{self, Dialect, with_members},
};

/// Tasks on a page unless said otherwise.
const LIST_LIMIT_DEFAULT: usize = 50;
/// Most values of one filter.
const FILTER_VALUES_MAX: usize = 50;
/// Tasks that are read from the store at once.
const READ_AT_ONCE: usize = 50;

/// The route of the list.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A page of tasks, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TaskPage {
    tasks: Vec<TaskDocument>,
    /// The `page` of the next page; absent on the last one.
    next_page: Option<String>,
    /// How many tasks have each status, whatever is listed; absent for a person, who sees their own tasks only.
    counts: Option<StatusCounts>,
}

/// How many tasks have each status.
#[derive(Serialize, ToSchema)]
struct StatusCounts {
    pending: u64,
    processing: u64,
    cancelling: u64,
    completed: u64,
    error: u64,
    cancelled: u64,
}

/// Which tasks are listed. Each filter takes several values, separated by commas.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only tasks with one of these statuses.
    #[garde(custom(few))]
    #[param(style = Form, explode = false, max_items = 50, example = json!(["pending", "processing"]))]
    status: Vec<Status>,
    /// Only tasks of one of these kinds.
    #[garde(custom(few))]
    #[param(style = Form, explode = false, max_items = 50)]
    kind: Vec<Name>,
    /// Only tasks of one of these users.
    #[garde(custom(few))]
    #[param(style = Form, explode = false, max_items = 50)]
    user_id: Vec<Name>,
    /// Only tasks in one of these queues.
    #[garde(custom(few))]
    #[param(style = Form, explode = false, max_items = 50)]
    queue: Vec<Name>,
    /// How many tasks to list.
    #[garde(inner(range(min = 1, max = LIST_LIMIT_MAX)))]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `nextPage` of the page before.
    #[garde(skip)]
    page: Option<String>,
    /// The cursor from which to resume a live list, for clients that cannot set headers.
    #[garde(skip)]
    last_event_id: Option<String>,
}

fn few<T>(values: &[T], _: &()) -> garde::Result {
    if values.len() <= FILTER_VALUES_MAX {
        return Ok(());
    }
    Err(garde::Error::new(format!("must have at most {FILTER_VALUES_MAX} values")))
}

/// Lists tasks, newest first.
///
/// The list includes what was accepted a moment ago. A page of large tasks may have fewer than `limit`.
///
/// With `Accept: text/event-stream` it is a live list: first `event: page` with the page, then `event: progress` with the
/// whole state of each task that changes and matches the filters before or after it, merged to the latest a few times a
/// second, `event: removed` for one that is deleted, and `event: counts` when the counts change, at most once a second.
/// A cursor resumes it; `event: reset` says that it cannot be used and that a new page follows.
#[utoipa::path(
    get, path = "/api/tasks", operation_id = "listTasks", tag = "tasks", params(ListQuery),
    responses(
        (status = 200, description = "A page of tasks, or the live list", content(
            (TaskPage = "application/json"), (String = "text/event-stream"))),
        Refusals<(Query<ListQuery>, Reads, Room)>))]
async fn list(
    State(app): State<App>,
    principal: Principal,
    room: Room,
    LastEventId(resume): LastEventId,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let names = |names: Vec<Name>| names.into_iter().map(String::from).collect();
    let mut filter = TaskFilter {
        statuses: query.status,
        kinds: names(query.kind),
        user_ids: names(query.user_id),
        queues: names(query.queue),
        ..TaskFilter::default()
    };
    principal.narrow(&mut filter);
    let limit = query.limit.unwrap_or(LIST_LIMIT_DEFAULT);
    let before = query.page.map(|page| read_page(&app, &page)).transpose()?;
    if wants_stream(&headers) {
        let opened = match app.tracker.watch_list(filter.clone(), resume).await {
            Ok(opened) => opened,
            Err(error) => return Ok(refused(&error.into())),
        };
        return Ok(live(&app, &room, opened, async || page(&app, &filter, before, limit).await).await);
    }
    let held = room.bytes(app.config.http.max_page_bytes).await?;
    Ok(json_response(StatusCode::OK, held.keep(page(&app, &filter, before, limit).await?)))
}

/// The live list: a page where the watcher does not go on from its cursor, then what changes.
async fn live(
    app: &App,
    room: &Room,
    (join, watcher): (ListJoin, ViewWatcher),
    page: impl AsyncFnOnce() -> Result<Bytes, Problem>,
) -> Response {
    let mut opening = vec![wire::retry(RETRY)];
    if join == ListJoin::Reset {
        opening.push(wire::event(Some("reset"), b"{\"list\":true}", None));
    }
    if join != ListJoin::Resumed {
        let page = async {
            let held = room.bytes(app.config.http.max_page_bytes).await?;
            let cursor = app.tracker.cursor(watcher.position());
            Ok(held.keep(wire::event(Some("page"), &page().await?, Some(cursor))))
        };
        match page.await {
            Ok(page) => opening.push(page),
            Err(problem) => return refused(&problem),
        }
    }
    let heartbeat = Heartbeat::comment(app.config.streams.keep_alive);
    let style = Style { dialect: Dialect::Progress, opening: Vec::new(), shows_state: true, heartbeat };
    event_stream(StreamBody::opened(opening, watcher, style, app.metrics.clone()))
}

/// A page, as it is answered.
async fn page(app: &App, filter: &TaskFilter, before: Option<Seq>, limit: usize) -> Result<Bytes, Problem> {
    let (tasks, next) = collect(app, filter, before, limit).await?;
    let tasks = [b"[", tasks.join(&b","[..]).as_slice(), b"]"].concat();
    let next = next.map(|seq| format!("\"{}\"", app.tracker.cursor(seq)));
    let next = next.as_ref().map(|next| ("nextPage", next.as_bytes()));
    let counts = filter.has_counts.then(|| counts_json(&app.tracker.counts()));
    let counts = counts.as_ref().map(|counts| ("counts", counts.as_bytes()));
    let members = [("tasks", tasks.as_slice())].into_iter().chain(next).chain(counts);
    Ok(with_members(b"{}", members))
}

/// The tasks of a page, and where the next one begins.
async fn collect(
    app: &App,
    filter: &TaskFilter,
    mut before: Option<Seq>,
    limit: usize,
) -> Result<(Vec<Bytes>, Option<Seq>), Problem> {
    let mut tasks = Vec::new();
    let mut size_bytes = 0;
    loop {
        let page = app.tracker.list(filter.clone(), before, (limit - tasks.len()).min(READ_AT_ONCE)).await?;
        let last = page.tasks.last().map(|entry| entry.created);
        for entry in &page.tasks {
            let document = document(app, entry);
            size_bytes += document.len();
            tasks.push(document);
            let is_full = tasks.len() == limit || size_bytes >= app.config.http.max_page_bytes;
            if is_full {
                let has_more = page.next.is_some() || last != Some(entry.created);
                return Ok((tasks, has_more.then_some(entry.created)));
            }
        }
        before = page.next;
        if before.is_none() {
            return Ok((tasks, None));
        }
    }
}

/// The place that a `nextPage` of this store names.
pub(super) fn read_page(app: &App, page: &str) -> Result<Seq, Problem> {
    let place = page.parse::<Cursor>().ok().filter(|place| app.tracker.cursor(place.seq) == *place);
    place.map(|place| place.seq).ok_or_else(|| Problem::invalid("page", "is not a valid page token"))
}
