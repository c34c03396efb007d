//! A form with one file (RFC 7578), read piece by piece and bounded in each of its parts.
//!
//! The parser bounds neither what comes before the first boundary nor the headers of a part, and takes all that is ready
//! at once. So it is fed by hand: in small pieces, each of which ends with the head that it completes, until it has read
//! a part's head; from then on with one chunk at a time. Memory stays the same whatever is sent.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use multer::{Constraints, Field, Multipart};

use super::{extract::timed_out, problem::kinds};
use crate::{
    jobs::{Form, Piece, file_missing, upload_too_large},
    task::TaskError,
};

/// The name of the field with the file.
const FIELD: &str = "file";
/// Most of what may come before a part's content: a preamble, a boundary, the part's headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What the parser is given at once as long as it reads a head.
const HEAD_PIECE_BYTES: usize = 1024;
/// Longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// What a form with one file can add to the file: two heads, and what may follow the end.
const FRAME_BYTES_MAX: u64 = 3 * HEAD_BYTES_MAX as u64;
/// Most of what is read after the form's end, so that the connection can be used again.
const EPILOGUE_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// How much of an unknown field's name is given back.
const SHOWN_NAME_CHARS_MAX: usize = 64;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The boundary that a content type names; `None` where it is no `multipart/form-data`.
pub(super) fn boundary(content_type: &str) -> Option<Result<String, &'static str>> {
    match multer::parse_boundary(content_type) {
        Ok(boundary) if (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) => Some(Ok(boundary)),
        Ok(_) => Some(Err("the boundary is 1 to 70 characters")),
        Err(multer::Error::NoBoundary) => Some(Err("the boundary is missing")),
        Err(_) => None,
    }
}

/// Reads a form with one file. `length` is that of the whole body, where it is known.
pub(super) fn read(body: Body, boundary: String, length: Option<u64>, file_bytes_max: u64) -> Form {
    let feed = Feed::new(body);
    // Refused by its length alone, nothing of it is asked for: a client that awaits `100 Continue` sends nothing.
    if length.is_some_and(|length| length > file_bytes_max.saturating_add(FRAME_BYTES_MAX)) {
        return stream::iter([Err(upload_too_large(file_bytes_max))]).boxed();
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
            Ok(None) => return Err(file_missing()),
            Err(_) if self.feed.is_empty() => return Err(file_missing()),
            Err(error) => return Err(malformed(error)),
        };
        let name = field.file_name().map(decoded_name);
        // The head ends where the feed does: the rest of the length is the file's and what frames it.
        let fed = self.feed.lock().fed;
        let size = self.length.and_then(|length| length.checked_sub(fed + self.frame_end));
        self.feed.lock().begin_content();
        if name.as_deref() == Some("") {
            // What a browser sends for a field in which no file was chosen.
            let mut first = Bytes::new();
            while first.is_empty() {
                first = field.next().await.ok_or_else(file_missing)?.map_err(malformed)?;
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
                let detail = "The form has more than one file; send each in a request of its own.";
                Err(TaskError::new("too_many_files", "There is more than one file", 422, detail))
            }
            Err(error) => Err(malformed(error)),
        }
    }
}

/// Browsers write a quotation mark in a file name like this (WHATWG HTML, multipart/form-data).
fn decoded_name(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "").replace("%0A", "")
}

/// What a mistake in the form is to the task.
fn malformed(error: multer::Error) -> TaskError {
    if let multer::Error::UnknownField { field_name } = error {
        let name: String = field_name.unwrap_or_default().chars().take(SHOWN_NAME_CHARS_MAX).collect();
        let detail = format!("The form may have one field, file; it has {name:?}.");
        return TaskError::new("unknown_field", "There is no such field", 422, detail);
    }
    let detail = match error {
        multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
            "The form ends before its last boundary, or its boundary is another than the content type says."
        }
        multer::Error::ReadHeaderFailed(_)
        | multer::Error::IncompleteHeaders
        | multer::Error::DecodeHeaderName { .. }
        | multer::Error::DecodeHeaderValue { .. } => "The headers of a part cannot be read, or are too many.",
        _ => "The form cannot be read.",
    };
    TaskError::new("malformed_form", "The form is malformed", 400, detail)
}

/// The body on its way to the parser; clones share it.
#[derive(Clone)]
struct Feed(Arc<Mutex<State>>);

struct State {
    body: BodyDataStream,
    /// What has come and was not passed on yet.
    rest: Bytes,
    /// How many bytes were passed on …
    fed: u64,
    /// … and how many of them since a head began; `None` inside of the content.
    head_len: Option<usize>,
    /// The last bytes passed on in this head, at most three.
    head_tail: Vec<u8>,
    /// How often the parser is told to wait before it gets more.
    pauses: u8,
    failure: Option<TaskError>,
}

/// Why nothing more is passed on. The reason is kept in the feed, since the parser would wrap it.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body ended")
    }
}

impl std::error::Error for Stopped {}

