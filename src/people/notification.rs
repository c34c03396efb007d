//! A notification to a user or a group: what is asked for, with the bounds of each member, and its event.

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::{ChannelKind, ChannelName, Class, Draft, NAME_BYTES_MAX, Timestamp};

/// The event's name.
const NOTIFICATION: &str = "notification";
/// Longest title, in bytes.
const TITLE_BYTES_MAX: usize = 256;
/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Largest `data`, in bytes of JSON.
const DATA_BYTES_MAX: usize = 16 * 1024;

/// A new notification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNotification {
    /// A title for people: one line, up to 256 bytes.
    #[garde(length(bytes, min = 1, max = TITLE_BYTES_MAX), custom(one_line))]
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub title: String,
    /// The text, up to 4096 bytes.
    #[garde(length(bytes, max = MESSAGE_BYTES_MAX))]
    #[schema(max_length = 4096)]
    pub message: String,
    /// What it is about, for programs; `notification` if absent.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = NAME_BYTES_MAX), custom(one_line)))]
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub r#type: Option<String>,
    /// Anything else, up to 16 KiB of JSON; the service does not read it.
    #[serde(default)]
    #[garde(inner(custom(payload)))]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Value>,
    /// Recognizes a repeated request: the same id to the same user or group is sent once. A random one if absent.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = NAME_BYTES_MAX), custom(one_line)))]
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub id: Option<String>,
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Tells it apart.
    pub id: String,
    /// What it is about, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// A title for people.
    pub title: String,
    /// The text.
    pub message: String,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Value>,
    /// The group to which it was sent; absent if it was sent to one user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When it was sent.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Timestamp,
}

impl Notification {
    /// A notification that is sent now.
    pub fn new(new: NewNotification, now: Timestamp) -> Self {
        Self {
            id: new.id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            kind: new.r#type.unwrap_or_else(|| NOTIFICATION.into()),
            title: new.title,
            message: new.message,
            data: new.data.filter(|data| !data.is_null()),
            group: None,
            occurred_at: now,
        }
    }

    /// Its event on an inbox or the channel of a group.
    pub fn draft(&self, channel: ChannelName) -> Draft {
        let group = (channel.kind() == ChannelKind::Group).then(|| channel.name().into_owned());
        // A struct of strings and JSON values always has a JSON text.
        let data = serde_json::to_vec(&Self { group, ..self.clone() }).unwrap_or_default();
        let name = Some(NOTIFICATION.into());
        Draft { channel, name, class: Class::Notice, data: data.into(), memo: None, origin: None }
    }
}

/// Lets through what is one line.
///
/// # Errors
/// When there is a control character.
pub fn one_line(value: &str, _: &()) -> garde::Result {
    let is_control = value.chars().any(char::is_control);
    if is_control { Err(garde::Error::new("must not contain control characters")) } else { Ok(()) }
}

fn payload(value: &Value, _: &()) -> garde::Result {
    let is_small = serde_json::to_vec(value).is_ok_and(|text| text.len() <= DATA_BYTES_MAX);
    let too_large = || garde::Error::new(format!("must be at most {DATA_BYTES_MAX} bytes of JSON"));
    if is_small { Ok(()) } else { Err(too_large()) }
}
