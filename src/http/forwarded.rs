//! What proxies say of the client they ask for: `Forwarded` (RFC 7239) and the older `X-Forwarded-For`, `-Proto` and
//! `-Host`. Pure; whether a proxy is believed at all is decided in `client.rs`.
//!
//! Each proxy adds a hop on the right, and whatever stood there before came from its own client. So hops are read from
//! the right for as long as their writer is trusted: the client is the first address that is not, and nothing left of
//! it is even looked at. What a trusted proxy cannot have meant is refused: a guess could be the client's own words.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, header, uri::Authority};
use ipnet::IpNet;

use super::problem::{Problem, kinds};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is known of a client from its proxies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ForwardedClient {
    pub(super) address: Option<IpAddr>,
    pub(super) is_https: Option<bool>,
    pub(super) host: Option<Authority>,
}

/// Why headers are refused: one of them, and what it must be.
type Refused = (HeaderName, &'static str);

/// Reads what the peer, which is trusted, says of its client. Where it says it in both ways, both must say the same: a
/// proxy that knows only one of them hands on what its client wrote into the other.
pub(super) fn forwarded(headers: &HeaderMap, trusted: &[IpNet]) -> Result<ForwardedClient, Problem> {
    let read = || {
        let (new, old) = (standard(headers, trusted)?, customary(headers, trusted)?);
        Ok(ForwardedClient {
            address: agreed(new.address, old.address)?,
            is_https: agreed(new.is_https, old.is_https)?,
            host: agreed(new.host, old.host)?,
        })
    };
    read().map_err(|(name, reason): Refused| Problem::new(&kinds::MALFORMED).with_error(name.as_str(), reason))
}

fn agreed<T: PartialEq>(new: Option<T>, old: Option<T>) -> Result<Option<T>, Refused> {
    match (new, old) {
        (Some(new), Some(old)) if new != old => Err((header::FORWARDED, "must not contradict X-Forwarded-*")),
        (new, old) => Ok(new.or(old)),
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Which hop is the client's, and its address, as far as it is told.
fn client_hop<'a>(
    nodes: impl DoubleEndedIterator<Item = Option<&'a str>> + ExactSizeIterator,
    trusted: &[IpNet],
) -> Result<(Option<usize>, Option<IpAddr>), &'static str> {
    let (mut hop, mut address) = (None, None);
    for (at, node) in nodes.enumerate().rev() {
        hop = Some(at);
        // A proxy that does not tell whom it asks for asks for itself.
        let Some(next) = node.map(node_address).transpose()?.flatten() else { break };
        address = Some(next);
        if !is_trusted(next, trusted) {
            break;
        }
    }
    Ok((hop, address))
}

/// By `Forwarded`.
fn standard(headers: &HeaderMap, trusted: &[IpNet]) -> Result<ForwardedClient, Refused> {
    let refuse = |reason| (header::FORWARDED, reason);
    let text = lines(headers, &header::FORWARDED)?;
    let hops: Vec<Hop> =
        parts(&text, ',').and_then(|hops| hops.into_iter().map(Hop::parse).collect()).map_err(refuse)?;
    let (hop, address) = client_hop(hops.iter().map(|hop| hop.node.as_deref()), trusted).map_err(refuse)?;
    let Some(hop) = hop.and_then(|at| hops.get(at)) else { return Ok(ForwardedClient::default()) };
    Ok(ForwardedClient {
        address,
        is_https: hop.protocol.as_deref().map(is_https).transpose().map_err(refuse)?,
        host: hop.host.as_deref().map(host).transpose().map_err(refuse)?,
    })
}

/// By the `X-Forwarded-*` headers.
fn customary(headers: &HeaderMap, trusted: &[IpNet]) -> Result<ForwardedClient, Refused> {
    let nodes = lines(headers, &X_FORWARDED_FOR)?;
    let nodes: Vec<&str> = items(&nodes).collect();
    let (hop, address) =
        client_hop(nodes.iter().copied().map(Some), trusted).map_err(|reason| (X_FORWARDED_FOR, reason))?;
    // The other headers are set once by the first proxy, or grow with the addresses.
    let of_hop = |name: &HeaderName| {
        let text = lines(headers, name)?;
        let values: Vec<&str> = items(&text).collect();
        match (&values[..], hop) {
            ([], _) => Ok(None),
            ([value], _) => Ok(Some((*value).to_owned())),
            (values, Some(hop)) if values.len() == nodes.len() => Ok(Some(values[hop].to_owned())),
            _ => Err((name.clone(), "must have one value, or one for each of X-Forwarded-For")),
        }
    };
    let protocol = of_hop(&X_FORWARDED_PROTO)?;
    let name = of_hop(&X_FORWARDED_HOST)?;
    Ok(ForwardedClient {
        address,
        is_https: protocol.as_deref().map(is_https).transpose().map_err(|reason| (X_FORWARDED_PROTO, reason))?,
        host: name.as_deref().map(host).transpose().map_err(|reason| (X_FORWARDED_HOST, reason))?,
    })
}

/// All lines of a header as one (RFC 9110, section 5.3).
fn lines(headers: &HeaderMap, name: &HeaderName) -> Result<String, Refused> {
    let lines: Result<Vec<&str>, _> = headers.get_all(name).iter().map(|line| line.to_str()).collect();
    lines.map(|lines| lines.join(",")).map_err(|_| (name.clone(), "must be visible ASCII"))
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// One element of `Forwarded`.
#[derive(Default)]
struct Hop {
    node: Option<String>,
    protocol: Option<String>,
    host: Option<String>,
}

impl Hop {
    fn parse(element: &str) -> Result<Self, &'static str> {
        let mut hop = Self::default();
        for pair in parts(element, ';')? {
            let (name, value) = pair.split_once('=').ok_or("must consist of name=value")?;
            let place = match name.to_ascii_lowercase().as_str() {
                "for" => &mut hop.node,
                "proto" => &mut hop.protocol,
                "host" => &mut hop.host,
                _ => continue,
            };
            if place.replace(unquoted(value)?).is_some() {
                return Err("must not say the same twice in one element");
            }
        }
        Ok(hop)
    }
}

/// What stands between separators, but for those inside quotes.
fn parts(text: &str, separator: char) -> Result<Vec<&str>, &'static str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let separates = |character: char| {
        let is_bare = !is_quoted;
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        is_bare && character == separator
    };
    let parts = text.split(separates).map(str::trim).filter(|part| !part.is_empty()).collect();
    if is_quoted { Err("must close its quotes") } else { Ok(parts) }
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    let malformed = "must quote values as a whole";
    let Some(quoted) = value.strip_prefix('"') else {
        return if value.contains(['"', ' ']) { Err(malformed) } else { Ok(value.to_owned()) };
    };
    let (mut text, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next() {
            Some('"') => break,
            Some('\\') => text.extend(characters.next()),
            Some(character) => text.push(character),
            None => return Err(malformed),
        }
    }
    if characters.as_str().is_empty() { Ok(text) } else { Err(malformed) }
}

