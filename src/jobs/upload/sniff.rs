//! What a file is, by its own bytes: what its sender says of it is not asked.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
};

use file_format::FileFormat;

use crate::jobs::files::blocking;

/// The media type of a file; `application/octet-stream` where its bytes say nothing.
///
/// Signatures are looked for in its first 64 KiB; of containers, as many parts as tell what they hold.
pub(super) async fn content_type(mut file: File) -> io::Result<String> {
    blocking(move || {
        file.seek(SeekFrom::Start(0))?;
        Ok(FileFormat::from_reader(file)?.media_type().to_owned())
    })
    .await
}

/// Whether a media type is the given one, or of the family that `image/*` names.
pub(super) fn matches(allowed: &str, content_type: &str) -> bool {
    match allowed.strip_suffix("/*") {
        Some(family) => content_type.split_once('/').is_some_and(|(found, _)| found == family),
        None => allowed == content_type,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn types_are_told_by_bytes() {
        for (bytes, found) in [
            (&b"\x89PNG\r\n\x1a\n"[..], "image/png"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"just some words\n", "text/plain"),
            (b"\x00\x01\x02\x03", "application/octet-stream"),
            (b"<!DOCTYPE html><html></html>", "text/html"),
            (b"", "application/x-empty"),
        ] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(bytes).expect("written");
            assert_eq!(content_type(file).await.expect("read"), found, "{bytes:?}");
        }
    }

    #[test]
    fn a_family_lets_its_members_in() {
        assert!(matches("image/*", "image/png") && matches("image/png", "image/png"));
        assert!(!matches("image/*", "imagery/png") && !matches("image/png", "image/jpeg"));
        assert!(!matches("image/*", "application/octet-stream"));
    }
}
