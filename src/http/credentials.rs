//! Where a request shows who makes it: the header, the cookie of a session, the query of a stream. Which of them is
//! believed is decided in `access/`.

use std::{mem, time::Duration};

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};
use percent_encoding::percent_decode_str;

use super::{
    client::Client,
    extract::single,
    problem::{Problem, kinds},
};

/// The query parameters of a token and of a ticket, on streams only: an `EventSource` cannot set headers.
const TOKEN: &str = "token=";
const TICKET: &str = "ticket=";
const ONE_CREDENTIAL: &str = "must not be given beside another credential";
/// The cookie of a session.
pub(super) const COOKIE: &str = "progressd_session";
/// The same on https: browsers let nobody but this very host set a cookie of this name.
const HOST_COOKIE: &str = "__Host-progressd_session";

/// What a request shows.
#[derive(Debug)]
pub(super) enum Credential {
    /// A token or an API key.
    Token(String),
    /// The cookie of a session.
    Cookie(String),
    /// A ticket.
    Ticket(String),
}

/// Takes the one credential out of a request, if there is one: from its header; from its cookie, where that counts; from
/// its query, if it is for a stream.
pub(super) fn take(request: &mut Parts, by_cookie: bool, is_stream: bool) -> Result<Option<Credential>, Problem> {
    let [token, ticket] =
        [TOKEN, TICKET].map(|name| is_stream.then(|| take_from_query(&mut request.uri, name)).flatten());
    let cookie = if by_cookie { cookie(request)? } else { None };
    let given = [
        ("authorization", bearer(&request.headers)?.map(|token| Credential::Token(token.to_owned()))),
        ("cookie", cookie.map(Credential::Cookie)),
        ("token", token.map(Credential::Token)),
        ("ticket", ticket.map(Credential::Ticket)),
    ];
    let mut given = given.into_iter().filter_map(|(place, credential)| Some((place, credential?)));
    let first = given.next();
    match given.next() {
        // They could be of two people, and one of the two would be believed unasked.
        Some((place, _)) => Err(Problem::new(&kinds::MALFORMED).with_error(place, ONE_CREDENTIAL)),
        None => Ok(first.map(|(_, credential)| credential)),
    }
}

/// The token or API key in the header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(text) = single(headers, &header::AUTHORIZATION)? else { return Ok(None) };
    let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let wrong = || {
        Problem::new(&kinds::CREDENTIAL_INVALID).with_detail("Send a token or an API key as: Authorization: Bearer …")
    };
    token.map(|(_, token)| Some(token.trim())).ok_or_else(wrong)
}

/// The value of the cookie of a session.
pub(super) fn cookie(request: &Parts) -> Result<Option<String>, Problem> {
    let name = cookie_name(request).as_bytes();
    let lines = request.headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="));
    let value = values.next().map(|value| String::from_utf8_lossy(value).into_owned());
    match values.next() {
        Some(_) => Err(Problem::new(&kinds::MALFORMED).with_error("cookie", "must hold a session only once")),
        None => Ok(value),
    }
}

/// Makes a browser keep this value as the cookie of a session for so long.
pub(super) fn keep_cookie(request: &Parts, value: &str, lifetime: Duration) -> Option<HeaderValue> {
    let secure = if Client::found(request).is_https { "; Secure" } else { "" };
    let (name, seconds) = (cookie_name(request), lifetime.as_secs());
    // Strict loses nothing: the page itself needs no cookie, so a link of another site leads to a page that is signed in.
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&cookie).ok()
}

fn cookie_name(request: &Parts) -> &'static str {
    if Client::found(request).is_https { HOST_COOKIE } else { COOKIE }
}

/// Takes a parameter out of the query, so that nothing behind this sees it.
fn take_from_query(uri: &mut Uri, name: &str) -> Option<String> {
    let (given, others): (Vec<&str>, Vec<&str>) = uri.query()?.split('&').partition(|pair| pair.starts_with(name));
    let values: Vec<&str> = given.iter().map(|pair| &pair[name.len()..]).collect();
    // Given twice it is no token.
    let value = percent_decode_str(values.first()?).decode_utf8_lossy().into_owned() + &values[1..].concat();
    let mark = if others.is_empty() { "" } else { "?" };
    let target = format!("{}{mark}{}", uri.path(), others.join("&"));
    let mut parts = mem::take(uri).into_parts();
    parts.path_and_query = target.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
    Some(value)
}
