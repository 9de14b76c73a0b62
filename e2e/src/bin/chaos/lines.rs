//! The senders' lines: each has a number, and says which it is.

use serde::{Deserialize, Serialize};

/// A way into the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Way {
    Http,
    Syslog,
    Docker,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Syslog, Self::Docker];

    /// Its name, for tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Syslog => "syslog-tls",
            Self::Docker => "docker",
        }
    }

    /// What all its lines begin with.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Http => "chaos-http ",
            Self::Syslog => "chaos-syslog ",
            Self::Docker => "chaos-docker ",
        }
    }

    /// Its line of this number. A container counts anew when it is started again.
    pub(crate) fn line(self, number: u64) -> String {
        let (prefix, checksum) = (self.prefix(), (number * 7919 + 13) % 65521);
        format!(
            "{prefix}{number:08} {checksum:05} \"GET /orders?page={}\" 200 [all] is well\\",
            number % 17
        )
    }

    /// The way that a text has come, or its beginning.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|way| text.starts_with(way.prefix().as_bytes()))
    }

    /// The number of a whole line that is not a container's.
    pub(crate) fn number(self, text: &[u8]) -> Option<u64> {
        let rest = str::from_utf8(text).ok()?.strip_prefix(self.prefix())?;
        let number = rest.get(..8)?.parse().ok()?;
        (self.line(number).as_bytes() == text).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_which_it_is_and_a_piece_of_it_does_not() {
        for way in [Way::Http, Way::Syslog] {
            let line = way.line(4711);
            assert_eq!(
                (Way::of(line.as_bytes()), way.number(line.as_bytes())),
                (Some(way), Some(4711))
            );
            assert_eq!(way.number(&line.as_bytes()[..line.len() - 1]), None);
        }
    }
}
