//! Names and values of a query or a form (`application/x-www-form-urlencoded`), read strictly.
//!
//! A browser's parser takes anything; here a client that misspelt a name or sent a broken escape is told so. It must
//! not know which names a route has.

/// Most names in one query or form.
const FIELDS_MAX: usize = 64;
/// How much of a name is given back in a refusal.
const SHOWN_NAME_CHARS_MAX: usize = 64;

/// The fields that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

/// Why a text is no list of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FieldsError {
    /// An escape is broken, or the bytes are no UTF-8.
    #[error("has a broken escape or is not UTF-8")]
    Malformed,
    /// There are too many.
    #[error("has more than {FIELDS_MAX} names")]
    TooMany,
    /// The same name twice.
    #[error("is given more than once")]
    Duplicate(String),
    /// A name that nobody knows.
    #[error("is not known")]
    Unknown(String),
}

impl FieldsError {
    /// The name that is wrong, when it is one name.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Duplicate(name) | Self::Unknown(name) => Some(name),
            Self::Malformed | Self::TooMany => None,
        }
    }
}

impl Fields {
    /// Reads `a=1&b=2`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, FieldsError> {
        let mut fields: Vec<(String, String)> = Vec::new();
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
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// Takes the value of a name.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Nobody is going to take what is left.
    pub(super) fn end(self) -> Result<(), FieldsError> {
        self.0.into_iter().next().map_or(Ok(()), |(name, _)| Err(FieldsError::Unknown(shown(&name))))
    }
}

fn decoded(text: &[u8]) -> Result<String, FieldsError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or(FieldsError::Malformed)?;
                rest = after;
                hex(digits[0])? * 16 + hex(digits[1])?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| FieldsError::Malformed)
}

fn hex(digit: u8) -> Result<u8, FieldsError> {
    let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    value.ok_or(FieldsError::Malformed)
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_browsers_and_curl_send() {
        let mut fields = Fields::parse(b"progress=40&message=half+way%2C+%C3%A9&unit=&&flag").expect("fields");
        assert_eq!(fields.take("message").as_deref(), Some("half way, é"));
        assert_eq!(fields.take("progress").as_deref(), Some("40"));
        assert_eq!(fields.take("unit").as_deref(), Some(""));
        assert_eq!(fields.take("none"), None);
        assert_eq!(fields.end(), Err(FieldsError::Unknown("flag".into())));
        assert_eq!(Fields::parse(b"").expect("none").end(), Ok(()));
    }

    #[test]
    fn refuses_what_it_cannot_be_sure_of() {
        for text in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"%c3=1", b"a=\xff", b"a=%+1"] {
            assert_eq!(Fields::parse(text).expect_err("malformed"), FieldsError::Malformed, "{text:?}");
        }
        assert_eq!(Fields::parse(b"a=1&%61=2").expect_err("twice"), FieldsError::Duplicate("a".into()));
        let many: Vec<String> = (0..=FIELDS_MAX).map(|index| format!("f{index}=")).collect();
        assert_eq!(Fields::parse(many.join("&").as_bytes()).expect_err("many"), FieldsError::TooMany);
        let long = "x".repeat(1000);
        let error = Fields::parse(long.as_bytes()).expect("one").end().expect_err("unknown");
        assert_eq!(error.name().map(str::len), Some(SHOWN_NAME_CHARS_MAX));
    }
}
