//! What was sent, against the stream: each line that was acknowledged once, each that a container printed once, and
//! of syslog, which acknowledges nothing, each that was written at most once, and all but what was on its way when
//! a connection was reset or its intake killed.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::Verdict;
use super::stream::Recorded;
use crate::bounds;
use crate::evidence::{Connection, End, Evidence, Facts};
use crate::lines::Way;
use crate::mutate::{self, Mutation};

/// What has come in on one way.
#[derive(Debug, Default)]
pub(crate) struct WayTotals {
    pub(crate) name: &'static str,
    pub(crate) sent: u64,
    /// None where nothing is acknowledged.
    pub(crate) acknowledged: Option<u64>,
    /// Each counted once.
    pub(crate) recorded: u64,
    pub(crate) lost: u64,
    /// What was on its way when its connection was reset or its intake killed.
    pub(crate) cut_off: u64,
    /// Lines that are there more than once.
    pub(crate) repeated: u64,
    /// In words.
    pub(crate) remark: String,
}

pub(super) fn check(
    evidence: &Evidence,
    facts: &Facts,
    recorded: &Recorded,
    mutation: Option<Mutation>,
    verdict: &mut Verdict,
) -> Result<BTreeMap<Way, WayTotals>> {
    let mut ways = BTreeMap::new();
    for way in Way::ALL {
        let mut totals = WayTotals { name: way.name(), ..WayTotals::default() };
        match way {
            Way::Http => http(facts, recorded, &mut totals, verdict),
            Way::Syslog => syslog(facts, recorded, &mut totals, verdict),
            Way::Docker if facts.sent.no_container.is_some() => {
                let why = facts.sent.no_container.as_deref().unwrap_or_default();
                totals.remark = format!("NOT RUN: {why}");
            }
            Way::Docker => docker(evidence, recorded, mutation, &mut totals, verdict)?,
        }
        verdict.lost += totals.lost;
        ways.insert(way, totals);
    }
    Ok(ways)
}

/// Batches follow one another, so their lines are there in their order.
fn http(facts: &Facts, recorded: &Recorded, totals: &mut WayTotals, verdict: &mut Verdict) {
    let sent = &facts.sent.http;
    let answers: Vec<_> =
        sent.answers.iter().map(|(what, count)| format!("{what}: {count}")).collect();
    let (batches, tries) = (sent.batches, sent.tries);
    totals.remark = format!("{batches} batches, {tries} tries ({})", answers.join(", "));
    (totals.sent, totals.acknowledged) = (sent.lines, Some(sent.acknowledged));
    let found = numbers(Way::Http, recorded, sent.lines, totals, verdict);
    for number in (0..sent.acknowledged).filter(|number| !found.contains_key(number)) {
        totals.lost += 1;
        verdict
            .findings
            .add("lost", format!("http: line {number} was acknowledged and is not in the stream"));
    }
    let mut next = 0;
    for number in recorded.lines(Way::Http).filter_map(|text| Way::Http.number(text)) {
        if number < next {
            verdict.findings.add(
                "sent",
                format!("http: line {number} is in the stream after line {}", next - 1),
            );
        }
        next = next.max(number + 1);
    }
}

/// Which lines are in the stream, and how many before each of the same producer; says of those that are there twice or
/// that nobody has sent.
fn numbers(
    way: Way,
    recorded: &Recorded,
    sent: u64,
    totals: &mut WayTotals,
    verdict: &mut Verdict,
) -> HashMap<u64, u64> {
    let name = way.name();
    let mut found: HashMap<u64, u64> = HashMap::new();
    for text in recorded.lines(way) {
        match way.number(text).filter(|number| *number < sent) {
            Some(number) => *found.entry(number).or_default() += 1,
            // Of a connection that was cut, the last message may be cut, too.
            None if way == Way::Syslog && is_cut(text, sent) => {}
            None => {
                let text = String::from_utf8_lossy(text);
                verdict.findings.add("sent", format!("{name}: nobody has sent this line: {text}"));
            }
        }
    }
    totals.recorded = found.len() as u64;
    for (number, count) in found.iter().filter(|(_, count)| **count > 1) {
        totals.repeated += count - 1;
        let sentence = format!("{name}: line {number} is in the stream {count} times");
        verdict.findings.add("repeated", sentence);
    }
    found
}

/// Whether a text is a line without its end.
fn is_cut(text: &[u8], sent: u64) -> bool {
    let is_of = |number| Way::Syslog.line(number).as_bytes().starts_with(text);
    let whole = str::from_utf8(text)
        .ok()
        .and_then(|text| text.strip_prefix(Way::Syslog.prefix())?.get(..8)?.parse::<u64>().ok());
    match whole {
        Some(number) => number < sent && is_of(number),
        None => text.len() < Way::Syslog.prefix().len() + 8,
    }
}

