//! Access without accounts: the host names this service answers to, and the origins whose pages may use it (CORS).
//!
//! Any program that reaches the port may use it; so a page of another origin must not reach it through its visitor's
//! browser. `Host` catches DNS rebinding: a foreign name that its owner resolves to this machine. `Sec-Fetch-Site` (W3C
//! Fetch Metadata), `Origin` (RFC 6454) and `Referer`, which browsers set themselves, catch forms, scripts and images of
//! other sites. Programs other than browsers send none of them and pass. It must not know routes or tasks.
//!
//! CORS is by hand: the layer of tower-http answers every OPTIONS itself, without asking the route.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::extract::{FromRequestParts, Request};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts, uri::Authority};
use utoipa::openapi::{OpenApi, PathItem, path::Operation};

use super::{
    App,
    client::Client,
    extract::single,
    problem::{Problem, kinds},
    refusals::{self, Refuses, refuses},
};
use crate::config::HttpConfig;

/// What there are.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// The headers that it may set.
const CORS_REQUEST_HEADERS: &str = "content-type, accept, authorization, idempotency-key, if-none-match, if-range, last-event-id, \
                                    lease-token, prefer, range, x-request-id";
/// The headers of an answer that it may read.
const CORS_RESPONSE_HEADERS: &str = "location, etag, www-authenticate, retry-after, preference-applied, idempotency-key, allow, \
                                     x-request-id, accept-ranges, content-range, content-disposition, ratelimit, \
                                     ratelimit-policy";
/// How long a browser may remember a preflight's answer, in seconds.
const CORS_MAX_AGE: &str = "600";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// What the guard says of a request.
pub(super) struct Checked {
    /// Why the request reaches no route.
    pub(super) refusal: Option<Problem>,
    /// The page that may read the answer.
    pub(super) reader: Option<ForeignPage>,
}

/// A page of another origin that may use the service.
pub(super) struct ForeignPage {
    origin: HeaderValue,
    /// Its browser asks what the page may send.
    is_preflight: bool,
    /// It asks so of a network that is not its own.
    is_private: bool,
}

/// Refuses requests to other names and requests of other sites.
pub(super) fn check(request: &Request, client: &Client, config: &HttpConfig) -> Checked {
    let headers = request.headers();
    let asks_method = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let reader = allowed_origin(headers, config).map(|origin| ForeignPage {
        origin: origin.clone(),
        is_preflight: *request.method() == Method::OPTIONS && asks_method,
        is_private: headers.contains_key(REQUEST_PRIVATE_NETWORK),
    });
    Checked { refusal: check_request(request, client, config).err(), reader }
}

/// Says in the headers of an answer whose page may read it, and to a preflight what the page may send.
pub(super) fn allow(
    headers: &mut HeaderMap,
    reader: Option<ForeignPage>,
    methods: Option<&HeaderValue>,
    config: &HttpConfig,
) {
    if !config.allowed_origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(ForeignPage { origin, is_preflight, is_private }) = reader {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        // Only origins that are named come here.
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(CORS_RESPONSE_HEADERS));
        if let Some(methods) = methods.filter(|_| is_preflight) {
            allow_sending(headers, methods, is_private);
        }
    }
}

/// The methods of each route. The router adds `Allow` only to what has passed this layer.
pub(super) fn methods(api: &OpenApi) -> HashMap<String, HeaderValue> {
    let of_route = |(path, item): (&String, &PathItem)| {
        let is_there = [
            ("GET,HEAD", item.get.is_some()),
            ("POST", item.post.is_some()),
            ("PUT", item.put.is_some()),
            ("PATCH", item.patch.is_some()),
            ("DELETE", item.delete.is_some()),
        ];
        let methods: Vec<&str> = is_there.iter().filter(|(_, is_there)| *is_there).map(|(method, _)| *method).collect();
        Some((path.clone(), HeaderValue::from_str(&methods.join(",")).ok()?))
    };
    api.paths.paths.iter().filter_map(of_route).collect()
}

