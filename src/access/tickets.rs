//! Tickets: short-lived rights to watch a few channels, which a back end asks for and hands to a browser. They are signed
//! with a secret of this service and not stored. A ticket ends with the token or the key that it was asked for with.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::{Denied, tokens::TOKEN_BYTES_MAX};
use crate::event::{ChannelName, Timestamp};

/// Signs and verifies tickets.
pub(super) struct TicketOffice {
    signs: EncodingKey,
    verifies: DecodingKey,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TicketClaims {
    channels: Vec<String>,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// What a ticket says.
pub(super) struct TicketTold {
    pub(super) channels: Vec<ChannelName>,
    pub(super) expires_at: Timestamp,
    /// The id of the API key that it ends with.
    pub(super) key: Option<String>,
}

impl TicketOffice {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self { signs: EncodingKey::from_secret(secret), verifies: DecodingKey::from_secret(secret) }
    }

    /// A ticket for these channels.
    pub(super) fn issue(&self, channels: &[ChannelName], expires_at: Timestamp, key: Option<&str>) -> Option<String> {
        let channels = channels.iter().map(ToString::to_string).collect();
        let claims = TicketClaims { channels, expires_at, key: key.map(str::to_owned) };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signs).ok()
    }

    /// Believes a ticket, or says why not.
    pub(super) fn check(&self, ticket: &str, now: Timestamp) -> Result<TicketTold, Denied> {
        if ticket.len() > TOKEN_BYTES_MAX {
            return Err(Denied::Malformed);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let claims =
            decode::<TicketClaims>(ticket, &self.verifies, &validation).map_err(|_| Denied::WrongTicket)?.claims;
        if claims.expires_at <= now {
            return Err(Denied::TicketExpired);
        }
        let channels = claims.channels.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(TicketTold { channels, expires_at: claims.expires_at, key: claims.key })
    }
}