impl Feed {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(State {
            body: body.into_data_stream(),
            rest: Bytes::new(),
            fed: 0,
            head_len: Some(0),
            head_tail: Vec::new(),
            pauses: 0,
            failure: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held within one poll only; a panic in there ends the job that reads.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> Option<TaskError> {
        self.lock().failure.take()
    }

    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.fed == 0 && state.failure.is_none()
    }

    /// Reads on to the end of the body, if it is near.
    async fn read_epilogue(&self) {
        let mut left = EPILOGUE_BYTES_MAX;
        let next = || std::future::poll_fn(|context| self.lock().body.poll_next_unpin(context));
        // The form is whole: what is wrong behind it is nobody's trouble.
        while let Some(Ok(bytes)) = next().await {
            match left.checked_sub(bytes.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

impl Stream for Feed {
    type Item = Result<Bytes, Stopped>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.lock();
        // The parser would go on for as long as something is ready. It is to give out what it has first.
        if let Some(pauses) = state.pauses.checked_sub(1) {
            state.pauses = pauses;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.rest.is_empty() {
            match std::task::ready!(state.body.poll_next_unpin(context)) {
                Some(Ok(bytes)) => state.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(state.stop(broken(&error))))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(state.pass()))
    }
}

impl State {
    fn begin_content(&mut self) {
        self.head_len = None;
    }

    fn begin_head(&mut self) {
        self.head_len = Some(0);
        self.head_tail.clear();
    }

    fn stop(&mut self, error: TaskError) -> Stopped {
        self.failure = Some(error);
        Stopped
    }

    /// The next piece: all that is there, or in a head as much as surely belongs to it.
    fn pass(&mut self) -> Result<Bytes, Stopped> {
        self.pauses = 1;
        let piece = match self.head_len {
            None => std::mem::take(&mut self.rest),
            Some(head_len) => {
                let piece = self.head_piece();
                self.head_len = Some(head_len + piece.len());
                if head_len + piece.len() > HEAD_BYTES_MAX {
                    let detail = format!("At most {HEAD_BYTES_MAX} bytes may come before the content of a part.");
                    let error = TaskError::new("form_head_too_large", "The head of a part is too large", 431, detail);
                    return Err(self.stop(error));
                }
                piece
            }
        };
        self.fed += piece.len() as u64;
        Ok(piece)
    }

    /// Takes a small piece that ends with the end of a head, where that is in it.
    fn head_piece(&mut self) -> Bytes {
        let len = self.rest.len().min(HEAD_PIECE_BYTES);
        let mut seen = std::mem::take(&mut self.head_tail);
        let seen_before = seen.len();
        seen.extend_from_slice(&self.rest[..len]);
        let end = seen.windows(HEAD_END.len()).position(|window| window == HEAD_END);
        if end.is_some() {
            // Looking for the first boundary it asks twice in one turn; it is to read this head before the content.
            self.pauses = 2;
        }
        let end = end.map_or(seen.len(), |start| start + HEAD_END.len());
        self.head_tail = seen[end.saturating_sub(HEAD_END.len() - 1)..end].to_vec();
        self.rest.split_to(end - seen_before)
    }
}

/// What a body that fails is to the task.
fn broken(error: &axum::Error) -> TaskError {
    let interrupted = ("upload_interrupted", "The upload was interrupted", 400, "The connection ended too early.");
    let (code, title, status, detail) = if timed_out(error) {
        let kind = &kinds::BODY_TIMED_OUT;
        (kind.code, kind.title, kind.status.as_u16(), "The client was silent for too long.")
    } else {
        interrupted
    };
    TaskError::new(code, title, status, detail)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const MAX: u64 = 1_000_000;

    /// Reads a form that comes in chunks of this size.
    async fn pieces(form: &[u8], chunk: usize) -> Result<(Option<String>, Option<u64>, Vec<u8>), TaskError> {
        let chunks: Vec<io::Result<Bytes>> = form.chunks(chunk).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let length = Some(form.len() as u64);
        collect(read(Body::from_stream(stream::iter(chunks)), "X".into(), length, MAX)).await
    }

    async fn collect(mut form: Form) -> Result<(Option<String>, Option<u64>, Vec<u8>), TaskError> {
        let mut read = (None, None, Vec::new());
        while let Some(piece) = form.next().await {
            match piece? {
                Piece::File { name, size } => (read.0, read.1) = (name, size),
                Piece::Bytes(bytes) => read.2.extend_from_slice(&bytes),
            }
        }
        Ok(read)
    }

    async fn code(form: &[u8]) -> String {
        code_cut(form, &[1, 7, 4096, form.len().max(1)]).await
    }

    async fn code_cut(form: &[u8], chunks: &[usize]) -> String {
        let mut codes = Vec::new();
        for &chunk in chunks {
            codes.push(pieces(form, chunk).await.expect_err("refused").code);
        }
        codes.dedup();
        assert_eq!(codes.len(), 1, "however it is cut: {codes:?}");
        codes.remove(0)
    }

    fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
        let head = format!("--X\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: a/b\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    }

    fn form(parts: &[Vec<u8>]) -> Vec<u8> {
        [parts.concat(), b"--X--\r\n".to_vec()].concat()
    }

    #[tokio::test]
    async fn a_file_is_read_however_it_is_cut() {
        let content: Vec<u8> = (0..20_000_u32).map(|byte| byte as u8).chain(*b"\r\n--\r\n\r\n--Y\r\n--").collect();
        let preamble = b"to be ignored\r\n\r\n".to_vec();
        let whole = form(&[preamble, part("name=\"file\"; filename=\"a %22b%22.txt\"", &content)]);
        for chunk in [1, 2, 3, 1000, whole.len()] {
            let (name, size, read) = pieces(&whole, chunk).await.expect("a good form");
            assert_eq!(name.as_deref(), Some("a \"b\".txt"));
            assert_eq!(size, Some(content.len() as u64), "known before the first byte");
            assert!(read == content, "cut by {chunk}");
        }
    }

    #[tokio::test]
    async fn what_is_no_form_with_one_file_is_refused() {
        let file = || part("name=\"file\"; filename=\"a\"", b"abc");
        assert_eq!(code(b"").await, "file_missing");
        assert_eq!(code(&form(&[])).await, "file_missing");
        assert_eq!(code(&form(&[part("name=\"file\"; filename=\"\"", b"")])).await, "file_missing");
        assert_eq!(code(&form(&[file(), file()])).await, "too_many_files");
        assert_eq!(code(&form(&[part("name=\"other\"", b"")])).await, "unknown_field");
        assert_eq!(code(&form(&[file(), part("name=\"other\"", b"")])).await, "unknown_field");
        assert_eq!(code(&file()).await, "malformed_form");
        assert_eq!(code(b"--Y\r\n\r\n\r\n--Y--\r\n").await, "malformed_form");
        assert_eq!(code(b"--X\r\n:bad\r\n\r\n\r\n--X--\r\n").await, "malformed_form");
        let many = "a: b\r\n".repeat(100);
        assert_eq!(code(format!("--X\r\n{many}\r\nabc\r\n--X--\r\n").as_bytes()).await, "malformed_form");
        let nameless = pieces(&form(&[part("name=\"file\"; filename=\"\"", b"abc")]), 5).await;
        assert_eq!(nameless.map(|(name, _, read)| (name, read)), Ok((None, b"abc".to_vec())));
    }

    #[tokio::test]
    async fn heads_are_bounded_wherever_they_are() {
        let bomb = vec![b'a'; HEAD_BYTES_MAX + 100];
        for start in ["", "--X\r\nA: "] {
            let form = [start.as_bytes(), &bomb].concat();
            assert_eq!(code_cut(&form, &[100, 4096, form.len()]).await, "form_head_too_large");
        }
        let behind = [part("name=\"file\"; filename=\"a\"", b"abc"), b"--X\r\nA: ".to_vec(), bomb].concat();
        // What comes in one chunk with the file's last byte is bounded by that chunk.
        assert_eq!(code_cut(&behind, &[50]).await, "form_head_too_large");
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_not_even_asked_for() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let body = stream::poll_fn(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(None::<io::Result<Bytes>>)
        });
        let refused = collect(read(Body::from_stream(body), "X".into(), Some(MAX + FRAME_BYTES_MAX + 1), MAX)).await;
        assert_eq!(
            (refused.map_err(|error| error.code), asked.load(Ordering::Relaxed)),
            (Err("upload_too_large".into()), 0)
        );
    }

    #[tokio::test]
    async fn the_parser_never_holds_more_than_a_chunk() {
        let given = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&given);
        let head = part("name=\"file\"; filename=\"a\"", b"");
        let chunks = stream::iter([Bytes::from(head)]).chain(stream::repeat(Bytes::from(vec![0; 1000])).take(1000));
        let body = Body::from_stream(chunks.map(move |chunk| {
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, io::Error>(chunk)
        }));
        let mut form = read(body, "X".into(), None, MAX);
        let mut taken = 0;
        while let Some(Ok(piece)) = form.next().await {
            if let Piece::Bytes(bytes) = piece {
                taken += bytes.len();
            }
            assert!(given.load(Ordering::Relaxed) < taken + 3000, "more is taken in than given out");
        }
    }

    #[tokio::test]
    async fn why_a_body_ended_is_told() {
        for (kind, code) in
            [(io::ErrorKind::ConnectionReset, "upload_interrupted"), (io::ErrorKind::TimedOut, "body_timed_out")]
        {
            let head = Bytes::from(part("name=\"file\"; filename=\"a\"", b"abc"));
            let body = Body::from_stream(stream::iter([Ok(head), Err(io::Error::from(kind))]));
            let refused = collect(read(body, "X".into(), None, MAX)).await;
            assert_eq!(refused.map_err(|error| error.code), Err(code.into()));
        }
    }

    #[test]
    fn boundaries_are_read_from_the_content_type() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some(Ok("abc".into())));
        assert_eq!(boundary("Multipart/Form-Data; boundary=\"a b\""), Some(Ok("a b".into())));
        assert_eq!(boundary("application/json"), None);
        assert_eq!(boundary(""), None);
        assert!(matches!(boundary("multipart/form-data"), Some(Err(_))));
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert!(matches!(boundary(&long), Some(Err(_))));
    }
}
