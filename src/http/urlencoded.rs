//! `application/x-www-form-urlencoded`: the text of a query or a form, read strictly into a struct.
//!
//! A browser's parser takes anything; this one refuses misspelt names and broken escapes. It must not know which names
//! a route has: the struct says so.

use std::fmt::Display;

use percent_encoding::percent_decode;
use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

use super::problem::{Problem, kinds};

/// Most names in one query or form.
const FIELDS_MAX: usize = 64;
/// How much of a name is given back in a refusal.
const SHOWN_NAME_CHARS_MAX: usize = 64;

/// Reads the parameters of a query.
///
/// # Errors
/// When they cannot be read, or are not those of this struct.
pub(super) fn read_query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    Fields::of_query(text).and_then(Fields::read).map_err(query_problem)
}

/// Reads the fields of a form, such as `progress=40&message=half`; the field `json` is JSON, or else a text.
///
/// # Errors
/// When they cannot be read, or are not those of this struct.
pub(super) fn read_form<T: DeserializeOwned>(body: &[u8], json: &str) -> Result<T, Problem> {
    if body.trim_ascii_start().starts_with(b"{") {
        // curl sends `-d` as a form unless it is told otherwise.
        return Err(Problem::new(&kinds::UNSUPPORTED_TYPE)
            .with_detail("This looks like JSON: send it with content-type application/json (curl --json)."));
    }
    Fields::of_form(body, json).and_then(Fields::read).map_err(form_problem)
}

fn query_problem(error: FieldsError) -> Problem {
    let kind = match error {
        FieldsError::Unknown(_) => &kinds::UNKNOWN_PARAMETER,
        FieldsError::Invalid { .. } => &kinds::INVALID,
        FieldsError::Malformed | FieldsError::TooMany | FieldsError::Duplicate(_) => &kinds::MALFORMED,
    };
    match error.name() {
        Some(name) => Problem::new(kind).with_error(name, error.to_string()),
        None => Problem::new(kind).with_detail(format!("The query {error}.")),
    }
}

fn form_problem(error: FieldsError) -> Problem {
    match error.name() {
        Some(name) => Problem::invalid(name, error.to_string()),
        None => Problem::new(&kinds::MALFORMED).with_detail(format!("The form {error}.")),
    }
}

/// The fields of a text, in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Text)>);

/// The value of a field.
#[derive(Debug)]
enum Text {
    /// As a form has it: an empty text is a text.
    Plain(String),
    /// As a query has it: an empty text is no value, and commas separate the values of a list.
    Query(String),
    /// JSON if it can be parsed as such, a text otherwise.
    Json(String),
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FieldsError {
    /// An escape is broken, or the bytes are not UTF-8.
    #[error("has a broken percent escape or is not UTF-8")]
    Malformed,
    /// There are too many fields.
    #[error("has more than {FIELDS_MAX} fields")]
    TooMany,
    /// A name that is given more than once.
    #[error("is given more than once")]
    Duplicate(String),
    /// A name that the struct does not have.
    #[error("is not known")]
    Unknown(String),
    /// A value that the struct does not take.
    #[error("{reason}")]
    Invalid {
        /// The name of the field.
        name: String,
        /// What is wrong with its value.
        reason: String,
    },
}

impl FieldsError {
    /// The name of the field that is wrong, when it is one field.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Duplicate(name) | Self::Unknown(name) | Self::Invalid { name, .. } => Some(name),
            Self::Malformed | Self::TooMany => None,
        }
    }
}

impl de::Error for FieldsError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Invalid { name: String::new(), reason: message.to_string() }
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self::Unknown(shown(field))
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("must be one of {}", expected.join(", ")))
    }
}

impl Fields {
    /// Reads the fields of a form, of which one may be JSON.
    ///
    /// # Errors
    /// When an escape is broken, a name is given twice, or there are too many.
    fn of_form(text: &[u8], json: &str) -> Result<Self, FieldsError> {
        Self::parse(text, |name, value| if name == json { Text::Json(value) } else { Text::Plain(value) })
    }

    /// Reads the fields of a query.
    ///
    /// # Errors
    /// Like [`Self::of_form`].
    pub(super) fn of_query(text: &str) -> Result<Self, FieldsError> {
        Self::parse(text.as_bytes(), |_, value| Text::Query(value))
    }

