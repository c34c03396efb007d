//! The bound of connections of one address, and what those beyond it are told.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::head_refusal::{RefuseHead, UnreadHead, answer};
use crate::config::ConnectionConfig;
use crate::limits::{Consumer, Limit, Slot, Slots};
use crate::telemetry::Metrics;

/// How long a client that is turned away may take to read why.
const PARTING: Duration = Duration::from_secs(1);
/// The most that is read of what it has sent meanwhile: a connection that is closed with bytes unread is reset, and the
/// answer lost.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;

/// The places of the connections of each address.
pub(super) struct Crowd(Option<Slots>);

impl Crowd {
    /// Nobody yet.
    pub(super) fn new(limits: &ConnectionConfig) -> Self {
        Self(limits.max_connections_per_address.map(|most| Slots::new(Limit::ConnectionsPerAddress, most)))
    }

    /// A place for a connection from this address, where they are bounded; an error where there is none left.
    pub(super) fn enter(&self, peer: SocketAddr, metrics: &Metrics) -> Result<Option<Slot>, ()> {
        let Some(slots) = &self.0 else { return Ok(None) };
        slots
            .take(Consumer::at(peer.ip()))
            .map(Some)
            .map_err(|exceeded| metrics.count_refusal(exceeded.limit.setting()))
    }
}

/// Says why, and ends the connection.
pub(super) async fn turn_away<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, refuse_head: RefuseHead) {
    let refusal = answer(&refuse_head(UnreadHead::TooManyConnections));
    let told = async {
        io.write_all(&refusal).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut (&mut io).take(UNREAD_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whoever has gone, or does not go, is not waited for.
    let _parted = tokio::time::timeout(PARTING, told).await;
}
