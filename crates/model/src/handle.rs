//! Handles: the names people type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that people type, unique among its siblings: 1 to 63 of `a-z`, `0-9` and `-`, beginning
/// and ending with a letter or digit. It has no dot, so `app.environment` splits in one way only,
/// and it is a DNS label (RFC 1123, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(String);

/// The text is not a handle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a handle is 1 to 63 characters of a-z, 0-9 and '-', beginning and ending with a letter or digit"
)]
pub struct InvalidHandle;

impl Handle {
    /// The handle's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Handle {
    type Err = InvalidHandle;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Handle {
    type Error = InvalidHandle;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=63).contains(&text.len())
            && text.chars().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid { Ok(Self(text)) } else { Err(InvalidHandle) }
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> Self {
        handle.0
    }
}

impl AsRef<str> for Handle {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_dns_labels() {
        for good in ["a", "web", "web-2", "0", &"x".repeat(63)] {
            assert!(good.parse::<Handle>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Handle>().is_err(), "{bad}");
        }
    }
}
