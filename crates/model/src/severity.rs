//! How severe a line is.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// How severe a line is, most severe first: syslog's severities (RFC 5424, section 6.2.1).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The system is unusable.
    Emergency,
    /// Something must be done at once.
    Alert,
    /// Critical.
    Critical,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// Normal, but significant.
    Notice,
    /// For information.
    Info,
    /// For debugging.
    Debug,
}

impl Severity {
    /// Every severity, in the order of its number.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Alert => "alert",
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Its number in syslog: 0 to 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What programs mean that log JSON: a name, as most do, or a number, as Bunyan and Pino do (10 is
    /// `trace`, 60 is `fatal`).
    #[must_use]
    pub fn of_json(value: &Value) -> Option<Self> {
        if let Some(number) = value.as_u64() {
            return Some(match number {
                10..=29 => Self::Debug,
                30..=39 => Self::Info,
                40..=49 => Self::Warning,
                50..=59 => Self::Error,
                60..=69 => Self::Critical,
                _ => return None,
            });
        }
        Some(match value.as_str()?.to_ascii_lowercase().as_str() {
            "emerg" | "emergency" | "panic" => Self::Emergency,
            "alert" => Self::Alert,
            "crit" | "critical" | "fatal" => Self::Critical,
            "err" | "error" | "severe" => Self::Error,
            "warn" | "warning" => Self::Warning,
            "notice" => Self::Notice,
            "info" | "information" | "informational" => Self::Info,
            "debug" | "trace" | "verbose" | "fine" => Self::Debug,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        for severity in Severity::ALL {
            assert_eq!(Severity::of_json(&severity.as_str().into()), Some(severity));
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.as_str());
            assert_eq!(Severity::ALL[usize::from(severity.number())], severity);
        }
        assert_eq!(Severity::of_json(&"WARN".into()), Some(Severity::Warning));
        assert_eq!(Severity::of_json(&50.into()), Some(Severity::Error));
        assert_eq!(Severity::of_json(&Value::Null), None);
        assert_eq!(Severity::of_json(&"loud".into()), None);
    }
}
