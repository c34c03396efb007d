//! The other end of a connection.

use std::net::{Ipv4Addr, SocketAddr};

/// Who is at the other end of the connection of a request, which may be a proxy. Each request has it among its
/// extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Where it connected from.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_https: bool,
}

/// Of a request that came over no socket.
impl Default for Peer {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), is_https: false }
    }
}
