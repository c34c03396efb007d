//! How the text of each kind of setting is parsed. Pure; an error completes the sentence "... is wrong: ..." with what is
//! expected, and the caller says which setting was wrong.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use super::LogFormat;

/// The longest duration that a setting may have. Far beyond any use, and short
/// enough that adding it to a point in time cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The longest time of a rate.
const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Items of a setting that were separated by commas. Named, since clap takes a `Vec` for a flag that may be repeated.
pub(super) type List = Vec<String>;

/// The same of networks.
pub(super) type Networks = Vec<IpNet>;

/// An IP address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// A path of the file system.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a directory, such as ./data".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// Where the keys of tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// At a URL: of https, or of http on this machine.
    Url(String),
}

/// A file.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected the name of a file".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A file, or a URL that nobody on the way can answer in another's place.
pub(super) fn key_source(text: &str) -> Result<KeySource, String> {
    if text.is_empty() {
        return Err("expected the name of a file, or a URL".to_owned());
    }
    if !text.contains("://") {
        return Ok(KeySource::File(text.into()));
    }
    let is_loopback = |host: &str| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    let is_right = text.parse::<http::Uri>().is_ok_and(|url| {
        let plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let is_safe = match url.scheme_str() {
            Some("https") => true,
            Some("http") => url.host().is_some_and(is_loopback),
            _ => false,
        };
        plain && is_safe
    });
    let expected = "expected the name of a file, or a URL of https without a password, or of http on this machine";
    if is_right { Ok(KeySource::Url(text.to_owned())) } else { Err(expected.to_owned()) }
}

/// A text that is not empty.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected a text".to_owned()) } else { Ok(text.to_owned()) }
}

/// Whether something is so.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

/// What nobody may read in a log or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A secret, or `@` and the file that holds it; a line break at the end of the file does not count.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub fn secret(text: &str) -> Result<Secret, String> {
    let bytes = match text.strip_prefix('@') {
        None => text.as_bytes().to_owned(),
        Some(file) => {
            let mut bytes = std::fs::read(file).map_err(|error| format!("the file cannot be read: {error}"))?;
            bytes.truncate(bytes.trim_ascii_end().len());
            bytes
        }
    };
    if bytes.is_empty() { Err("expected a secret, or @ and the name of a file".to_owned()) } else { Ok(Secret(bytes)) }
}

/// A duration with its unit, at least a millisecond.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration with its unit, such as 50ms, 30s, 5m or 7d";
    let value = humantime::parse_duration(text.trim()).map_err(|_| expected.to_owned())?;
    if value < Duration::from_millis(1) || value > MAX_DURATION {
        return Err(format!("{expected}, of at least 1ms and at most 3650d"));
    }
    Ok(value)
}

/// A number of things, at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.trim().parse::<u32>() {
        Ok(count) if count > 0 => usize::try_from(count).map_err(|error| error.to_string()),
        _ => Err(format!("expected a whole number from 1 to {}", u32::MAX)),
    }
}

/// So many in so long: a bucket that holds `count`, and is filled again within `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In whole seconds.
    pub per: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, humantime::format_duration(self.per))
    }
}

/// A count and the time in which it is allowed.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let expected = "expected a count and the time in which it is allowed, in whole seconds, such as 600/1m or 10/1s";
    let parsed = text.split_once('/').and_then(|(count, per)| Some((count.trim().parse().ok()?, duration(per).ok()?)));
    match parsed {
        Some((count, per)) if per.subsec_nanos() == 0 && per <= MAX_WINDOW => Ok(Rate { count, per }),
        _ => Err(format!("{expected}, and of at most a day")),
    }
}

/// A number of bytes that may be larger than memory.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = "expected a size, such as 4096, 16KiB, 1MiB or 10GiB";
    match text.trim().parse::<ByteSize>() {
        Ok(size) if (1..=i64::MAX.unsigned_abs()).contains(&size.as_u64()) => Ok(size.as_u64()),
        Ok(_) => Err(format!("{expected}, more than 0 and less than 8EiB")),
        Err(_) => Err(expected.to_owned()),
    }
}

/// A number of bytes that are held in memory.
pub(super) fn memory_size(text: &str) -> Result<usize, String> {
    match usize::try_from(size(text)?) {
        Ok(bytes) if bytes <= 1 << 30 => Ok(bytes),
        _ => Err("expected a size of at most 1GiB, since it is held in memory".to_owned()),
    }
}

/// The format of log lines.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

/// The directives that select log lines.
pub(super) fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("expected a level or directives, such as info or progressd=debug,warn".into()),
    }
}

/// Host names, with or without a port.
pub(super) fn hosts(text: &str) -> Result<List, String> {
    list(text, "expected host names, such as progress.example or progress.example:8443", |host| {
        host.parse::<http::uri::Authority>()
            .is_ok_and(|authority| !authority.as_str().contains('@') && !authority.as_str().contains('*'))
    })
}

/// Origins of web pages (RFC 6454).
pub(super) fn origins(text: &str) -> Result<List, String> {
    list(text, "expected origins without a path, such as https://app.example", |origin| {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            matches!(scheme, "http" | "https") && hosts(host).is_ok_and(|hosts| hosts.len() == 1)
        })
    })
}