/// The address of a hop, with or without a port; `None` if the proxy keeps it to itself (RFC 7239, section 6).
fn node_address(node: &str) -> Result<Option<IpAddr>, &'static str> {
    let is_port = |port: &str| port.parse::<u16>().is_ok() || port.starts_with('_');
    let (name, port) = match node.rsplit_once(':') {
        // A bare address of IPv6 is nothing but colons.
        Some((name, port)) if name.ends_with(']') || !name.contains(':') => (name, Some(port)),
        _ => (node, None),
    };
    if name.starts_with('_') || name.eq_ignore_ascii_case("unknown") {
        return Ok(None);
    }
    let address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(name) => name.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => name.parse(),
    };
    match address {
        Ok(address) if port.is_none_or(is_port) => Ok(Some(address.to_canonical())),
        _ => Err("must give the address of each client"),
    }
}

fn is_https(protocol: &str) -> Result<bool, &'static str> {
    match protocol {
        _ if protocol.eq_ignore_ascii_case("https") => Ok(true),
        _ if protocol.eq_ignore_ascii_case("http") => Ok(false),
        _ => Err("must be http or https"),
    }
}

fn host(name: &str) -> Result<Authority, &'static str> {
    let host = name.parse::<Authority>().ok().filter(|host| !host.as_str().contains('@'));
    host.ok_or("must be a host name with an optional port")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUSTED: [&str; 3] = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"];

    /// Address, scheme and host as found in these lines, or what is refused.
    fn found(lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let trusted = TRUSTED.map(|network| network.parse().expect("a network"));
        match forwarded(&headers, &trusted) {
            Err(problem) => format!("{} refused", problem.errors()[0].field),
            Ok(client) => {
                let address = client.address.map_or("-".to_owned(), |address| address.to_string());
                let scheme = client.is_https.map_or("-", |is_https| if is_https { "https" } else { "http" });
                let host = client.host.map_or("-".to_owned(), |host| host.to_string());
                format!("{address} {scheme} {host}")
            }
        }
    }

    fn check(name: &'static str, cases: &[(&str, &str)]) {
        for (value, expected) in cases {
            assert_eq!(found(&[(name, value)]), *expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_is_not_trusted() {
        check(
            "x-forwarded-for",
            &[
                ("203.0.113.7", "203.0.113.7 - -"),
                ("1.1.1.1, 203.0.113.7", "203.0.113.7 - -"),
                ("1.1.1.1, 203.0.113.7, 10.1.2.3,10.9.9.9", "203.0.113.7 - -"),
                ("10.1.1.1, 10.2.2.2", "10.1.1.1 - -"),
                ("127.0.0.1, 203.0.113.7", "203.0.113.7 - -"),
                ("evil\"; drop, 203.0.113.7", "203.0.113.7 - -"),
                (",, 203.0.113.7 ,", "203.0.113.7 - -"),
                ("203.0.113.7:4711", "203.0.113.7 - -"),
                ("2001:db8::1", "2001:db8::1 - -"),
                ("[2001:db8::1]:443, fd00::1, [fd00::2]", "2001:db8::1 - -"),
                ("::ffff:203.0.113.7", "203.0.113.7 - -"),
                ("::ffff:203.0.113.7, ::ffff:10.0.0.1", "203.0.113.7 - -"),
                ("9.9.9.9, unknown, 10.0.0.1", "10.0.0.1 - -"),
                ("9.9.9.9, _secret", "- - -"),
                ("", "- - -"),
            ],
        );
        assert_eq!(
            found(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7")]),
            "203.0.113.7 - -",
            "a line that was added comes last"
        );
    }

    #[test]
    fn what_no_proxy_means_is_refused() {
        for node in [
            "evil",
            "1.2.3",
            "203.0.113.7:x",
            "[::1",
            "::1]",
            "[203.0.113.7]",
            "fe80::1%eth0",
            "a b",
            "1.1.1.1:",
            "203.0.113.7:70000",
        ] {
            assert_eq!(found(&[("x-forwarded-for", node)]), "x-forwarded-for refused", "{node}");
            assert_eq!(found(&[("forwarded", &format!("for=\"{node}\""))]), "forwarded refused", "{node}");
        }
        for scheme in ["ftp", "httpss", "https://", "https http"] {
            assert_eq!(found(&[("x-forwarded-proto", scheme)]), "x-forwarded-proto refused", "{scheme}");
        }
        for name in ["user@a.example", "a b", "a.example/x"] {
            assert_eq!(found(&[("x-forwarded-host", name)]), "x-forwarded-host refused", "{name}");
        }
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"] {
            assert_eq!(found(&[(name, "\u{fc}")]), format!("{name} refused"));
        }
    }

    #[test]
    fn forwarded_is_read_with_its_quotes() {
        check(
            "forwarded",
            &[
                ("for=203.0.113.7", "203.0.113.7 - -"),
                ("For=\"[2001:db8::1]:4711\";Proto=HTTPS;by=10.0.0.1; host=a.example", "2001:db8::1 https a.example"),
                ("for=1.1.1.1;proto=https, for=203.0.113.7;proto=http, for=10.0.0.1;proto=https", "203.0.113.7 http -"),
                ("for=\"a, for=1.1.1.1\", for=203.0.113.7", "203.0.113.7 - -"),
                ("ext=\"\\\", for=9.9.9.9\";for=203.0.113.7", "203.0.113.7 - -"),
                ("for=1.1.1.1;host=evil, for=_hidden;host=a.example", "- - a.example"),
                ("for=1.1.1.1, proto=https", "- https -"),
                ("for=\"unknown:80\"", "- - -"),
                // An open quote would swallow what the proxy adds.
                ("for=\"1.1.1.1, for=203.0.113.7", "forwarded refused"),
                ("for=1.1.1.1;for=203.0.113.7", "forwarded refused"),
                ("for=\"203.0.113.7\"x", "forwarded refused"),
                ("for=2\"03.0.113.7\"", "forwarded refused"),
                ("203.0.113.7", "forwarded refused"),
                ("for=203.0.113.7;proto=gopher", "forwarded refused"),
                ("for=203.0.113.7;host=\"a/b\"", "forwarded refused"),
            ],
        );
    }

    #[test]
    fn the_other_headers_are_of_the_clients_hop() {
        let all = |nodes: &str, schemes: &str, hosts: &str| {
            found(&[("x-forwarded-for", nodes), ("x-forwarded-proto", schemes), ("x-forwarded-host", hosts)])
        };
        assert_eq!(all("203.0.113.7", "https", "a.example:8443"), "203.0.113.7 https a.example:8443");
        assert_eq!(all("1.1.1.1, 203.0.113.7, 10.0.0.1", "https", "a.example"), "203.0.113.7 https a.example");
        assert_eq!(all("1.1.1.1, 203.0.113.7", "https, http", "evil, a"), "203.0.113.7 http a");
        assert_eq!(all("203.0.113.7", "https, http", "a"), "x-forwarded-proto refused");
        assert_eq!(all("203.0.113.7", "https", "evil, a"), "x-forwarded-host refused");
        assert_eq!(all("", "https", "a.example"), "- https a.example");
        assert_eq!(all("", "https, http", "a"), "x-forwarded-proto refused");
    }

    #[test]
    fn both_ways_must_agree() {
        let both = |new: &str, nodes: &str, scheme: &str| {
            found(&[("forwarded", new), ("x-forwarded-for", nodes), ("x-forwarded-proto", scheme)])
        };
        assert_eq!(both("for=203.0.113.7;proto=https;host=a", "203.0.113.7", "https"), "203.0.113.7 https a");
        assert_eq!(both("for=203.0.113.7", "203.0.113.7", "https"), "203.0.113.7 https -");
        assert_eq!(both("for=1.1.1.1", "203.0.113.7", "https"), "forwarded refused");
        assert_eq!(both("for=203.0.113.7;proto=https", "203.0.113.7", "http"), "forwarded refused");
    }
}