/// Of each connection the beginning is there, and all of it where nothing has cut its end off.
fn syslog(facts: &Facts, recorded: &Recorded, totals: &mut WayTotals, verdict: &mut Verdict) {
    let connections = &facts.sent.syslog;
    totals.sent = connections.iter().map(Connection::lines).sum();
    let ended = |end: End| connections.iter().filter(|connection| connection.end == end).count();
    totals.remark = format!(
        "{} connections, {} reset by the sender, {} broken",
        connections.len(),
        ended(End::Cut),
        ended(End::Broken)
    );
    let found = numbers(Way::Syslog, recorded, totals.sent, totals, verdict);
    order(recorded, verdict);
    for connection in connections {
        let lines = connection.first..connection.first + connection.lines();
        let missing: Vec<u64> =
            lines.clone().filter(|number| !found.contains_key(number)).collect();
        let kills = bounds::kills(&facts.faults, &format!("intake-{}", connection.intake));
        let intake = connection.intake;
        if connection.end == End::Broken
            && !kills.iter().any(|at| (connection.ended - 5.0..=connection.ended).contains(at))
        {
            let sentence = format!(
                "syslog-tls: intake-{intake} ended a connection at {:.1} s, and nobody had killed it",
                connection.ended
            );
            verdict.findings.add("sent", sentence);
        }
        let Some(first) = missing.first() else { continue };
        if missing.len() as u64 != lines.end - first {
            totals.lost += missing.len() as u64;
            let sentence = format!(
                "syslog-tls: line {first} is missing, and of its connection later ones are there"
            );
            verdict.findings.add("lost", sentence);
            continue;
        }
        let cut = (connection.end == End::Cut).then_some(connection.ended);
        let ends: Vec<f64> = kills.into_iter().chain(cut).collect();
        let is_excused = |number: &u64| {
            let at = connection.written_at(*number).unwrap_or_default();
            ends.iter().any(|end| bounds::may_be_cut_off(&facts.faults, at, *end))
        };
        let cut_off = missing.iter().filter(|number| is_excused(number)).count() as u64;
        totals.cut_off += cut_off;
        let lost = missing.len() as u64 - cut_off;
        if lost > 0 {
            totals.lost += lost;
            let at = connection.written_at(*first).unwrap_or_default();
            let sentence = format!(
                "syslog-tls: line {first}, written at {at:.1} s to intake-{intake}, and {} after it are missing; the \
                 connection ended at {:.1} s ({:?})",
                lost - 1,
                connection.ended,
                connection.end
            );
            verdict.findings.add("lost", sentence);
        }
    }
}

/// Each producer is a connection, so its lines follow one another.
fn order(recorded: &Recorded, verdict: &mut Verdict) {
    for (id, producer) in &recorded.producers {
        if producer.way != Some(Way::Syslog) {
            continue;
        }
        let mut expected = None;
        for text in producer.records.iter().flatten() {
            let Some(number) = Way::Syslog.number(text) else { continue };
            if expected.is_some_and(|expected| number != expected) {
                let expected = expected.unwrap_or_default();
                let sentence = format!(
                    "syslog-tls: producer {id}: line {number} is where {expected} should be"
                );
                verdict.findings.add("sent", sentence);
            }
            expected = Some(number + 1);
        }
    }
}

/// What Docker has kept is what is there, in the same order.
fn docker(
    evidence: &Evidence,
    recorded: &Recorded,
    mutation: Option<Mutation>,
    totals: &mut WayTotals,
    verdict: &mut Verdict,
) -> Result<()> {
    let mut printed = std::fs::read(evidence.printed())?;
    if mutation == Some(Mutation::Printed) {
        mutate::alter(&mut printed);
    }
    let printed: Vec<&[u8]> =
        printed.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    totals.sent = printed.len() as u64;
    let starts = printed.iter().filter(|line| line.windows(10).any(|part| part == b" 00000000 "));
    totals.remark = format!("{} starts of the container", starts.count());
    let kept: Vec<&[u8]> = recorded.lines(Way::Docker).collect();
    let mut found: HashMap<&[u8], u64> = HashMap::new();
    for line in &kept {
        *found.entry(line).or_default() += 1;
    }
    totals.recorded = found.len() as u64;
    for line in &printed {
        if !found.contains_key(line) {
            totals.lost += 1;
            let line = String::from_utf8_lossy(line);
            verdict.findings.add("lost", format!("docker: not in the stream: {line}"));
        }
    }
    for (line, count) in found.into_iter().filter(|(_, count)| *count > 1) {
        totals.repeated += count - 1;
        let line = String::from_utf8_lossy(line);
        verdict.findings.add("repeated", format!("docker: {count} times in the stream: {line}"));
    }
    if let Some(at) = printed.iter().zip(&kept).position(|(printed, kept)| printed != kept) {
        verdict.findings.add("sent", format!("docker: from line {at} on the stream has others"));
    } else if kept.len() > printed.len() {
        let more = kept.len() - printed.len();
        verdict
            .findings
            .add("sent", format!("docker: the stream has {more} lines more than Docker"));
    }
    Ok(())
}