/// Networks and single addresses.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    let network = |item: &str| item.parse().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from));
    let items = list(text, "expected addresses and networks, such as 127.0.0.1, ::1 or 10.0.0.0/8", |item| {
        network(item).is_some()
    })?;
    items
        .iter()
        .filter_map(|item| network(item))
        .map(|network| match network {
            _ if network.prefix_len() == 0 => {
                Err(format!("{network} is every address, and clients are not to be trusted"))
            }
            IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() => {
                Err(format!("{network} is a network of IPv4: write it without ::ffff:"))
            }
            network => Ok(network),
        })
        .collect()
}

/// Media types, or families of them.
pub(super) fn media_types(text: &str) -> Result<List, String> {
    let is_token =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c));
    list(text, "expected media types, such as image/* or application/pdf", |media_type| {
        media_type.split_once('/').is_some_and(|(family, name)| is_token(family) && (name == "*" || is_token(name)))
    })
}

/// Names of topics, or their beginnings with an asterisk.
pub(super) fn topics(text: &str) -> Result<List, String> {
    let is_part_of_name = |letter: char| letter.is_ascii_alphanumeric() || "-_.~@".contains(letter);
    let is_topic = |topic: &str| topic.strip_suffix('*').unwrap_or(topic).chars().all(is_part_of_name);
    let read = |topic: &str| match is_topic(topic) {
        true => Ok(topic.to_owned()),
        false => Err(format!("{topic:?} is not valid: expected names of topics, such as news or game.*")),
    };
    text.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(read).collect()
}

/// Reads a comma list whose items all satisfy `is_right`; the items come back in lower case, because hosts, origins and
/// media types are compared so.
fn list(text: &str, expected: &str, is_right: impl Fn(&str) -> bool) -> Result<List, String> {
    text.split(',')
        .map(|item| item.trim().to_ascii_lowercase())
        .filter(|item| !item.is_empty())
        .map(|item| if is_right(&item) { Ok(item) } else { Err(format!("{item:?} is not valid: {expected}")) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("75s"), Ok(Duration::from_secs(75)));
        assert_eq!(duration("1m 15s"), Ok(Duration::from_secs(75)));
        for wrong in ["", "30", "0s", "-1s", "100ns", "9999999d", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn rates_are_a_count_in_whole_seconds() {
        let parsed = rate(" 600/1m").expect("a rate");
        assert_eq!((parsed.count.get(), parsed.per), (600, Duration::from_secs(60)));
        assert_eq!(parsed.to_string(), "600/1m");
        for wrong in ["", "600", "0/1m", "-1/1m", "1/0s", "1/500ms", "1/1500ms", "1/2d", "1/m", "4294967296/1m"] {
            assert!(rate(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_binary_or_plain() {
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "0", "-1", "ten", "10 GiX", "99999999999999999999"] {
            assert!(size(wrong).is_err(), "{wrong:?} was accepted");
        }
        assert!(memory_size("2GiB").is_err());
    }

    #[test]
    fn lists_are_trimmed_lower_case_and_checked() {
        assert_eq!(hosts(" A.example , b:81,"), Ok(vec!["a.example".into(), "b:81".into()]));
        assert_eq!(hosts(""), Ok(vec![]));
        for wrong in ["http://a.example", "a/b", "me@a", "*", "a b"] {
            assert!(hosts(wrong).is_err(), "{wrong:?} was accepted as a host");
        }
        assert_eq!(origins("https://A.example:81"), Ok(vec!["https://a.example:81".into()]));
        for wrong in ["a.example", "*", "null", "https://a.example/", "ftp://a", "https://"] {
            assert!(origins(wrong).is_err(), "{wrong:?} was accepted as an origin");
        }
        let text = |list: &str| networks(list).map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            text("127.0.0.1, FD00::/8,10.1.2.3/8"),
            Ok(["127.0.0.1/32", "fd00::/8", "10.1.2.3/8"].map(String::from).to_vec())
        );
        for wrong in
            ["localhost", "10.0.0.0/33", "10.0.0/8", "127.0.0.1:80", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104"]
        {
            assert!(networks(wrong).is_err(), "{wrong:?} was accepted as a network");
        }
        assert_eq!(media_types("image/*"), Ok(vec!["image/*".into()]));
        for wrong in ["image", "*/*", "image/", "/png", "image/p*"] {
            assert!(media_types(wrong).is_err(), "{wrong:?} was accepted as a media type");
        }
    }

    #[test]
    fn topics_are_names_or_their_beginnings() {
        assert_eq!(topics("News, game.*,*"), Ok(vec!["News".into(), "game.*".into(), "*".into()]));
        assert_eq!(topics(""), Ok(vec![]));
        for wrong in ["a b", "a*b", "topic:a", "*.a"] {
            assert!(topics(wrong).is_err(), "{wrong:?} was accepted as a topic");
        }
    }

    #[test]
    fn counts_are_at_least_one() {
        assert_eq!(count("16"), Ok(16));
        for wrong in ["", "0", "-1", "1.5", "4294967296"] {
            assert!(count(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
