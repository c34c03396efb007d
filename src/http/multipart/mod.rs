//! A form with one file (RFC 7578), read piece by piece and bounded in each of its parts.
//!
//! The parser bounds neither what comes before the first boundary nor the headers of a part, and takes all that is
//! ready at once. So it is fed by hand: in small pieces, each of which ends with the head that it completes, until it
//! has read a part's head; from then on with one chunk at a time. Memory stays the same whatever is sent.

mod feed;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use multer::{Constraints, Field, Multipart};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, SchemaFormat,
        schema::{AdditionalProperties, Object, Schema, Type},
    },
};

use super::{
    problem::{ProblemKind, kinds},
    refusals::refusals,
    uploads::receive_error,
};
use crate::{
    jobs::{Form, Piece, ReceiveError},
    task::TaskError,
};
use feed::Feed;

/// The name of the field with the file.
const FIELD: &str = "file";
/// Most of what may come before a part's content: a preamble, a boundary, the part's headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// The most that a form adds to its file: two heads, and an epilogue.
const FRAME_BYTES_MAX: u64 = 3 * HEAD_BYTES_MAX as u64;
/// How much of an unknown field's name is given back.
const SHOWN_NAME_CHARS_MAX: usize = 64;

const MALFORMED: ProblemKind = ProblemKind::new(StatusCode::BAD_REQUEST, "malformed_form", "The form is malformed");
const INTERRUPTED: ProblemKind =
    ProblemKind::new(StatusCode::BAD_REQUEST, "upload_interrupted", "The upload was interrupted");
const TOO_MANY_FILES: ProblemKind =
    ProblemKind::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_files", "The form has more than one file");
const UNKNOWN_FIELD: ProblemKind =
    ProblemKind::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_field", "Unknown form field");
const HEAD_TOO_LARGE: ProblemKind = ProblemKind::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "form_head_too_large",
    "The headers of a form part are too large",
);

refusals!(
    /// A form may be malformed.
    ReadsForm: MALFORMED, INTERRUPTED, kinds::BODY_TIMED_OUT, TOO_MANY_FILES, UNKNOWN_FIELD, HEAD_TOO_LARGE
);

/// The form, for its description.
pub(super) enum FileForm {}

impl PartialSchema for FileForm {
    fn schema() -> RefOr<Schema> {
        let file =
            Object::builder().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
        let form = Object::builder().description(Some("A form with one file.")).property(FIELD, file).required(FIELD);
        form.additional_properties(Some(AdditionalProperties::FreeForm(false))).into()
    }
}

impl ToSchema for FileForm {}

/// The boundary in a content type; `None` if that is not `multipart/form-data`.
pub(super) fn boundary(content_type: &str) -> Option<Result<String, &'static str>> {
    match multer::parse_boundary(content_type) {
        Ok(boundary) if (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) => Some(Ok(boundary)),
        Ok(_) => Some(Err("the boundary must have 1 to 70 characters")),
        Err(multer::Error::NoBoundary) => Some(Err("the boundary is missing")),
        Err(_) => None,
    }
}

/// The least that a file has in a form of so many bytes.
pub(super) fn file_bytes_min(length: u64) -> u64 {
    length.saturating_sub(FRAME_BYTES_MAX)
}

/// Reads a form with one file. `length` is that of the whole body, if known.
pub(super) fn read(body: Body, boundary: String, length: Option<u64>, file_bytes_max: u64) -> Form {
    let feed = Feed::new(body);
    // Refused by its length alone, nothing of it is asked for: a client that awaits `100 Continue` sends nothing.
    if length.is_some_and(|length| length > file_bytes_max.saturating_add(FRAME_BYTES_MAX)) {
        return stream::iter([Err(receive_error(&ReceiveError::TooLarge(file_bytes_max)))]).boxed();
    }
    let frame_end = boundary.len() as u64 + "\r\n----\r\n".len() as u64;
    let constraints = Constraints::new().allowed_fields(vec![FIELD]);
    let parser = Multipart::with_constraints(feed.clone(), boundary, constraints);
    let reader = Reader { parser, feed, field: None, first: None, length, frame_end };
    let pieces = stream::try_unfold(Some(reader), |reader| async {
        let Some(mut reader) = reader else { return Ok(None) };
        match reader.next().await {
            Ok(Some(piece)) => Ok(Some((piece, Some(reader)))),
            Ok(None) => Ok(None),
            Err(error) => Err(reader.feed.failure().unwrap_or(error)),
        }
    });
    pieces.boxed()
}