    fn parse(text: &[u8], text_of: impl Fn(&str, String) -> Text) -> Result<Self, FieldsError> {
        let mut fields: Vec<(String, Text)> = Vec::new();
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decoded(halves.next().unwrap_or_default())?;
            let value = decoded(halves.next().unwrap_or_default())?;
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(FieldsError::Duplicate(shown(&name)));
            }
            if fields.len() == FIELDS_MAX {
                return Err(FieldsError::TooMany);
            }
            let value = text_of(&name, value);
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// The text of a field, for a route that does not mind the others.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, text) = self.0.iter().find(|(known, _)| known == name)?;
        Some(text.as_str())
    }

    /// Puts the fields into a struct.
    ///
    /// # Errors
    /// When a value is not one of its type, or when the struct does not know a name and denies such.
    fn read<T: DeserializeOwned>(self) -> Result<T, FieldsError> {
        let fields = MapDeserializer::new(self.0.into_iter());
        serde_path_to_error::deserialize(fields).map_err(|error| {
            let field = error.path().iter().next().map(ToString::to_string).unwrap_or_default();
            match error.into_inner() {
                FieldsError::Invalid { reason, .. } => FieldsError::Invalid { name: field, reason },
                other => other,
            }
        })
    }
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Query(text) | Self::Json(text) => text,
        }
    }

    fn whole(&self) -> Result<u64, FieldsError> {
        self.as_str().parse().map_err(|_| de::Error::custom("must be a whole number, 0 or more"))
    }
}

