//! How each kind of setting is read from text and shown. Pure; the messages say
//! what would be right, and the caller says which setting was wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::LogFormat;

/// The longest duration that a setting may have. Far beyond any use, and short
/// enough that adding it to a point in time cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// One kind of setting: how its text is read, and how a value is written so that
/// reading it gives the same value.
pub(super) trait Kind {
    /// What the setting becomes.
    type Value;
    /// What stands for a value in the help.
    const PLACEHOLDER: &'static str;

    /// Reads a value; the error completes the sentence "… is wrong: …".
    fn parse(text: &str) -> Result<Self::Value, String>;
    /// Writes a value.
    fn show(value: &Self::Value) -> String;
}

/// An IP address with a port.
pub(super) enum Address {}

impl Kind for Address {
    type Value = SocketAddr;
    const PLACEHOLDER: &'static str = "ADDRESS:PORT";

    fn parse(text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
    }

    fn show(value: &SocketAddr) -> String {
        value.to_string()
    }
}

/// A path of the file system.
pub(super) enum Directory {}

impl Kind for Directory {
    type Value = PathBuf;
    const PLACEHOLDER: &'static str = "DIRECTORY";

    fn parse(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("expected a directory, such as ./data".to_owned());
        }
        Ok(PathBuf::from(text))
    }

    fn show(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

/// A duration with its unit, more than nothing.
pub(super) enum Time {}

impl Kind for Time {
    type Value = Duration;
    const PLACEHOLDER: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Duration, String> {
        let expected = "expected a duration with its unit, such as 50ms, 30s, 5m or 7d";
        let value = humantime::parse_duration(text.trim()).map_err(|_| expected.to_owned())?;
        if value < Duration::from_millis(1) || value > MAX_DURATION {
            return Err(format!("{expected}, of at least 1ms and at most 3650d"));
        }
        Ok(value)
    }

    fn show(value: &Duration) -> String {
        let milliseconds = value.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        for (unit, size) in units {
            if milliseconds.is_multiple_of(size) {
                return format!("{}{unit}", milliseconds / size);
            }
        }
        format!("{milliseconds}ms")
    }
}

/// A number of things, at least one.
pub(super) enum Count {}

impl Kind for Count {
    type Value = usize;
    const PLACEHOLDER: &'static str = "COUNT";

    fn parse(text: &str) -> Result<usize, String> {
        match text.trim().parse::<u32>() {
            Ok(count) if count > 0 => usize::try_from(count).map_err(|error| error.to_string()),
            _ => Err(format!("expected a whole number from 1 to {}", u32::MAX)),
        }
    }

    fn show(value: &usize) -> String {
        value.to_string()
    }
}

/// A number of bytes that may be larger than memory.
pub(super) enum Size {}

impl Kind for Size {
    type Value = u64;
    const PLACEHOLDER: &'static str = "SIZE";

    fn parse(text: &str) -> Result<u64, String> {
        let expected = "expected a size, such as 4096, 16KiB, 1MiB or 10GiB";
        match text.trim().parse::<ByteSize>() {
            Ok(size) if (1..=i64::MAX.unsigned_abs()).contains(&size.as_u64()) => Ok(size.as_u64()),
            Ok(_) => Err(format!("{expected}, more than 0 and less than 8EiB")),
            Err(_) => Err(expected.to_owned()),
        }
    }

    fn show(value: &u64) -> String {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in units {
            if value.trailing_zeros() >= shift {
                return format!("{}{unit}", value >> shift);
            }
        }
        value.to_string()
    }
}

/// A number of bytes that are held in memory.
pub(super) enum Memory {}

impl Kind for Memory {
    type Value = usize;
    const PLACEHOLDER: &'static str = Size::PLACEHOLDER;

    fn parse(text: &str) -> Result<usize, String> {
        match usize::try_from(Size::parse(text)?) {
            Ok(bytes) if bytes <= 1 << 30 => Ok(bytes),
            _ => Err("expected a size of at most 1GiB, since it is held in memory".to_owned()),
        }
    }

    fn show(value: &usize) -> String {
        Size::show(&u64::try_from(*value).unwrap_or(u64::MAX))
    }
}

/// The way a log line looks.
pub(super) enum Format {}

impl Kind for Format {
    type Value = LogFormat;
    const PLACEHOLDER: &'static str = "text|json";

    fn parse(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }

    fn show(value: &LogFormat) -> String {
        match value {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        }
    }
}

/// The directives that choose log lines.
pub(super) enum Filter {}

impl Kind for Filter {
    type Value = String;
    const PLACEHOLDER: &'static str = "FILTER";

    fn parse(text: &str) -> Result<String, String> {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
            _ => Err("expected a level or directives, such as info or progressd=debug,warn".into()),
        }
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// Host names, with or without a port.
pub(super) enum Hosts {}

impl Kind for Hosts {
    type Value = Vec<String>;
    const PLACEHOLDER: &'static str = "HOST,…";

    fn parse(text: &str) -> Result<Vec<String>, String> {
        list(text, "expected host names, such as progress.example or progress.example:8443", |host| {
            host.parse::<http::uri::Authority>()
                .is_ok_and(|authority| !authority.as_str().contains('@') && !authority.as_str().contains('*'))
        })
    }

    fn show(value: &Vec<String>) -> String {
        value.join(",")
    }
}

/// Origins of web pages (RFC 6454).
pub(super) enum Origins {}

impl Kind for Origins {
    type Value = Vec<String>;
    const PLACEHOLDER: &'static str = "ORIGIN,…";

    fn parse(text: &str) -> Result<Vec<String>, String> {
        list(text, "expected origins without a path, such as https://app.example", |origin| {
            origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && Hosts::parse(host).is_ok_and(|hosts| hosts.len() == 1)
            })
        })
    }

    fn show(value: &Vec<String>) -> String {
        value.join(",")
    }
}

