//! Places in the journal: seq, epoch, and the cursor that clients hold.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// Place in the journal: strictly increasing, never reused. `Seq(0)` is before the first event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random name of one life of a store, from one start to the next, or of the store itself; see [`super::Epochs`].
///
/// Eight characters of `0-9a-z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; Self::BYTES]);

impl Epoch {
    /// Bytes of the text.
    pub const BYTES: usize = 8;
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// A new random name (36⁸, about 41 bits).
    pub fn random() -> Self {
        let mut bits = Uuid::new_v4().as_u128();
        Self(std::array::from_fn(|_| {
            let digit = Self::ALPHABET[(bits % 36) as usize];
            bits /= 36;
            digit
        }))
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Constructed from ASCII only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl FromStr for Epoch {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; Self::BYTES] = text.as_bytes().try_into().map_err(|_| InvalidCursor)?;
        if bytes.iter().all(|byte| Self::ALPHABET.contains(byte)) { Ok(Self(bytes)) } else { Err(InvalidCursor) }
    }
}

/// Where a watcher stands: `{epoch}-{seq}`. The SSE `id`, the `ETag`, the long-poll position, on any channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The life of the store that gave it.
    pub epoch: Epoch,
    /// Everything at or before it has been seen.
    pub seq: Seq,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('-').ok_or(InvalidCursor)?;
        // One text per cursor: no sign, no leading zero, so that an ETag compares as text.
        let canonical = seq == "0" || (seq.starts_with(|c: char| c.is_ascii_digit() && c != '0'));
        if !canonical {
            return Err(InvalidCursor);
        }
        Ok(Self { epoch: epoch.parse()?, seq: Seq(seq.parse().map_err(|_| InvalidCursor)?) })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From where a watcher wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// From the current state: it is a first connect.
    First,
    /// From what it has seen.
    After(Cursor),
    /// From a place that cannot be read.
    Unreadable,
}

/// The text is not a cursor that any store has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of the form epoch-seq")]
pub struct InvalidCursor;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_written(seq in any::<u64>()) {
            let cursor = Cursor { epoch: Epoch::random(), seq: Seq(seq) };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in ".{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        for text in [
            "",
            "-",
            "abcdefgh-",
            "abcdefgh-01",
            "abcdefgh-+1",
            "ABCDEFGH-1",
            "abc-1",
            "abcdefgh-1 ",
            "abcdefgh-18446744073709551616",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }
}