/// Reads the form that the feed brings.
struct Reader {
    parser: Multipart<'static>,
    feed: Feed,
    /// The part with the file, once its head was read.
    field: Option<Field<'static>>,
    /// The first bytes of the file, which had to be looked for to tell a file without a name from none.
    first: Option<Bytes>,
    length: Option<u64>,
    /// What follows the file, if nothing else does.
    frame_end: u64,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Piece>, TaskError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(Piece::Bytes(first)));
        }
        let Some(field) = &mut self.field else { return self.open().await.map(Some) };
        match field.next().await {
            Some(bytes) => Ok(Some(Piece::Bytes(bytes.map_err(malformed)?))),
            None => {
                self.close().await?;
                Ok(None)
            }
        }
    }

    /// Reads up to the file's first byte.
    async fn open(&mut self) -> Result<Piece, TaskError> {
        let mut field = match self.parser.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => return Err(no_file()),
            Err(_) if self.feed.is_empty() => return Err(no_file()),
            Err(error) => return Err(malformed(error)),
        };
        let name = field.file_name().map(decoded_name);
        // The head ends where the feed does: the rest of the length is the file's and what frames it.
        let fed = self.feed.lock().fed;
        let size = self.length.and_then(|length| length.checked_sub(fed + self.frame_end));
        self.feed.lock().begin_content();
        if name.as_deref() == Some("") {
            // Browsers send an empty name if no file was chosen.
            let mut first = Bytes::new();
            while first.is_empty() {
                first = field.next().await.ok_or_else(no_file)?.map_err(malformed)?;
            }
            self.first = Some(first);
        }
        self.field = Some(field);
        Ok(Piece::File { name: name.filter(|name| !name.is_empty()), size })
    }

    /// Reads from the file's last byte to the end of the form.
    async fn close(&mut self) -> Result<(), TaskError> {
        self.field = None;
        self.feed.lock().begin_head();
        match self.parser.next_field().await {
            Ok(None) => {
                self.feed.read_epilogue().await;
                Ok(())
            }
            Ok(Some(_)) => {
                let detail = "Send each file in a request of its own.";
                Err(TOO_MANY_FILES.task_error(detail))
            }
            Err(error) => Err(malformed(error)),
        }
    }
}

fn no_file() -> TaskError {
    receive_error(&ReceiveError::NoFile)
}

/// Browsers write a quotation mark in a file name like this (WHATWG HTML, multipart/form-data).
fn decoded_name(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "").replace("%0A", "")
}

/// The error of a task whose form is malformed.
fn malformed(error: multer::Error) -> TaskError {
    if let multer::Error::UnknownField { field_name } = error {
        let name: String = field_name.unwrap_or_default().chars().take(SHOWN_NAME_CHARS_MAX).collect();
        let detail = format!("The form has a field {name:?}; its only field may be file.");
        return UNKNOWN_FIELD.task_error(detail);
    }
    let detail = match error {
        multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
            "The form ends before its last boundary, or its boundary differs from the one in the content type."
        }
        multer::Error::ReadHeaderFailed(_)
        | multer::Error::IncompleteHeaders
        | multer::Error::DecodeHeaderName { .. }
        | multer::Error::DecodeHeaderValue { .. } => "The headers of a form part are malformed or too many.",
        _ => "The form is not valid multipart/form-data.",
    };
    MALFORMED.task_error(detail)
}

#[cfg(test)]
mod tests;
