//! Words for what hyper refuses by itself: a head that it cannot read is answered with a status and an empty body, and
//! nobody is asked. That answer is known by its form as it is written, and another one is written in its place.

use std::io::IoSlice;

use bytes::Bytes;
use http::{Response, StatusCode, header};

/// What a refusal of a head says. The connection ends with it.
pub type RefuseHead = fn(UnreadHead) -> Response<Bytes>;

/// Why nobody reads a head.
#[derive(Clone, Copy, Debug)]
pub enum UnreadHead {
    /// hyper cannot read it, and answers with this status.
    Unreadable(StatusCode),
    /// It came without encryption where TLS is spoken.
    NotEncrypted,
}

/// The statuses with which hyper refuses heads.
const STATUSES: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
/// What follows the status line in such an answer, up to its date, which comes last.
const BARE: &[u8] = b"connection: close\r\ncontent-length: 0\r\ndate: ";

/// The status of a refusal by hyper, where that is all that `written` holds. Answers of routes have other headers, too.
pub(super) fn bare_status(written: &[IoSlice<'_>]) -> Option<StatusCode> {
    let [head] = written else { return None };
    STATUSES.into_iter().find(|status| {
        let date = head.strip_prefix(status_line(*status).as_bytes()).and_then(|rest| rest.strip_prefix(BARE));
        date.is_some_and(|date| date.iter().position(|byte| *byte == b'\r') == date.len().checked_sub(4))
    })
}

/// A whole answer in place of a bare one.
pub(super) fn answer(refused: &Response<Bytes>) -> Bytes {
    let mut text = status_line(refused.status()).into_bytes();
    for (name, value) in refused.headers() {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let end = format!("{}: close\r\n{}: {}\r\n\r\n", header::CONNECTION, header::CONTENT_LENGTH, refused.body().len());
    [&text, end.as_bytes(), refused.body()].concat().into()
}

fn status_line(status: StatusCode) -> String {
    format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_refusal_is_known_as_one() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let bare = |line: &str| format!("HTTP/1.1 {line}\r\nconnection: close\r\ncontent-length: 0\r\ndate: {date}");
        let status = |text: &str| bare_status(&[IoSlice::new(text.as_bytes())]).map(|status| status.as_u16());
        assert_eq!(status(&bare("400 Bad Request")), Some(400));
        assert_eq!(status(&bare("431 Request Header Fields Too Large")), Some(431));
        for other in [
            bare("404 Not Found"),
            bare("400 Bad Request") + "more",
            bare("400 Bad Request").replace(date, "x\r\nx-request-id: 1\r\n\r\n"),
            bare("400 Bad Request").replace("content-length: 0", "content-length: 1"),
            String::new(),
        ] {
            assert_eq!(status(&other), None, "{other}");
        }
        let text = bare("400 Bad Request");
        assert_eq!(bare_status(&[IoSlice::new(text.as_bytes()), IoSlice::new(b"body")]), None);
    }
}