fn allow_sending(headers: &mut HeaderMap, methods: &HeaderValue, is_private: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(CORS_REQUEST_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(CORS_MAX_AGE));
    if is_private {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
}

/// An argument of every handler of a GET that has an effect: refuses requests of other sites, as [`check`] does for
/// the unsafe methods, and tells HEAD, which must not have any.
#[derive(Clone, Copy, Debug)]
pub(super) struct HasEffect {
    /// Only the head of the answer is wanted, and no effect.
    pub(super) is_head: bool,
}

impl FromRequestParts<App> for HasEffect {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Ok(client) = Client::from_request_parts(parts, app).await;
        check_site(&parts.uri, &parts.headers, &client, &app.config.http)?;
        Ok(Self { is_head: parts.method == Method::HEAD })
    }
}

refuses!(HasEffect: kinds::CROSS_SITE);

/// Adds to the description of every route what this layer refuses.
pub(super) fn describe(method: &Method, operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    refusals::add(responses, &[&kinds::MALFORMED, &kinds::WRONG_HOST]);
    if !is_safe(method) {
        refusals::add(responses, &HasEffect::kinds());
    }
}

/// Refuses a head over HTTP/2 that is larger than allowed, counted as RFC 9113 section 10.5.1 has it. The connection lets
/// it through, as far as it reads one at all; over HTTP/1 it has answered by itself.
pub(super) fn check_head(request: &Request, max_bytes: usize) -> Result<(), Problem> {
    // What a line costs beside its text.
    const LINE: usize = 32;
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let lines = || request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    if request.version() != Version::HTTP_2 || target + lines().sum::<usize>() <= max_bytes {
        return Ok(());
    }
    Err(Problem::new(&kinds::HEAD_TOO_LARGE).with_detail("The path and the headers are bounded by --max-header."))
}

fn check_request(request: &Request, client: &Client, config: &HttpConfig) -> Result<(), Problem> {
    check_host(request.uri(), request.headers(), client, config)?;
    if is_safe(request.method()) { Ok(()) } else { check_site(request.uri(), request.headers(), client, config) }
}

/// OPTIONS has no effect here, and a preflight that is refused says less to a developer than one without the allowing
/// headers.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Every name that the request gives must be ours: the `Host` header, the authority of an absolute target or of HTTP/2's
/// `:authority`, and what the client named to a proxy.
fn check_host(uri: &Uri, headers: &HeaderMap, client: &Client, config: &HttpConfig) -> Result<(), Problem> {
    let malformed = || Problem::new(&kinds::MALFORMED).with_error("host", "must be a host name with an optional port");
    let host = match single(headers, &header::HOST)? {
        Some(text) => Some(text.parse::<Authority>().map_err(|_| malformed())?),
        None => None,
    };
    let mut named = host.iter().chain(uri.authority()).peekable();
    if named.peek().is_none() || named.clone().any(|name| name.as_str().contains('@')) {
        return Err(malformed());
    }
    if named.chain(&client.forwarded_host).all(|name| is_ours(name, config)) { Ok(()) } else { Err(wrong_host()) }
}

fn wrong_host() -> Problem {
    Problem::new(&kinds::WRONG_HOST)
        .with_detail("The service answers to loopback names and to the names in --allowed-hosts.")
}

fn is_ours(name: &Authority, config: &HttpConfig) -> bool {
    let is = |allowed: &String| [name.as_str(), name.host()].iter().any(|name| allowed.eq_ignore_ascii_case(name));
    is_loopback(name.host()) || config.allowed_hosts.iter().any(is)
}

/// `localhost`, names below it (RFC 6761 section 6.3), and loopback addresses.
fn is_loopback(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| IpAddr::V6(address).to_canonical().is_loopback());
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    // The last label.
    host.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// Refuses what a page of another site makes its visitor's browser send.
