//! Who sends a request, as far as the network tells: the one place where proxies are believed or not.
//!
//! It is found out once, before anything else, and put among the request's extensions. Limits, cookies, the checks of
//! hosts and origins, and the log read it there; none of them looks at the socket or at headers of proxies.

use std::{convert::Infallible, net::IpAddr};

use axum::extract::FromRequestParts;
use http::{Extensions, HeaderMap, Uri, header, request::Parts, uri::Authority};
use ipnet::IpNet;

use super::{
    forwarded::{ForwardedClient, forwarded},
    problem::Problem,
};
use crate::server::Peer;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Its address. An IPv4 address is always one, also on a socket of IPv6.
    pub(super) address: IpAddr,
    /// Whether it speaks to us, or to the first trusted proxy, by https.
    pub(super) is_https: bool,
    /// The host that it named to that proxy.
    pub(super) forwarded_host: Option<Authority>,
}

impl Client {
    /// The client of a request, and what is wrong with the words of its proxies. Nothing is believed of a peer that is
    /// not trusted.
    pub(super) fn of(headers: &HeaderMap, extensions: &Extensions, trusted: &[IpNet]) -> (Self, Result<(), Problem>) {
        let peer = extensions.get::<Peer>().copied().unwrap_or_default();
        let address = peer.address.ip().to_canonical();
        let mut client = Self { address, is_https: peer.is_https, forwarded_host: None };
        if !trusted.iter().any(|network| network.contains(&address)) {
            return (client, Ok(()));
        }
        let checked = forwarded(headers, trusted).map(|ForwardedClient { address, is_https, host }| {
            client.address = address.unwrap_or(client.address);
            client.is_https = is_https.unwrap_or(client.is_https);
            client.forwarded_host = host;
        });
        (client, checked)
    }

    /// The client of a request that has passed the layer around all routes.
    pub(super) fn found(request: &Parts) -> Self {
        let known = request.extensions.get::<Self>().cloned();
        known.unwrap_or_else(|| Self::of(&request.headers, &request.extensions, &[]).0)
    }

    /// The host and port that the client named.
    pub(super) fn host<'a>(&'a self, uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
        let named = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let forwarded = self.forwarded_host.as_ref().map(Authority::as_str);
        forwarded.or_else(named).or_else(|| uri.authority().map(Authority::as_str))
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::found(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, is_https: bool, trusted: &str) -> Client {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")] {
            headers.insert(name, value.parse().expect("a value"));
        }
        let mut extensions = Extensions::new();
        extensions.insert(Peer { address: peer.parse().expect("an address"), is_https });
        let (client, checked) = Client::of(&headers, &extensions, &[trusted.parse().expect("a network")]);
        checked.expect("no problem");
        client
    }

    #[test]
    fn only_trusted_peers_speak_for_others() {
        let found = |peer, is_https, trusted| {
            let Client { address, is_https, .. } = client(peer, is_https, trusted);
            (address.to_string(), is_https)
        };
        assert_eq!(found("127.0.0.1:9", false, "127.0.0.1/32"), ("203.0.113.7".into(), true));
        assert_eq!(found("[::ffff:127.0.0.1]:9", false, "127.0.0.1/32"), ("203.0.113.7".into(), true));
        assert_eq!(found("127.0.0.2:9", false, "127.0.0.1/32"), ("127.0.0.2".into(), false));
        assert_eq!(found("[::ffff:127.0.0.2]:9", true, "127.0.0.1/32"), ("127.0.0.2".into(), true));
        assert_eq!(found("[::1]:9", false, "127.0.0.1/32"), ("::1".into(), false));
    }
}
