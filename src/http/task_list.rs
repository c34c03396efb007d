//! The list of tasks, in pages.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::Query,
    problem::Problem,
    tasks::{TaskDocument, document, json_response},
};
use crate::{
    event::{Cursor, Seq, check_name},
    task::{LIST_LIMIT_MAX, Status},
    tracker::TaskFilter,
    wire::with_members,
};

/// Tasks on a page unless said otherwise.
const LIST_LIMIT_DEFAULT: usize = 50;
/// Most values of one filter.
const FILTER_VALUES_MAX: usize = 50;
/// A page that has grown to this ends, however many were asked for: a task may carry 192 KiB of what its submitter and
/// its worker have to say.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
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
    /// Give it as `page` for the next page; absent on the last one.
    next_page: Option<String>,
}

/// Which tasks are listed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `list` reads")]
struct ListQuery {
    /// Only with one of these statuses, separated by commas.
    #[param(example = "pending,processing")]
    status: Option<String>,
    /// Only of one of these kinds, separated by commas.
    kind: Option<String>,
    /// Only of one of these users, separated by commas.
    #[param(rename = "userId")]
    user_id: Option<String>,
    /// Only in one of these queues, separated by commas.
    queue: Option<String>,
    /// How many, 1–500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `nextPage` of the page before.
    page: Option<String>,
}

/// Lists tasks, newest first.
///
/// What was accepted a moment ago is among them. A page of large tasks may have fewer than `limit`.
#[utoipa::path(get, path = "/api/tasks", operation_id = "listTasks", tag = "tasks", params(ListQuery),
    responses((status = 200, description = "A page of tasks", body = TaskPage)))]
async fn list(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let name = |value: &str| check_name(value).map(|()| value.to_owned()).map_err(|error| error.to_string());
    let filter = TaskFilter {
        statuses: query.list("status", FILTER_VALUES_MAX, read_status)?,
        kinds: query.list("kind", FILTER_VALUES_MAX, name)?,
        user_ids: query.list("userId", FILTER_VALUES_MAX, name)?,
        queues: query.list("queue", FILTER_VALUES_MAX, name)?,
    };
    let limit = query.limit(LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX)?;
    let before = query.text("page").map(|page| read_page(&app, &page)).transpose()?;
    query.end()?;
    let (tasks, next) = collect(&app, &filter, before, limit).await?;
    let tasks = [b"[", tasks.join(&b","[..]).as_slice(), b"]"].concat();
    let next = next.map(|seq| format!("\"{}\"", app.tracker.cursor(seq)));
    let next = next.as_ref().map(|next| ("nextPage", next.as_bytes()));
    let members: Vec<_> = std::iter::once(("tasks", tasks.as_slice())).chain(next).collect();
    Ok(json_response(StatusCode::OK, with_members(b"{}", &members)))
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
            let document = document(app, entry, &[]);
            size_bytes += document.len();
            tasks.push(document);
            let is_full = tasks.len() == limit || size_bytes >= PAGE_BYTES_MAX;
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
fn read_page(app: &App, page: &str) -> Result<Seq, Problem> {
    let place = page.parse::<Cursor>().ok().filter(|place| place.epoch == app.tracker.cursor(Seq::ZERO).epoch);
    place.map(|place| place.seq).ok_or_else(|| Problem::invalid("page", "is none that this list has given"))
}

fn read_status(value: &str) -> Result<Status, String> {
    let status = Status::ALL.into_iter().find(|status| status.as_str() == value);
    status
        .ok_or_else(|| format!("is one or more of {}, separated by commas", Status::ALL.map(Status::as_str).join(", ")))
}
