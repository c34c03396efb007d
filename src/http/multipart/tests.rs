//! Forms, good and bad, cut at any place.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
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
