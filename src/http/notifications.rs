//! Notifications to users, and what they have read of them.

use axum::{extract::State, response::Response};
use garde::Validate;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Json, OptionalJson, Query, User},
    problem::{Problem, Reads, Writes, kinds},
    refusals::{Refusals, refusals},
    room::Room,
    task_list::read_page,
    tasks::json_response,
    users::Looks,
};
use crate::{
    event::{Cursor, Seq},
    people::{NewNotification, Notification, UserIntent},
    tracker::InboxFilter,
};

/// Notifications on a page unless said otherwise.
const LIST_LIMIT_DEFAULT: usize = 50;
/// Most notifications on a page.
const LIST_LIMIT_MAX: usize = 500;

/// The routes of notifications.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, notify)).routes(routes!(mark_read))
}

refusals!(
    /// A user who is not known yet may be one too many.
    MeetsUsers: kinds::TOO_MANY_USERS
);
refusals!(
    /// An id that a client gave may stand for another notification.
    Repeats: kinds::MISMATCH
);

/// A notification that was sent.
#[derive(Serialize, ToSchema)]
pub(super) struct SentNotification {
    /// The id of the notification.
    #[schema(example = "0199c0de-0000-7000-8000-000000000001")]
    pub(super) id: String,
    /// Its place in the journal: a stream that resumes from it brings what came later.
    #[schema(example = "k3f90000-1841")]
    pub(super) cursor: String,
}

/// Sends a notification to a user.
///
/// Once this answers, the notification is stored. A user who is away finds it on connecting. The same request again with
/// the same `id` sends nothing and is answered like the first.
#[utoipa::path(
    post, path = "/api/users/{userId}/notifications", operation_id = "notifyUser", tag = "notifications", params(User),
    request_body(content = NewNotification, example = json!({ "title": "Build", "message": "It has passed." })),
    responses(
        (status = 200, description = "The notification was sent", body = SentNotification),
        Refusals<(User, Json<NewNotification>, Writes, MeetsUsers, Repeats)>))]
async fn notify(
    State(app): State<App>,
    user: User,
    Json(new): Json<NewNotification>,
) -> Result<axum::Json<SentNotification>, Problem> {
    let (notification, seq) = app.tracker.notify(&user.0, new).await?;
    Ok(axum::Json(SentNotification { id: notification.id, cursor: app.tracker.cursor(seq).to_string() }))
}

/// Which notifications are listed.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct InboxQuery {
    /// `true` for those only that were not read.
    #[garde(skip)]
    #[param(inline, required = false)]
    unread: Option<Flag>,
    /// How many notifications to list.
    #[garde(inner(range(min = 1, max = LIST_LIMIT_MAX)))]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `nextPage` of the page before.
    #[garde(skip)]
    page: Option<String>,
}

/// A word for yes or no in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Flag {
    /// Yes.
    True,
    /// No.
    False,
}

/// A page of notifications, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NotificationPage {
    notifications: Vec<ListedNotification>,
    /// How many were not read, over all pages.
    unread_count: usize,
    /// The `page` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
}

/// A notification in a list.
#[derive(Serialize, ToSchema)]
struct ListedNotification {
    #[serde(flatten)]
    notification: Notification,
    /// Whether it was read.
    read: bool,
    /// Its place in the journal, up to which one may say to have read.
    #[schema(example = "k3f90000-1841")]
    cursor: String,
}

/// Lists the notifications of a user.
///
/// Those to the user and those to the groups of the user since they joined, newest first.
#[utoipa::path(
    get, path = "/api/users/{userId}/notifications", operation_id = "listNotifications", tag = "notifications",
    params(User, InboxQuery),
    responses(
        (status = 200, description = "A page of notifications", body = NotificationPage),
        Refusals<(User, Query<InboxQuery>, Reads, Looks, Room)>))]
async fn list(
    State(app): State<App>,
    user: User,
    room: Room,
    Query(query): Query<InboxQuery>,
) -> Result<Response, Problem> {
    let before = query.page.map(|page| read_page(&app, &page)).transpose()?;
    let limit = query.limit.unwrap_or(LIST_LIMIT_DEFAULT);
    let unread = query.unread == Some(Flag::True);
    let held = room.bytes(app.config.http.max_page_bytes).await?;
    let filter = InboxFilter { unread, before, limit, bytes_max: app.config.http.max_page_bytes };
    let page = app.tracker.inbox(&user.id(), filter).await?;
    let cursor = |seq: Seq| app.tracker.cursor(seq).to_string();
    let listed = page.events.iter().map(|event| {
        let notification = serde_json::from_slice(&event.draft.data).map_err(Problem::internal)?;
        Ok(ListedNotification { notification, read: event.seq <= page.read, cursor: cursor(event.seq) })
    });
    let page = NotificationPage {
        notifications: listed.collect::<Result<_, Problem>>()?,
        unread_count: page.unread,
        next_page: page.next.map(cursor),
    };
    let page = serde_json::to_vec(&page).map_err(Problem::internal)?;
    Ok(json_response(StatusCode::OK, held.keep(page.into())))
}

/// What was read.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReadMark {
    /// The `cursor` of the newest notification that was read; all that there are if absent.
    #[serde(default)]
    #[garde(skip)]
    #[schema(example = "k3f90000-1841")]
    cursor: Option<String>,
}

/// Marks notifications as read.
///
/// All of them, or those up to a cursor. What was read is not delivered again to a stream without a cursor.
#[utoipa::path(
    put, path = "/api/users/{userId}/notifications/read", operation_id = "readNotifications", tag = "notifications",
    params(User), request_body(content = ReadMark, example = json!({ "cursor": "k3f90000-1841" })),
    responses(
        (status = 204, description = "They are marked"),
        Refusals<(User, OptionalJson<ReadMark>, Writes, Looks)>))]
async fn mark_read(
    State(app): State<App>,
    user: User,
    OptionalJson(mark): OptionalJson<ReadMark>,
) -> Result<StatusCode, Problem> {
    let through = match mark.cursor {
        Some(cursor) => Some(read_place(&app, &cursor).await?),
        None => None,
    };
    app.tracker.ask_user(&user.0, UserIntent::Read(through)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The place of a notification, by its cursor.
async fn read_place(app: &App, cursor: &str) -> Result<Seq, Problem> {
    let unknown = || Problem::invalid("cursor", "is not a cursor of this store");
    let cursor: Cursor = cursor.parse().map_err(|_| unknown())?;
    if app.tracker.knows(cursor).await? {
        Ok(cursor.seq)
    } else if app.tracker.cursor(cursor.seq) == cursor {
        Err(Problem::invalid("cursor", "is after the last event"))
    } else {
        Err(unknown())
    }
}
