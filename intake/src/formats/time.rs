//! Times as databases write them.
//!
//! Only where the zone is known is a time one: abbreviations such as `CST` are several zones' names.

use model::Timestamp;
use time::{Date, Month, PrimitiveDateTime, Time, UtcOffset};

/// A number of so many digits at the start of a text, and what follows.
fn digits<T: std::str::FromStr>(text: &str, count: usize) -> Option<(T, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Some((number.parse().ok()?, rest)) } else { None }
}

/// `15:40:35`, maybe with a fraction, at the start of a text, and what follows.
fn clock(text: &str) -> Option<(Time, &str)> {
    // MariaDB pads with a blank.
    let (hour, rest) = match text.strip_prefix(' ') {
        Some(text) => digits(text, 1)?,
        None => digits(text, 2)?,
    };
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let after_point = rest.strip_prefix('.').unwrap_or_default();
    let count = after_point.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 || count > 9 {
        return Some((Time::from_hms(hour, minute, second).ok()?, rest));
    }
    let (fraction, rest) = digits::<u32>(after_point, count)?;
    let nanos = fraction * 10_u32.pow(9 - u32::try_from(count).ok()?);
    Some((Time::from_hms_nano(hour, minute, second, nanos).ok()?, rest))
}

/// `2026-11-28 15:40:35`, maybe with a `T` within and a fraction, at the start of a text, and what follows.
fn date_time(text: &str) -> Option<(PrimitiveDateTime, &str)> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits::<u8>(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let (clock, rest) = clock(rest.strip_prefix([' ', 'T'])?)?;
    Some((PrimitiveDateTime::new(date, clock), rest))
}

/// A zone whose offset is known at the start of a text, and what follows.
fn zone(text: &str) -> Option<(UtcOffset, &str)> {
    let name = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    if name > 0 {
        let (name, rest) = text.split_at_checked(name)?;
        return matches!(name, "UTC" | "GMT" | "Z").then_some((UtcOffset::UTC, rest));
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = digits::<i8>(text.strip_prefix(['+', '-'])?, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':').unwrap_or(rest), 2).unwrap_or((0_i8, rest));
    Some((UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?, rest))
}

/// The time at the start of a text if its zone is known, and what follows it.
pub(super) fn sent_at(text: &str) -> Option<(Option<Timestamp>, &str)> {
    let (at, rest) = date_time(text)?;
    let zone_text = rest.strip_prefix(' ').unwrap_or(rest);
    Some(match zone(zone_text) {
        Some((offset, rest)) => (Some(Timestamp::from_date_time(at.assume_offset(offset))), rest),
        None => (None, rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, &str)> {
        let (at, rest) = sent_at(text)?;
        Some((at.map_or_else(|| "-".to_owned(), |at| at.to_string()), rest))
    }

    #[test]
    fn times_are_read_where_their_zone_is_known() {
        for (text, at, rest) in [
            ("2026-11-28 15:40:35.809 UTC [1] x", "2026-11-28T15:40:35.809Z", " [1] x"),
            ("2026-11-28 15:40:35 GMT", "2026-11-28T15:40:35Z", ""),
            ("2026-11-28 16:40:37.021 CET [2]", "-", " CET [2]"),
            ("2026-11-28 12:40:37 -03 [2]", "2026-11-28T15:40:37Z", " [2]"),
            ("2026-11-28T15:40:37.000001+05:30 1", "2026-11-28T10:10:37.000001Z", " 1"),
            ("2026-11-28T15:40:37.5+0000 I", "2026-11-28T15:40:37.5Z", " I"),
            ("2026-11-28T15:40:37.000000Z 0", "2026-11-28T15:40:37Z", " 0"),
            ("2026-11-28 15:40:45 0 [Note]", "-", " 0 [Note]"),
            ("2026-11-28 15:40:45", "-", ""),
            ("2026-11-28  5:40:45 0 [Note]", "-", " 0 [Note]"),
        ] {
            assert_eq!(read(text), Some((at.to_owned(), rest)), "{text}");
        }
        for text in ["", "2026-13-28 15:40:35", "2026-11-28", "é026-11-28 15:40:35", "x"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
