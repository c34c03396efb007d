//! Downloads of uploaded files, served so that no browser runs them.

use std::io::SeekFrom;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::TaskId,
    negotiate::etag_matches,
    problem::{Finds, Problem, ProblemKind, Reads, kinds},
    refusals::{Refusals, refusals},
    room::{Room, holding},
};
use crate::{
    jobs::{SavedFile, UPLOAD_KIND},
    server::Held,
    shared::FilesAway,
    task::{Status, Task},
};

/// The size of one read from the disk.
const READ_BYTES: usize = 64 * 1024;
/// The content type of a file whose own type is unknown or unsafe.
const UNKNOWN_TYPE: &str = "application/octet-stream";

const FILE_NOT_FOUND: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "file_not_found", "The task has no file");
const RANGE_NOT_SATISFIABLE: ProblemKind =
    ProblemKind::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", "The file has no such range");

/// The routes of files.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read))
}

refusals!(
    /// There is a file once its upload has completed.
    FileReads: FILE_NOT_FOUND, kinds::TASK_NOT_FINISHED, RANGE_NOT_SATISFIABLE, kinds::FILES_UNAVAILABLE
);

/// Reads the file of a completed upload.
///
/// It is sent to be saved, never to be shown: whatever it holds, no browser runs it with the rights of this site. A
/// client may ask for one range of bytes.
#[utoipa::path(
    get, path = "/api/tasks/{taskId}/file", operation_id = "readFile", tag = "uploads",
    params(TaskId,
        ("Range" = Option<String>, Header, description = "One range of bytes", example = "bytes=0-1023"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` for which the range is meant"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the file that the client has")),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "*/*",
            headers(("etag" = String, description = "The BLAKE3 digest"), ("content-disposition" = String))),
        (status = 206, description = "A range of the file", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "The file has not changed"),
        Refusals<(TaskId, Reads, Finds, FileReads, Room)>))]
async fn read(State(app): State<App>, TaskId(id): TaskId, room: Room, headers: HeaderMap) -> Result<Response, Problem> {
    let entry = app.tracker.find_enough(id, |entry| entry.task.status.is_final()).await?.entry()?;
    let task = &entry.task;
    if task.kind != UPLOAD_KIND {
        return Err(Problem::new(&FILE_NOT_FOUND));
    }
    let result = match (task.status, &task.result) {
        (Status::Completed, Some(result)) => result,
        (status, _) if status.is_final() => return Err(Problem::new(&FILE_NOT_FOUND)),
        _ => return Err(Problem::new(&kinds::TASK_NOT_FINISHED)),
    };
    let held = room.file().await?;
    let file = app.jobs.open_file(task.task_id).await.map_err(|error| match FilesAway::of(&error) {
        Some(away) => away.into(),
        None => Problem::internal(error),
    })?;
    let file = file.ok_or_else(|| Problem::new(&FILE_NOT_FOUND))?;
    let saved: SavedAs = result.parse().map_err(Problem::internal)?;
    answer(task, &saved, (file, held), &headers).await
}

/// The members of an upload's result that describe its file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedAs {
    file_name: Option<String>,
    content_type: Option<String>,
    blake3: Option<String>,
}

async fn answer(
    task: &Task,
    saved_as: &SavedAs,
    (saved, held): (SavedFile, Held),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let etag = format!("\"{}\"", saved_as.blake3.as_deref().unwrap_or(&task.task_id.to_string()));
    let SavedFile { mut file, size } = saved;
    let (status, start, len) = match range(headers, &etag, size) {
        _ if etag_matches(headers, &etag) => (StatusCode::NOT_MODIFIED, 0, 0),
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part { start, len } => (StatusCode::PARTIAL_CONTENT, start, len),
        Range::None => {
            let mut response = Problem::new(&RANGE_NOT_SATISFIABLE).into_response();
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let mut response = if status == StatusCode::NOT_MODIFIED {
        status.into_response()
    } else {
        file.seek(SeekFrom::Start(start)).await.map_err(Problem::internal)?;
        let pieces = ReaderStream::with_capacity(file.take(len), READ_BYTES);
        (status, Body::from_stream(holding(pieces, held))).into_response()
    };
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + len - 1));
    }
    if status != StatusCode::NOT_MODIFIED {
        set(&mut response, header::CONTENT_LENGTH, &len.to_string());
        set(&mut response, header::CONTENT_TYPE, served_type(saved_as.content_type.as_deref().unwrap_or(UNKNOWN_TYPE)));
        set(&mut response, header::CONTENT_DISPOSITION, &disposition(saved_as.file_name.as_deref().unwrap_or("file")));
    }
    set(&mut response, header::ETAG, &etag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    // A file never changes, but its task may be deleted: a cache may keep it, and must revalidate it.
    set(&mut response, header::CACHE_CONTROL, "private, no-cache");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
    Ok(response)
}

/// Leaves out a value that no header can have; none of those made here is one.
fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The part of the file that is sent.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part {
        start: u64,
        len: u64,
    },
    /// Nothing: the range begins behind the end of the file.
    None,
}

/// The range that a request asks for (RFC 9110, 14.2). Several ranges, or a malformed one, ask for the whole.
fn range(headers: &HeaderMap, etag: &str, size: u64) -> Range {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_meant = text(header::IF_RANGE).is_none_or(|meant| meant == etag);
    let asked = text(header::RANGE).filter(|_| is_meant).and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = asked.and_then(|range| range.trim().split_once('-')) else { return Range::Whole };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(length)) if first.is_empty() => {
            (if length == 0 { size } else { size.saturating_sub(length) }, size)
        }
        _ => return Range::Whole,
    };
    let end = end.min(size);
    if start < end { Range::Part { start, len: end - start } } else { Range::None }
}

/// The content type under which a file is sent: its own if no browser runs files of that type.
fn served_type(found: &str) -> &str {
    let runs = ["html", "xml", "svg", "script", "flash", "wasm"].iter().any(|word| found.contains(word));
    let is_plain =
        matches!(found, "text/plain" | "application/pdf" | "application/zip" | "application/gzip" | "application/json");
    let is_media = ["image/", "audio/", "video/", "font/"].iter().any(|family| found.starts_with(family));
    if !runs && (is_plain || is_media) { found } else { UNKNOWN_TYPE }
}

/// `Content-Disposition` (RFC 6266) with the name in both of its forms: ASCII for old clients, and as it is (RFC 8187).
fn disposition(name: &str) -> String {
    let plain = |character: char| match character {
        '"' | '\\' | '%' => '_',
        character if character.is_ascii_graphic() || character == ' ' => character,
        _ => '_',
    };
    let ascii: String = name.chars().map(plain).collect();
    let escaped = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let exact: String = name.bytes().map(escaped).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let asked = |value: &str| {
            let headers = HeaderMap::from_iter([(header::RANGE, value.parse().expect("a value"))]);
            range(&headers, "\"e\"", 100)
        };
        let part = |start, len| Range::Part { start, len };
        for (value, expected) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=90-", part(90, 10)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=0-18446744073709551615", part(0, 100)),
            ("bytes=100-", Range::None),
            ("bytes=-0", Range::None),
            ("bytes=9-0", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("lines=0-9", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=-", Range::Whole),
        ] {
            assert_eq!(asked(value), expected, "{value}");
        }
        assert_eq!(range(&HeaderMap::new(), "\"e\"", 0), Range::Whole);
        let other = HeaderMap::from_iter([
            (header::RANGE, HeaderValue::from_static("bytes=0-9")),
            (header::IF_RANGE, HeaderValue::from_static("\"other\"")),
        ]);
        assert_eq!(range(&other, "\"e\"", 100), Range::Whole, "the client has a part of another file");
    }

    #[test]
    fn types_that_browsers_run_are_not_named() {
        for found in ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "application/x-sh", ""]
        {
            assert_eq!(served_type(found), UNKNOWN_TYPE, "{found}");
        }
        for found in ["image/png", "video/mp4", "text/plain", "application/pdf"] {
            assert_eq!(served_type(found), found);
        }
    }

    #[test]
    fn names_cannot_leave_their_header() {
        assert_eq!(disposition("a.txt"), "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt");
        assert_eq!(
            disposition("Füße \"x\"\r\n.txt"),
            "attachment; filename=\"F__e _x___.txt\"; filename*=UTF-8''F%C3%BC%C3%9Fe%20%22x%22%0D%0A.txt"
        );
    }
}
