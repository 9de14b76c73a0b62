//! Times as senders write them (pure).

use model::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time in RFC 3339, or a number as [`epoch`] takes it.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(at) = epoch(text) {
        return Some(at);
    }
    let mut text = text.to_owned();
    // As many write it.
    if text.as_bytes().get(10) == Some(&b' ') {
        text.replace_range(10..11, "T");
    }
    OffsetDateTime::parse(&text, &Rfc3339).ok().map(Timestamp::from_date_time)
}

/// A number of seconds, milliseconds, microseconds or nanoseconds since the Unix epoch, by its magnitude: the years
/// from 1973 to 5138 are told apart. The fraction counts, exactly.
pub(super) fn epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole > 0)?;
    let unit: u64 = match whole {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    let mut nanos = whole.checked_mul(unit)?;
    let mut unit = unit;
    for digit in fraction.bytes().take(9) {
        unit /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * unit)?;
    }
    Some(Timestamp::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_senders_write_is_understood() {
        let at = |nanos| Some(Timestamp::from_nanos(nanos));
        for text in [
            "1700000000.25",
            "1700000000250",
            "1700000000250000",
            "1700000000250000000",
            "2023-11-14T22:13:20.25Z",
            "2023-11-14 22:13:20.25Z",
            "2023-11-14T23:13:20.250+01:00",
            " 1700000000.250000000000 ",
        ] {
            assert_eq!(parse(text), at(1_700_000_000_250_000_000), "{text}");
        }
        assert_eq!(parse("1700000000"), at(1_700_000_000_000_000_000));
        for text in ["", "0", "-5", "now", "1.", ".5", "1e9", "99999999999999999999", "2023-11-14"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,40}|[0-9]{0,25}(\\.[0-9]{0,25})?") {
            parse(&text);
        }
    }
}
