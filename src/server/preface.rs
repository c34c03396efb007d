//! Which protocol a client speaks, told by its first bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A protocol on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    /// With prior knowledge: nothing is negotiated on a plaintext connection.
    Http2,
}

/// Reads until the protocol is clear, which a client of HTTP/1 makes it with its first bytes. Also gives the bytes
/// read; none means that the client has hung up.
///
/// # Errors
///
/// When reading fails.
pub(super) async fn detect<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<(Protocol, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() {
        let room = PREFACE.len() - bytes.len();
        let count = io.take(room as u64).read_buf(&mut bytes).await?;
        if count == 0 || !PREFACE.starts_with(&bytes) {
            return Ok((Protocol::Http1, bytes));
        }
    }
    Ok((Protocol::Http2, bytes))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// What is found when `parts` come one after the other, and what of them was not read.
    async fn found(parts: &[&[u8]]) -> (Protocol, Vec<u8>) {
        let (mut ours, mut theirs) = duplex(1);
        let send = async {
            for part in parts {
                theirs.write_all(part).await.expect("the reader takes all");
            }
            drop(theirs);
        };
        let look = async {
            let (protocol, mut bytes) = detect(&mut ours).await.expect("bytes");
            ours.read_to_end(&mut bytes).await.expect("the rest");
            (protocol, bytes)
        };
        let ((), found) = tokio::join!(send, look);
        found
    }

    #[tokio::test]
    async fn the_protocol_is_told_and_no_byte_is_lost() {
        for text in
            ["", "G", "GET / HTTP/1.1\r\n", "PRI", "PROPFIND / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"]
        {
            assert_eq!(found(&[text.as_bytes()]).await, (Protocol::Http1, text.as_bytes().to_vec()), "{text:?}");
        }
        let frames = [&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
        assert_eq!(found(&[&frames[..5], &frames[5..]]).await, (Protocol::Http2, frames));
    }
}