pub(super) fn check_site(uri: &Uri, headers: &HeaderMap, client: &Client, config: &HttpConfig) -> Result<(), Problem> {
    if allowed_origin(headers, config).is_some() {
        return Ok(());
    }
    let foreign = |detail: &'static str| Err(Problem::new(&kinds::CROSS_SITE).with_detail(detail));
    match single(headers, &SEC_FETCH_SITE)? {
        // `none`: the user typed the address or opened a bookmark.
        None | Some("same-origin" | "none") => {}
        // `same-site` is another port or a sibling name: another program's page.
        Some(_) => {
            return foreign("The page belongs to another origin, which is not in --allowed-origins.");
        }
    }
    match single(headers, &header::ORIGIN)? {
        None => {}
        Some(origin) if is_same_origin(origin, uri, headers, client) => {}
        // `null` is any sandboxed frame, file or redirect across origins.
        Some(_) => return foreign("The origin is neither this service nor in --allowed-origins."),
    }
    // On plain HTTP browsers send neither of these with an image or a link, but most send this.
    match single(headers, &header::REFERER)?.map(origin_of) {
        None | Some("") => Ok(()),
        Some(origin) if is_same_origin(origin, uri, headers, client) || is_listed(origin, config) => Ok(()),
        Some(_) => foreign("The page that leads here is neither of this service nor in --allowed-origins."),
    }
}

/// The origin of a page's URL.
fn origin_of(url: &str) -> &str {
    let path = url.find("://").and_then(|scheme| url[scheme + 3..].find(['/', '?', '#']).map(|path| scheme + 3 + path));
    &url[..path.unwrap_or(url.len())]
}

/// Whether an origin names the host and port that the request was sent to. An https origin is also taken where the
/// request came by http: a proxy that is not known to us may have taken the encryption off.
fn is_same_origin(origin: &str, uri: &Uri, headers: &HeaderMap, client: &Client) -> bool {
    let plain = || origin.strip_prefix("http://").filter(|_| !client.is_https);
    let Some(named) = origin.strip_prefix("https://").or_else(plain) else { return false };
    client.host(uri, headers).is_some_and(|target| target.eq_ignore_ascii_case(named))
}

fn allowed_origin<'a>(headers: &'a HeaderMap, config: &HttpConfig) -> Option<&'a HeaderValue> {
    let text = single(headers, &header::ORIGIN).ok()??;
    headers.get(header::ORIGIN).filter(|_| is_listed(text, config))
}

