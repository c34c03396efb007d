//! Names that clients give: of users, kinds, queues, units.

use serde::Deserialize;
use utoipa::ToSchema;

use super::channel_name::{InvalidName, check_name};

/// 1 to 128 ASCII letters, digits or any of `-_.~@`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._~@-]{1,128}$", min_length = 1, max_length = 128)]
#[schema(example = "alice")]
pub struct Name(String);

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        check_name(&name).map(|()| Self(name))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}