impl<'de> IntoDeserializer<'de, FieldsError> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text {
    type Error = FieldsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldsError> {
        match self {
            Self::Plain(text) | Self::Query(text) => visitor.visit_string(text),
            Self::Json(text) => {
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                value.deserialize_any(visitor).map_err(de::Error::custom)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldsError> {
        match &self {
            Self::Query(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldsError> {
        let values = self.as_str().split(',').filter(|_| !self.as_str().is_empty());
        visitor.visit_seq(SeqDeserializer::new(values.map(|value| Self::Query(value.to_owned()))))
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldsError> {
        visitor.visit_u64(self.whole()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldsError> {
        let number = self.as_str().parse().ok().filter(|number: &f64| number.is_finite());
        visitor.visit_f64(number.ok_or_else(|| de::Error::custom("must be a number"))?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldsError> {
        visitor.visit_enum(self.as_str().into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldsError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct
        identifier ignored_any
    }
}

fn decoded(text: &[u8]) -> Result<String, FieldsError> {
    let is_escape = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    if !text.split(|byte| *byte == b'%').skip(1).all(is_escape) {
        return Err(FieldsError::Malformed);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).decode_utf8().map(Into::into).map_err(|_| FieldsError::Malformed)
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{
        event::Name,
        http::extract::valid,
        task::{Payload, Report, ReportedStatus, Status},
    };

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Known {
        message: Option<String>,
        current: Option<u64>,
        progress: Option<f64>,
        status: Option<Status>,
        user_id: Vec<Name>,
        result: Option<Value>,
    }

    fn form(text: &[u8]) -> Result<Known, FieldsError> {
        Fields::of_form(text, "result")?.read()
    }

    fn query(text: &str) -> Result<Known, FieldsError> {
        Fields::of_query(text)?.read()
    }

    #[test]
    fn reads_what_browsers_and_curl_send() {
        let known = form(b"progress=40&message=half+way%2C+%C3%A9&&current=007&status=pending").expect("fields");
        assert_eq!((known.progress, known.current), (Some(40.0), Some(7)));
        assert_eq!((known.message.as_deref(), known.status), (Some("half way, \u{e9}"), Some(Status::Pending)));
        assert_eq!(form(b"").expect("none"), Known::default());
        for (text, expected) in [("{\"a\":1}", serde_json::json!({ "a": 1 })), ("{a", "{a".into()), ("7", 7.into())] {
            assert_eq!(form(format!("result={text}").as_bytes()).expect("fields").result, Some(expected));
        }
    }

    #[test]
    fn an_empty_value_is_none_in_a_query_only() {
        assert_eq!(query("message=&current=&userId=&status=").expect("fields"), Known::default());
        assert_eq!(form(b"message=").expect("fields").message.as_deref(), Some(""));
        assert_eq!(form(b"current=").expect_err("empty").name(), Some("current"));
        let text = Fields::of_query("other=1&message=m&flag").expect("fields");
        assert_eq!((text.get("message"), text.get("flag"), text.get("none")), (Some("m"), Some(""), None));
    }

    #[test]
    fn commas_separate_the_values_of_a_list() {
        let names =
            |text: &str| query(text).map(|known| known.user_id.into_iter().map(String::from).collect::<Vec<_>>());
        assert_eq!(names("userId=a").expect("fields"), ["a"]);
        assert_eq!(names("userId=a,b%2Cc").expect("fields"), ["a", "b", "c"]);
        for text in ["userId=a,", "userId=,", "userId=a,b%20c"] {
            assert_eq!(names(text).expect_err("no name").name(), Some("userId"), "{text}");
        }
    }

    #[test]
    fn names_the_field_and_says_what_is_wrong() {
        for (text, name, reason) in [
            ("current=x", "current", "must be a whole number, 0 or more"),
            ("current=-1", "current", "must be a whole number, 0 or more"),
            ("progress=inf", "progress", "must be a number"),
            ("status=done", "status", "must be one of pending, processing, cancelling, completed, error, cancelled"),
            ("flag", "flag", "is not known"),
            ("flag=", "flag", "is not known"),
        ] {
            let error = query(text).expect_err(text);
            assert_eq!((error.name(), error.to_string().as_str()), (Some(name), reason), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_be_sure_of() {
        for text in [&b"message=%"[..], b"message=%4", b"message=%zz", b"a=%ff", b"%c3=1", b"a=\xff", b"a=%+1"] {
            assert_eq!(form(text).expect_err("malformed"), FieldsError::Malformed, "{text:?}");
        }
        assert_eq!(form(b"a=1&%61=2").expect_err("twice"), FieldsError::Duplicate("a".into()));
        let many: Vec<String> = (0..=FIELDS_MAX).map(|index| format!("f{index}=")).collect();
        assert_eq!(query(&many.join("&")).expect_err("many"), FieldsError::TooMany);
        let error = query(&"x".repeat(1000)).expect_err("unknown");
        assert_eq!(error.name().map(str::len), Some(SHOWN_NAME_CHARS_MAX));
    }

    fn report(form: &[u8]) -> Result<Report, Problem> {
        read_form(form, "result").and_then(valid)
    }

    #[test]
    fn reads_the_report_that_curl_sends() {
        let told = report(b"progress=40.5&message=half+way&current=7&status=processing&step=1").expect("a report");
        assert_eq!(told.progress, Some(40.5));
        assert_eq!(told.message.as_deref(), Some("half way"));
        assert_eq!((told.current, told.step), (Some(7), Some(1)));
        assert_eq!(told.status, Some(ReportedStatus::Processing));

        let result = |form: &str| report(form.as_bytes()).expect("a report").result;
        assert_eq!(
            result("status=completed&result=%7B%22rows%22%3A3%7D"),
            Payload::of(&serde_json::json!({ "rows": 3 }))
        );
        assert_eq!(result("status=completed&result=all+good"), Payload::of(&"all good".into()));
        let error = report(b"status=error&error=no+such+file").expect("a report").error;
        assert_eq!(error.and_then(|error| error.detail).as_deref(), Some("no such file"));
    }

    #[test]
    fn names_the_field_of_a_report_that_is_wrong() {
        for (form, field) in [
            ("progress=NaN", "progress"),
            ("progress=inf", "progress"),
            ("progress=1e999", "progress"),
            ("progress=", "progress"),
            ("progress=101", "progress"),
            ("progress=-1", "progress"),
            ("stepProgress=x", "stepProgress"),
            ("current=-1", "current"),
            ("current=1.5", "current"),
            ("total=18446744073709551616", "total"),
            ("step=%31x", "step"),
            ("status=done", "status"),
            ("unit=a+b", "unit"),
            ("colour=red", "colour"),
            ("progress=1&progress=2", "progress"),
        ] {
            let problem = report(form.as_bytes()).expect_err(form);
            assert_eq!(problem.kind(), &kinds::INVALID, "{form}");
            assert_eq!(problem.errors()[0].field, field, "{form}");
        }
        assert_eq!(report(b"message=%ff").expect_err("no UTF-8").kind(), &kinds::MALFORMED);
        assert_eq!(report(b" {\"progress\":40}").expect_err("JSON").kind(), &kinds::UNSUPPORTED_TYPE);
    }
}
