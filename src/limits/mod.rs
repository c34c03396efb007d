//! Limits: how much of the service one client may use, an address or a principal.
//!
//! [`Buckets`] bound how often something is done, [`Slots`] how much of something is held at once. Both know only those
//! clients that use the limit at the moment, and take nothing where a limit is off. This module must not know how a
//! client is recognized, nor what its requests are for.

mod buckets;
mod slots;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

pub use buckets::{Buckets, Left, whole_seconds};
pub use slots::{Slot, Slots};

use crate::{
    config::{LimitConfig, Rate},
    telemetry::Metrics,
};

/// Whose use is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Consumer {
    /// An address; of IPv6 the network of 64 bits, since a client has all of that.
    Address(IpAddr),
    /// A person, a program or a ticket, by a name that no other one has.
    Principal(Arc<str>),
}

impl Consumer {
    /// Who is counted at this address.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// A limit of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Open connections of an address.
    ConnectionsPerAddress,
    /// Open streams of an address.
    StreamsPerAddress,
    /// Open streams of a principal.
    StreamsPerPrincipal,
    /// Requests of an address.
    RequestsPerAddress,
    /// Requests of a principal.
    RequestsPerPrincipal,
    /// Submitted tasks of a principal.
    SubmitsPerPrincipal,
    /// Wrong credentials of an address.
    FailedCredentialsPerAddress,
}

impl Limit {
    /// The setting that sets it; also the name of its policy, and its label in metrics.
    pub fn setting(self) -> &'static str {
        match self {
            Self::ConnectionsPerAddress => "max-connections-per-address",
            Self::StreamsPerAddress => "max-streams-per-address",
            Self::StreamsPerPrincipal => "max-streams-per-principal",
            Self::RequestsPerAddress => "requests-per-address",
            Self::RequestsPerPrincipal => "requests-per-principal",
            Self::SubmitsPerPrincipal => "submits-per-principal",
            Self::FailedCredentialsPerAddress => "failed-credentials-per-address",
        }
    }
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The limit is {allows}, by the setting {}.", limit.setting())]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// What it allows.
    pub allows: Allowance,
    /// How long until there is room again, where that is known.
    pub wait: Option<Duration>,
}

/// What a limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// So many in a time.
    Often(Rate),
    /// So many at once.
    AtOnce(usize),
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Often(Rate { count, per }) => write!(f, "{count} in {} seconds", per.as_secs()),
            Self::AtOnce(most) => write!(f, "{most} at once"),
        }
    }
}

/// The limits of requests and streams.
pub struct Limits {
    address: ConsumerLimits,
    principal: ConsumerLimits,
    failed_credentials: Buckets,
}

/// The limits of one kind of consumer; those that are not set are off.
pub struct ConsumerLimits {
    requests: Option<Buckets>,
    submits: Option<Buckets>,
    streams: Option<Slots>,
}

impl Limits {
    /// What the settings say.
    pub fn new(config: &LimitConfig, metrics: &Metrics) -> Self {
        let often = |limit, rate: Option<Rate>| rate.map(|rate| Buckets::new(limit, rate, metrics));
        let at_once = |limit, most: Option<usize>| most.map(|most| Slots::new(limit, most));
        Self {
            address: ConsumerLimits {
                requests: often(Limit::RequestsPerAddress, config.requests_per_address),
                submits: None,
                streams: at_once(Limit::StreamsPerAddress, config.max_streams_per_address),
            },
            principal: ConsumerLimits {
                requests: often(Limit::RequestsPerPrincipal, config.requests_per_principal),
                submits: often(Limit::SubmitsPerPrincipal, config.submits_per_principal),
                streams: at_once(Limit::StreamsPerPrincipal, Some(config.max_streams_per_principal)),
            },
            failed_credentials: Buckets::new(
                Limit::FailedCredentialsPerAddress,
                config.failed_credentials_per_address,
                metrics,
            ),
        }
    }

    /// Whether addresses have limits.
    pub fn are_of_addresses(&self) -> bool {
        self.address.requests.is_some() || self.address.streams.is_some()
    }

    /// The limits of this consumer.
    pub fn of(&self, consumer: &Consumer) -> &ConsumerLimits {
        match consumer {
            Consumer::Address(_) => &self.address,
            Consumer::Principal(_) => &self.principal,
        }
    }

    /// Counts a wrong credential from this address.
    ///
    /// # Errors
    /// When there were too many.
    pub fn note_failed_credential(&self, address: IpAddr) -> Result<(), Exceeded> {
        self.failed_credentials.take(&Consumer::at(address)).map(drop)
    }
}

impl ConsumerLimits {
    /// Counts a request; what is left is added to `left`, a limit that is reached too.
    ///
    /// # Errors
    /// When there were too many.
    pub fn take(&self, consumer: &Consumer, is_submit: bool, left: &mut Vec<Left>) -> Result<(), Exceeded> {
        let submits = self.submits.as_ref().filter(|_| is_submit);
        for buckets in self.requests.iter().chain(submits) {
            match buckets.take(consumer) {
                Ok(some) => left.push(some),
                Err(exceeded) => {
                    left.extend(buckets.none_left(exceeded));
                    return Err(exceeded);
                }
            }
        }
        Ok(())
    }

    /// A place for a stream, where they are limited.
    ///
    /// # Errors
    /// When there are too many.
    pub fn stream(&self, consumer: &Consumer) -> Result<Option<Slot>, Exceeded> {
        self.streams.as_ref().map(|streams| streams.take(consumer.clone())).transpose()
    }
}

#[cfg(test)]
mod tests;