fn is_listed(origin: &str, config: &HttpConfig) -> bool {
    config.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> HttpConfig {
        HttpConfig {
            allowed_hosts: vec!["progress.example".into(), "other.example:8443".into()],
            allowed_origins: vec!["https://app.example".into()],
            ..HttpConfig::default()
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    fn host(uri: &str, hosts: &[&str]) -> u16 {
        status(uri, hosts, &client(false, None))
    }

    fn status(uri: &str, hosts: &[&str], client: &Client) -> u16 {
        let lines: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        check_host(&uri.parse().expect("a target"), &headers(&lines), client, &config())
            .map_or_else(|problem| problem.kind().status.as_u16(), |()| 200)
    }

    fn client(is_https: bool, forwarded_host: Option<&'static str>) -> Client {
        Client {
            address: Ipv4Addr::LOCALHOST.into(),
            is_https,
            forwarded_host: forwarded_host.map(Authority::from_static),
        }
    }

    #[test]
    fn answers_to_loopback_and_configured_names_only() {
        for name in [
            "localhost",
            "LOCALHOST:80",
            "a.localhost:1",
            "localhost.",
            "127.0.0.1:8080",
            "127.255.1.2",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "progress.example",
            "Progress.Example:99",
            "other.example:8443",
        ] {
            assert_eq!(host("/", &[name]), 200, "{name}");
        }
        for name in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "128.0.0.1",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "[::2]",
            "other.example",
            "other.example:1",
            "a.progress.example",
            "192.168.1.1",
        ] {
            assert_eq!(host("/", &[name]), 421, "{name}");
        }
        for name in ["", "a b", "user@localhost", "localhost/x", "localhost:x:y", "[::1"] {
            assert_eq!(host("/", &[name]), 400, "{name}");
        }
    }

    #[test]
    fn every_name_in_a_request_counts() {
        assert_eq!(host("/", &[]), 400);
        assert_eq!(host("/", &["localhost", "localhost"]), 400);
        assert_eq!(host("http://localhost:1/", &[]), 200);
        assert_eq!(host("http://evil.example/", &["localhost"]), 421);
        assert_eq!(host("http://localhost/", &["evil.example"]), 421);
        let forwarded = |host, name| status("/", &[host], &client(true, Some(name)));
        assert_eq!(forwarded("127.0.0.1:8080", "progress.example"), 200);
        assert_eq!(forwarded("127.0.0.1:8080", "evil.example"), 421);
        assert_eq!(forwarded("evil.example", "progress.example"), 421);
    }

    fn site(lines: &[(&'static str, &str)]) -> bool {
        site_of(lines, &client(false, None))
    }

    fn site_of(lines: &[(&'static str, &str)], client: &Client) -> bool {
        let mut all = vec![("host", "localhost:8080")];
        all.extend_from_slice(lines);
        check_site(&Uri::from_static("/"), &headers(&all), client, &config()).is_ok()
    }

    #[test]
    fn an_own_page_is_one_of_the_host_that_the_client_named_to_its_proxy() {
        let own = |name: &'static str, origin| site_of(&[("origin", origin)], &client(true, Some(name)));
        assert!(own("progress.example", "https://progress.example"));
        assert!(!own("progress.example", "https://localhost:8080"));
        assert!(!own("progress.example", "http://progress.example"), "anybody on the way can write that page");
        assert!(!own("progress.example", "https://progress.example:8443"));
        assert!(!site_of(&[("referer", "http://localhost:8080/")], &client(true, None)));
    }

    #[test]
    fn programs_and_own_pages_may_ask() {
        assert!(site(&[]));
        assert!(site(&[("origin", "http://localhost:8080")]));
        assert!(site(&[("origin", "https://LOCALHOST:8080")]));
        assert!(site(&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")]));
        assert!(site(&[("sec-fetch-site", "none")]));
        assert!(site(&[("referer", "http://localhost:8080/tasks/1?a=/#b")]) && site(&[("referer", "")]));
        assert!(site(&[("referer", "https://app.example/page")]) && site(&[("referer", "http://LOCALHOST:8080")]));
        assert!(site(&[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")]));
    }

    #[test]
    fn pages_of_others_may_not() {
        for origin in [
            "null",
            "http://localhost",
            "http://localhost:8081",
            "http://evil.example",
            "https://app.example.evil",
            "http://app.example",
            "localhost:8080",
            "http://127.0.0.1:8080",
            "file://localhost:8080",
            "",
        ] {
            assert!(!site(&[("origin", origin)]), "{origin}");
        }
        for referer in [
            "http://evil.example/",
            "http://localhost:8080.evil.example/",
            "http://evil?localhost:8080/",
            "http://evil.example/http://localhost:8080/",
            "http://localhost/",
            "about:blank",
            "x",
        ] {
            assert!(!site(&[("referer", referer)]), "{referer}");
        }
        for fetch in ["cross-site", "same-site", "", "same-origin, same-origin"] {
            assert!(!site(&[("sec-fetch-site", fetch)]), "{fetch}");
        }
        assert!(!site(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
        assert!(!site(&[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")]));
        assert!(!site(&[("origin", "https://app.example"), ("origin", "http://evil.example")]));
    }
}
