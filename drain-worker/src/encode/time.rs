//! Times as text, quickly: mostly the next line's time is the last one's, or in the same second.

use std::io::Write as _;

use model::Timestamp;

/// Date and time to the second.
const SECONDS: usize = "2026-01-02T03:04:05".len();
/// With microseconds.
const MICROS: usize = SECONDS + 1 + 6;
const NANOS: usize = SECONDS + 1 + 9;

/// The text of the last time.
#[derive(Debug)]
pub(crate) struct TimeText {
    at: Option<Timestamp>,
    text: [u8; NANOS],
    /// With no more digits than needed.
    length: usize,
}

impl TimeText {
    pub(crate) const fn new() -> Self {
        Self { at: None, text: [b'0'; NANOS], length: SECONDS }
    }

    /// Makes `at` the time of which the other functions answer the text.
    pub(crate) fn set(&mut self, at: Timestamp) {
        const SECOND: u64 = 1_000_000_000;
        if self.at == Some(at) {
            return;
        }
        let second = |at: Timestamp| at.nanos() / SECOND;
        let (seconds, fraction) = self.text.split_at_mut(SECONDS);
        if self.at.map(second) != Some(second(at)) {
            let time = at.date_time();
            let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
            let (hour, minute, second) = (time.hour(), time.minute(), time.second());
            let mut out = seconds;
            // Years have four digits until nanoseconds run out of 64 bits, so it fits.
            drop(write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
        }
        self.at = Some(at);
        let mut rest = at.nanos() % SECOND;
        if let Some((point, digits)) = fraction.split_first_mut() {
            *point = b'.';
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
            let last = digits.iter().rposition(|&digit| digit != b'0');
            self.length = last.map_or(SECONDS, |last| SECONDS + 2 + last);
        }
    }

    /// RFC 3339 with microseconds, but for the zone.
    pub(crate) fn micros(&self) -> &[u8] {
        self.text.get(..MICROS).unwrap_or_default()
    }

    /// RFC 3339 with nanoseconds, but for the zone.
    pub(crate) fn nanos(&self) -> &[u8] {
        &self.text
    }

    /// RFC 3339 with as many digits as needed, but for the zone.
    pub(crate) fn whole(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_text_is_that_of_the_time_whichever_was_before(
            times in proptest::collection::vec(
                prop_oneof![
                    any::<u64>(),
                    0..3_000_000_000_u64,
                    (0..5_000_u64).prop_map(|millis| millis * 1_000_000),
                ],
                1..10,
            )
        ) {
            let mut text = TimeText::new();
            for at in times.into_iter().map(Timestamp::from_nanos) {
                text.set(at);
                let whole = String::from_utf8_lossy(text.whole()).into_owned() + "Z";
                prop_assert_eq!(whole, at.to_string());
                let micros = format!("{:06}", at.date_time().microsecond());
                prop_assert!(text.micros().ends_with(micros.as_bytes()));
            }
        }
    }
}
