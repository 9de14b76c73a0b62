//! Heroku's framing of syslog messages, as its HTTPS drains send them (pure; heroku/logplex,
//! `doc/README.http_drains.md`).
//!
//! Each message is preceded by its length in bytes. It has RFC 5424's header, and no structured data: what follows
//! MSGID is the text.

use bytes::Bytes;
use model::{LogLine, Severity};

use super::gathered::Gathered;
use super::lines::Lines;
use super::times;

/// Digits of a frame's length at most.
const DIGITS: usize = 8;

/// Reads frames. What follows a frame whose length is wrong cannot be told apart, and counts as one bad line.
pub(super) fn read(body: &Bytes, lines: &mut Lines) {
    let mut rest: &[u8] = body;
    for number in 1.. {
        if rest.trim_ascii().is_empty() || lines.is_full() {
            return;
        }
        let Some((frame, after)) = split(rest) else {
            lines.refuse(number, "it does not begin with its length; the rest is not read");
            return;
        };
        rest = after;
        match message(body, frame) {
            Some(line) => lines.push(line),
            None => lines.refuse(number, "it is not a syslog message with the header of RFC 5424"),
        }
    }
}

/// The first frame, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(DIGITS + 1).position(|&byte| byte == b' ')?;
    let (length, rest) = bytes.split_at_checked(space)?;
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    rest.get(1..)?.split_at_checked(length)
}

fn message(body: &Bytes, frame: &[u8]) -> Option<LogLine> {
    let frame = frame.strip_suffix(b"\n").unwrap_or(frame);
    let mut parts = frame.splitn(7, |&byte| byte == b' ');
    let mut part = || std::str::from_utf8(parts.next()?).ok();
    let (priority, at, host, app, process, message_id) =
        (part()?, part()?, part()?, part()?, part()?, part()?);
    let text = parts.next().unwrap_or_default();
    let number = priority.strip_prefix('<')?.strip_suffix(">1")?;
    let number: u8 = number.parse().ok().filter(|number| *number <= 191)?;
    let mut gathered = Gathered::new(body.slice_ref(text));
    gathered.severity(Severity::ALL.get(usize::from(number % 8)).copied());
    gathered.at(times::parse(at));
    for (name, value) in
        [("hostname", host), ("app_name", app), ("procid", process), ("msgid", message_id)]
    {
        // Logplex has the literal `host` there.
        if value != "-" && (name, value) != ("hostname", "host") {
            gathered.field(name, value);
        }
    }
    Some(gathered.finish())
}

#[cfg(test)]
mod tests {
    use model::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::http::lines::Outcome;
    use crate::http::lines::tests::lines;

    fn read_all(body: &[u8]) -> (Vec<LogLine>, Outcome) {
        let mut lines = lines();
        read(&Bytes::copy_from_slice(body), &mut lines);
        let (good, outcome, _) = lines.finish().unwrap();
        (good, outcome)
    }

    // As in heroku/logplex, doc/README.http_drains.md.
    const DOCUMENTED: &str = "83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n\
        119 <40>1 2012-11-30T06:45:26+00:00 host app web.3 - Starting process with command `bundle exec rackup config.ru -p 24405`\n";

    #[test]
    fn the_documented_body_is_read() {
        let (good, outcome) = read_all(DOCUMENTED.as_bytes());
        assert_eq!((good.len(), outcome.refused_count), (2, 0));
        assert_eq!(good[0].text, "State changed from starting to up");
        assert_eq!(good[0].severity, Some(Severity::Emergency));
        assert_eq!(good[0].sent_at, Some(Timestamp::from_nanos(1_354_257_929_000_000_000)));
        let fields: Vec<_> = good[0].fields.iter().collect();
        assert_eq!(fields, [("app_name", "app"), ("procid", "web.3")]);
    }

    #[test]
    fn a_bad_message_is_passed_over_and_a_bad_length_ends_it() {
        let (good, outcome) =
            read_all(b"3 bad33 <14>1 2012-11-30T06:45:29Z h a p - ok1999 <14>1 cut off");
        assert_eq!(good.len(), 1);
        assert_eq!(outcome.refused.iter().map(|bad| bad.line).collect::<Vec<_>>(), [1, 3]);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_they_are_read_or_refused(body in prop::collection::vec(
            prop::sample::select(b"0129 <>1-\n\xff".to_vec()), 0..80,
        )) {
            read_all(&body);
        }
    }
}
