//! Usual messages, read by hand (pure): RFC 5424 as it is written, and of RFC 3164
//! `<PRI>Mmm dd hh:mm:ss host tag[pid]: text`, also without the host, as programs write to `/dev/log`, and with a
//! time as in RFC 3339, as rsyslog forwards them.

use std::borrow::Cow;
use std::ops::Range;

use model::Timestamp;

use super::message::{Element, Form, Head, Message, Today, severity};
use super::moment::{Moment, rfc3339};

/// A message's priority and time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) form: Form,
    pub(crate) priority: u8,
    pub(crate) sent_at: Option<Timestamp>,
    /// Where the head begins.
    pub(crate) head: usize,
}

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// How a text in UTF-8 may begin (RFC 5424, section 6.4).
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a usual message, and says where its head is.
pub(crate) fn parse(message: &[u8], today: Today) -> Option<(Message<'_>, Form, Range<usize>)> {
    let opening = opening(message, today)?;
    let (head, length) = head(opening.form, message.get(opening.head..)?)?;
    let end = opening.head + length;
    let found = Message {
        severity: severity(opening.priority),
        facility: Some(opening.priority >> 3),
        sent_at: opening.sent_at,
        head,
        text: text(opening.form, message, end)?,
        is_malformed: false,
    };
    Some((found, opening.form, opening.head..end))
}

/// Whatever it is: a priority may be known, and a tag. The rest is text.
pub(crate) fn without_time(message: &[u8]) -> Message<'_> {
    let mut found = Message { is_malformed: true, ..Message::default() };
    if let Some((priority, rest)) = priority(message) {
        found.severity = severity(priority);
        found.facility = Some(priority >> 3);
        found.text = message.len() - rest.len();
        if let Some((head, length)) = tag(rest) {
            found.head = head;
            found.text += length;
        }
    }
    found
}

/// Reads the beginning of a message.
pub(crate) fn opening(message: &[u8], today: Today) -> Option<Opening> {
    let (priority, rest) = priority(message)?;
    let (form, sent_at, rest) = match rest {
        [b'1', b' ', b'-', b' ', rest @ ..] => (Form::New, None, rest),
        [b'1', b' ', rest @ ..] => {
            let (at, rest) = rfc3339(rest)?;
            (Form::New, Some(at), rest.strip_prefix(b" ")?)
        }
        [b'0'..=b'9', ..] => {
            let (at, rest) = rfc3339(rest)?;
            (Form::Old, Some(at), rest.strip_prefix(b" ")?)
        }
        _ => {
            let (at, rest) = without_year(rest, today)?;
            (Form::Old, Some(at), rest)
        }
    };
    Some(Opening { form, priority, sent_at, head: message.len() - rest.len() })
}

/// Reads a head, and says how long it is with what ends it. What follows makes no difference.
pub(crate) fn head(form: Form, bytes: &[u8]) -> Option<(Head<'_>, usize)> {
    match form {
        Form::New => new(bytes),
        Form::Old => old(bytes),
    }
}

/// Where the text begins after a head, if it is usual, too.
pub(crate) fn text(form: Form, message: &[u8], head_end: usize) -> Option<usize> {
    let text = message.get(head_end..)?;
    match form {
        Form::New if text.starts_with(BOM) => Some(head_end + BOM.len()),
        Form::New => Some(head_end),
        Form::Old => {
            // `[a=...]` may be structured data, also after spaces and tabs.
            let begins = text.trim_ascii_start();
            let is_usual = !begins.starts_with(b"[")
                || begins.iter().find(|byte| matches!(byte, b'=' | b']')) == Some(&b']');
            is_usual.then_some(head_end)
        }
    }
}

fn priority(message: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let (priority, rest) = match message {
        [b'<', a, b'>', rest @ ..] => (digit(a)?, rest),
        [b'<', a, b, b'>', rest @ ..] => (digit(a)? * 10 + digit(b)?, rest),
        [b'<', a, b, c, b'>', rest @ ..] => (digit(a)? * 100 + digit(b)? * 10 + digit(c)?, rest),
        _ => return None,
    };
    u8::try_from(priority).ok().filter(|priority| *priority < 192).map(|priority| (priority, rest))
}

/// `Mmm dd hh:mm:ss `, in UTC.
fn without_year(bytes: &[u8], today: Today) -> Option<(Timestamp, &[u8])> {
    let [m1, m2, m3, b' ', d1, d2, b' ', time @ ..] = bytes else { return None };
    let month = MONTHS.iter().position(|month| **month == [*m1, *m2, *m3])?;
    let month = u32::try_from(month).ok()? + 1;
    let d1 = if *d1 == b' ' { b'0' } else { *d1 };
    let moment = Moment::new(today.year_of(month), month);
    let (moment, rest) = moment.with_day(d1, *d2)?.with_time(time)?;
    Some((moment.in_utc()?, rest.strip_prefix(b" ")?))
}

