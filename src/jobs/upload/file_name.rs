//! File names as people see them. They never name anything on this machine's disk, but some other machine will save a
//! file under one.

/// Longest name, in bytes: what common file systems take.
const NAME_BYTES_MAX: usize = 255;
/// The name of a file that has none.
const UNNAMED: &str = "file";

/// The last part of what a client calls its file, without what could mislead a reader, a shell or a file system.
pub(super) fn safe_name(given: Option<&str>) -> String {
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|character| !is_misleading(*character)).collect();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    let name = name.trim();
    // Only dots: this directory, the one above, or nothing.
    if name.trim_matches('.').is_empty() { UNNAMED.to_owned() } else { name.to_owned() }
}

/// Control characters, and those that turn the direction of writing: with them `fdp.exe` reads as `exe.pdf`.
fn is_misleading(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_safe_and_otherwise_kept() {
        for (given, safe) in [
            ("holiday.mp4", "holiday.mp4"),
            ("Füße (1).txt", "Füße (1).txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\x\\a.txt", "a.txt"),
            ("a\r\nSet-Cookie: b", "aSet-Cookie: b"),
            ("a\0b", "ab"),
            ("gpj\u{202e}.exe", "gpj.exe"),
            ("  padded  ", "padded"),
            ("..", "file"),
            ("/", "file"),
            ("", "file"),
        ] {
            assert_eq!(safe_name(Some(given)), safe, "{given:?}");
        }
        assert_eq!(safe_name(None), "file");
        let long = safe_name(Some(&"ä".repeat(200)));
        assert_eq!(long, "ä".repeat(127), "at most 255 bytes, and whole characters");
    }
}