/// Media types, or families of them.
pub(super) enum MediaTypes {}

impl Kind for MediaTypes {
    type Value = Vec<String>;
    const PLACEHOLDER: &'static str = "TYPE,…";

    fn parse(text: &str) -> Result<Vec<String>, String> {
        let is_token =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c));
        list(text, "expected media types, such as image/* or application/pdf", |media_type| {
            media_type.split_once('/').is_some_and(|(family, name)| is_token(family) && (name == "*" || is_token(name)))
        })
    }

    fn show(value: &Vec<String>) -> String {
        value.join(",")
    }
}

/// Reads a comma list whose items all satisfy `is_right`; the items come back in
/// lower case, because hosts, origins and media types are compared so.
fn list(text: &str, expected: &str, is_right: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    text.split(',')
        .map(|item| item.trim().to_ascii_lowercase())
        .filter(|item| !item.is_empty())
        .map(|item| if is_right(&item) { Ok(item) } else { Err(format!("{item:?} is none: {expected}")) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_keep_their_unit() {
        assert_eq!(Time::parse("75s"), Ok(Duration::from_secs(75)));
        assert_eq!(Time::parse("1m 15s"), Ok(Duration::from_secs(75)));
        assert_eq!(Time::show(&Duration::from_secs(75)), "75s");
        assert_eq!(Time::show(&Duration::from_secs(7 * 86_400)), "7d");
        assert_eq!(Time::show(&Duration::from_millis(50)), "50ms");
        for wrong in ["", "30", "0s", "-1s", "100ns", "9999999d", "soon"] {
            assert!(Time::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_binary_or_plain() {
        assert_eq!(Size::parse("10GiB"), Ok(10 << 30));
        assert_eq!(Size::parse("4096"), Ok(4096));
        assert_eq!(Size::show(&(10 << 30)), "10GiB");
        assert_eq!(Size::show(&1_500), "1500");
        for wrong in ["", "0", "-1", "ten", "10 GiX", "99999999999999999999"] {
            assert!(Size::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
        assert!(Memory::parse("2GiB").is_err());
    }

    #[test]
    fn lists_are_trimmed_lower_case_and_checked() {
        assert_eq!(Hosts::parse(" A.example , b:81,"), Ok(vec!["a.example".into(), "b:81".into()]));
        assert_eq!(Hosts::parse(""), Ok(vec![]));
        for wrong in ["http://a.example", "a/b", "me@a", "*", "a b"] {
            assert!(Hosts::parse(wrong).is_err(), "{wrong:?} was accepted as a host");
        }
        assert_eq!(Origins::parse("https://A.example:81"), Ok(vec!["https://a.example:81".into()]));
        for wrong in ["a.example", "*", "null", "https://a.example/", "ftp://a", "https://"] {
            assert!(Origins::parse(wrong).is_err(), "{wrong:?} was accepted as an origin");
        }
        assert_eq!(MediaTypes::parse("image/*"), Ok(vec!["image/*".into()]));
        for wrong in ["image", "*/*", "image/", "/png", "image/p*"] {
            assert!(MediaTypes::parse(wrong).is_err(), "{wrong:?} was accepted as a media type");
        }
    }

    #[test]
    fn counts_are_at_least_one() {
        assert_eq!(Count::parse("16"), Ok(16));
        for wrong in ["", "0", "-1", "1.5", "4294967296"] {
            assert!(Count::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
