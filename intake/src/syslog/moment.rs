//! Times in messages, read by hand (pure): a general reader costs more than the rest of a message.

use model::Timestamp;

/// A time as it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    /// Minutes east of UTC.
    offset: i64,
}

/// A time as in RFC 3339, from 1970 on, and what follows it.
pub(crate) fn rfc3339(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', time @ ..] = bytes else { return None };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let moment = Moment::new(year.cast_signed(), two(*m1, *m2)?);
    let (mut moment, mut rest) = moment.with_day(*d1, *d2)?.with_time(time)?;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, after) = fraction.split_at_checked(digits)?;
        if !(1..=9).contains(&digits) {
            return None;
        }
        let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        moment.nanos = padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
        rest = after;
    }
    let rest = match rest {
        [b'Z', rest @ ..] => rest,
        [sign @ (b'+' | b'-'), h1, h2, b':', n1, n2, rest @ ..] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*n1, *n2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = i64::from(hours * 60 + minutes);
            moment.offset = if *sign == b'-' { -offset } else { offset };
            rest
        }
        _ => return None,
    };
    Some((moment.in_utc()?, rest))
}

impl Moment {
    pub(crate) fn new(year: i32, month: u32) -> Self {
        Self { year, month, ..Self::default() }
    }

    pub(crate) fn with_day(self, d1: u8, d2: u8) -> Option<Self> {
        let day = two(d1, d2)?;
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(is_leap),
            _ => return None,
        };
        (1..=days).contains(&day).then_some(Self { day, ..self })
    }

    /// Reads `hh:mm:ss`, and gives what follows.
    pub(crate) fn with_time(self, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let [h1, h2, b':', n1, n2, b':', s1, s2, rest @ ..] = bytes else { return None };
        let (hour, minute, second) = (two(*h1, *h2)?, two(*n1, *n2)?, two(*s1, *s2)?);
        // Leap seconds are left to others.
        (hour < 24 && minute < 60 && second < 60)
            .then_some((Self { hour, minute, second, ..self }, rest))
    }

    pub(crate) fn in_utc(self) -> Option<Timestamp> {
        let minutes = self.days() * 1440 + i64::from(self.hour * 60 + self.minute) - self.offset;
        let seconds = u64::try_from(minutes * 60 + i64::from(self.second)).ok()?;
        let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(self.nanos.into())?;
        // What a signed number holds, as everywhere else.
        i64::try_from(nanos).ok()?;
        Some(Timestamp::from_nanos(nanos))
    }

    /// Days since 1970: of the years before in a calendar whose year begins in March, so that the leap day is
    /// its last (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    fn days(self) -> i64 {
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let month = i64::from((self.month + 9) % 12);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }
}

fn two(tens: u8, ones: u8) -> Option<u32> {
    let are_digits = tens.is_ascii_digit() && ones.is_ascii_digit();
    are_digits.then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}
