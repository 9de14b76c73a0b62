//! Messages as real senders write them, read by `syslog_loose` (pure).
//!
//! It gives the text without the spaces around it, and leaves out structured data that it cannot read, and a dash
//! before the text. All that is put back here.

use std::borrow::Cow;

use chrono::Utc;
use model::{Severity, Timestamp};
use syslog_loose::{Protocol, Variant};

use super::message::{Element, Head, Message, Today};
use super::usual::BOM;

/// What comes before the text has no more bytes than this.
const HEAD_LIMIT: usize = 64 << 10;

/// Reads a message that has a time.
pub(crate) fn parse(message: &[u8], today: Today) -> Option<Message<'_>> {
    let beginning = message.get(..HEAD_LIMIT).unwrap_or(message);
    let beginning = beginning.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let year_of = |(month, ..): syslog_loose::IncompleteDate| today.year_of(month);
    let found = syslog_loose::parse_message_with_year_exact_tz(
        beginning,
        year_of,
        Some(Utc),
        Variant::Either,
    )
    .ok()?;
    let text = text(message, beginning, &found);
    let (mut hostname, mut app_name) = (found.hostname, found.appname);
    let is_new = found.protocol != Protocol::RFC3164;
    let ends_with_colon = |name: &str| {
        let end = offset(beginning, name) + name.len();
        beginning.as_bytes().get(end) == Some(&b':')
    };
    // `tag: text`, as programs write to `/dev/log`.
    if !is_new && app_name.is_none() && hostname.is_some_and(ends_with_colon) {
        (hostname, app_name) = (None, hostname);
    }
    let data = found.structured_data.iter().map(|element| Element {
        id: element.id,
        parameters: element.params().map(|(name, value)| (*name, Cow::Owned(value))).collect(),
    });
    let at = found.timestamp.and_then(|at| at.timestamp_nanos_opt());
    Some(Message {
        severity: found.severity.and_then(|severity| Severity::ALL.get(severity as usize).copied()),
        facility: found.facility.map(|facility| facility as u8),
        sent_at: at.and_then(|at| u64::try_from(at).ok()).map(Timestamp::from_nanos),
        head: Head {
            hostname,
            app_name,
            procid: found.procid.map(|procid| match procid {
                syslog_loose::ProcId::PID(number) => Cow::Owned(number.to_string()),
                syslog_loose::ProcId::Name(name) => Cow::Borrowed(name),
            }),
            msgid: found.msgid,
            data: data.collect(),
        },
        text,
        is_malformed: false,
    })
}

/// Where the text begins, with all that nothing was made of.
fn text(message: &[u8], beginning: &str, found: &syslog_loose::Message<&str>) -> usize {
    let spaces = [' ', '\t'];
    let before = beginning.get(..offset(beginning, found.msg)).unwrap_or_default();
    let mut head = before.trim_end_matches(spaces);
    let is_new = found.protocol != Protocol::RFC3164;
    if is_new {
        let data_at = data_at(before);
        let data = before.get(data_at..).unwrap_or_default();
        let is_apart = data.ends_with(spaces) || found.msg.is_empty();
        let read: String = found.structured_data.iter().map(ToString::to_string).collect();
        let is_all = data.trim() == "-" && is_apart || same(data, &read);
        // It may have the token, which must not get out. What was read of it is in the fields.
        if !is_all && !has_token(data) {
            return data_at;
        }
    } else if let Some(dash) = head.strip_suffix('-')
        && found.structured_data.is_empty()
        && (dash.ends_with(spaces) || dash.ends_with(':'))
    {
        head = dash.trim_end_matches(spaces);
    }
    let text = head.len() + usize::from(message.get(head.len()) == Some(&b' '));
    let has_bom = is_new && message.get(text..).is_some_and(|text| text.starts_with(BOM));
    if has_bom { text + BOM.len() } else { text }
}

/// Where the structured data begins: after a priority with a version, and five more words.
fn data_at(before: &str) -> usize {
    let mut rest = before.trim_start();
    for _ in 0..6 {
        let word = rest.find([' ', '\t']).unwrap_or(rest.len());
        rest = rest.get(word..).unwrap_or_default().trim_start_matches([' ', '\t']);
    }
    before.len() - rest.len()
}

/// Whether two texts differ only in white space.
fn same(one: &str, other: &str) -> bool {
    let visible = |text: &'_ str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    visible(one) == visible(other)
}

fn has_token(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split(|c| !is_inner(c)).any(crate::sources::is_token)
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}