/// `HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA `.
fn new(bytes: &[u8]) -> Option<(Head<'_>, usize)> {
    let (hostname, rest) = word(bytes)?;
    let (app_name, rest) = word(rest)?;
    let (procid, rest) = word(rest)?;
    let (msgid, rest) = word(rest)?;
    if hostname.ends_with(':') || [app_name, procid, msgid].contains(&":") {
        return None;
    }
    let (data, rest) = data(rest)?;
    let rest = match rest {
        [] => rest,
        [b' ', rest @ ..] => rest,
        _ => return None,
    };
    let procid = match some(procid) {
        Some(procid) => Some(usual_procid(procid)?),
        None => None,
    };
    let head = Head {
        hostname: some(hostname),
        app_name: some(app_name),
        procid,
        msgid: some(msgid),
        data,
    };
    Some((head, bytes.len() - rest.len()))
}

/// `host tag[pid]: ` or `tag[pid]: `.
fn old(bytes: &[u8]) -> Option<(Head<'_>, usize)> {
    if let Some(found) = tag(bytes) {
        return Some(found);
    }
    let (hostname, rest) = word(bytes)?;
    if hostname.contains('[') || hostname.ends_with(':') || hostname == "-" {
        return None;
    }
    let (mut head, length) = tag(rest)?;
    head.hostname = Some(hostname);
    Some((head, bytes.len() - rest.len() + length))
}

/// `tag[pid]: ` or `tag: `.
fn tag(bytes: &[u8]) -> Option<(Head<'_>, usize)> {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./@".contains(byte);
    let name = bytes.iter().take_while(|byte| is_inner(byte)).count();
    let (name, rest) = bytes.split_at_checked(name)?;
    let (procid, rest) = match rest {
        [b'[', rest @ ..] => {
            let length = rest.iter().take_while(|byte| is_inner(byte)).count();
            let (procid, rest) = rest.split_at_checked(length)?;
            (Some(usual_procid(std::str::from_utf8(procid).ok()?)?), rest.strip_prefix(b"]")?)
        }
        _ => (None, rest),
    };
    let rest = rest.strip_prefix(b": ")?;
    let name = std::str::from_utf8(name).ok()?;
    if name.is_empty() || name == "-" {
        return None;
    }
    let head = Head { app_name: Some(name), procid, ..Head::default() };
    Some((head, bytes.len() - rest.len()))
}

/// A number that is written as numbers are, or no number.
fn usual_procid(procid: &str) -> Option<Cow<'_, str>> {
    (!procid.is_empty() && !procid.starts_with(['0', '+', '-'])).then_some(Cow::Borrowed(procid))
}

/// Visible characters up to a space, which is taken, too.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_graphic()).count();
    let (word, rest) = bytes.split_at_checked(length)?;
    let rest = rest.strip_prefix(b" ")?;
    if word.is_empty() { None } else { Some((std::str::from_utf8(word).ok()?, rest)) }
}

fn some(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}

fn data(bytes: &[u8]) -> Option<(Vec<Element<'_>>, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"-") {
        return Some((Vec::new(), rest));
    }
    let (mut data, mut rest) = (Vec::new(), bytes);
    while let Some(inner) = rest.strip_prefix(b"[") {
        let (element, after) = element(inner)?;
        data.push(element);
        rest = after;
    }
    if data.is_empty() { None } else { Some((data, rest)) }
}

fn element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (id, mut rest) = name(bytes)?;
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(b" ") {
        let (name, after) = name(parameter)?;
        let after = after.strip_prefix(b"=\"")?;
        let length = after.iter().position(|byte| b"\"\\]".contains(byte))?;
        let (value, after) = after.split_at_checked(length)?;
        rest = after.strip_prefix(b"\"")?;
        parameters.push((name, Cow::Borrowed(std::str::from_utf8(value).ok()?)));
    }
    Some((Element { id, parameters }, rest.strip_prefix(b"]")?))
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let is_inner = |byte: &u8| byte.is_ascii_graphic() && !b"=]\"[".contains(byte);
    let length = bytes.iter().take_while(|byte| is_inner(byte)).count();
    let (name, rest) = bytes.split_at_checked(length)?;
    if name.is_empty() { None } else { Some((std::str::from_utf8(name).ok()?, rest)) }
}
