//! What arrived at a receiver, against the stream.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use model::OutputStream;
use uuid::Uuid;

use super::Verdict;
use super::stream::Recorded;
use crate::bounds;
use crate::evidence::{Arrival, Drain, Evidence, Facts, Span};
use crate::lines::Way;
use crate::mutate::Mutation;

mod apps;

/// What a drain has delivered.
#[derive(Debug, Default)]
pub(crate) struct DrainTotals {
    pub(crate) handle: String,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// Of the lines, those of apps, by the way that they came in.
    pub(crate) by_way: BTreeMap<Way, u64>,
    pub(crate) repeated_lines: u64,
    pub(crate) repeated_bytes: u64,
    /// The most bytes that came again at one time.
    pub(crate) largest_repeat: u64,
    /// How many times something came again.
    pub(crate) redeliveries: u64,
    pub(crate) rejected: usize,
    pub(crate) connections: u64,
}

type Line = (Uuid, OutputStream, u64, u64);

/// How far each stream of each session has come.
#[derive(Default)]
struct Progress {
    next: HashMap<(Uuid, OutputStream), u64>,
    /// Which first came how many arrivals from the first.
    lines: HashMap<Line, u64>,
    events: HashMap<(Uuid, u64), u64>,
    /// Which record of each producer of an app's lines comes next.
    next_record: HashMap<Uuid, u64>,
    arrivals: u64,
    /// Where the lines begin that the receiver has refused for good, and where they end. They may
    /// come later all the same: a rejection that was not written down before a crash is forgotten.
    refused: HashMap<(Uuid, OutputStream, u64), u64>,
}

impl Progress {
    /// How far a stream has come, refused lines aside.
    fn next(&self, session: Uuid, stream: OutputStream) -> u64 {
        let mut next = self.next.get(&(session, stream)).copied().unwrap_or_default();
        while let Some(&end) = self.refused.get(&(session, stream, next)).filter(|&&end| end > next)
        {
            next = end;
        }
        next
    }
}

/// What comes again after one interruption, in the order in which it first came. The rest of what was sent
/// before the interruption may come between, on the old connection.
#[derive(Default)]
struct Redelivery {
    /// Which line of each session came again last: how many arrivals from the first it first came. Requests at a
    /// time come in any order; lines of a session do not.
    last: HashMap<Uuid, u64>,
    /// Bytes that were new since then.
    new_bytes: u64,
}

impl Redelivery {
    /// Notes that a line came again; tells whether that belongs to what came again before it.
    fn goes_on_with(&mut self, session: Uuid, first: u64) -> bool {
        let is_later = self.last.get(&session).is_none_or(|last| *last < first);
        let goes_on =
            !self.last.is_empty() && is_later && self.new_bytes <= bounds::REDELIVERY_BYTES;
        if !goes_on {
            self.last.clear();
        }
        self.last.insert(session, first);
        self.new_bytes = 0;
        goes_on
    }
}

pub(super) fn check(
    evidence: &Evidence,
    facts: &Facts,
    drain: &Drain,
    recorded: &Recorded,
    mutation: Option<Mutation>,
    verdict: &mut Verdict,
) -> Result<DrainTotals> {
    let mut totals = DrainTotals {
        handle: drain.handle.clone(),
        rejected: drain.rejected.len(),
        connections: drain.connections,
        ..DrainTotals::default()
    };
    let removed = match mutation {
        Some(Mutation::Receiver) => {
            Some(middle(evidence, &drain.handle, |arrival| arrival.span.is_some())?)
        }
        Some(Mutation::ReceiverLines) => {
            let is_line = |arrival: &Arrival| Way::of(&arrival.message) == Some(Way::Http);
            Some(middle(evidence, &drain.handle, is_line)?)
        }
        _ => None,
    };
    let refused = drain.refused.iter().filter_map(|id| parse_id(id)).collect();
    let mut progress = Progress { refused, ..Progress::default() };
    // What came again since the last new line, on one connection.
    let (mut again, mut again_on) = (0, 0);
    let mut redelivery = Redelivery::default();
    for arrival in evidence.arrivals(&drain.handle)? {
        let arrival = arrival?;
        if removed.as_deref() == Some(arrival.id.as_str()) {
            continue;
        }
        progress.arrivals += 1;
        let first = match arrival.span {
            Some(span) => line(&arrival, span, drain, recorded, &mut progress, verdict),
            None if recorded.producers.contains_key(&arrival.producer) => {
                apps::record(&arrival, drain, recorded, &mut progress, verdict)
            }
            None => event(&arrival, drain, recorded, &mut progress, verdict),
        };
        let sent = u64::from(arrival.sent_bytes);
        if let Some(first) = first {
            totals.repeated_lines += 1;
            totals.repeated_bytes += sent;
            totals.redeliveries += u64::from(!redelivery.goes_on_with(arrival.producer, first));
            if again_on != arrival.batch {
                (again, again_on) = (0, arrival.batch);
            }
            again += sent;
            totals.largest_repeat = totals.largest_repeat.max(again);
        } else {
            totals.lines += 1;
            totals.bytes += arrival.span.map_or(0, |span| span.length);
            if let Some(way) = Way::of(&arrival.message).filter(|_| arrival.span.is_none()) {
                *totals.by_way.entry(way).or_default() += 1;
            }
            redelivery.new_bytes += sent;
            again = 0;
        }
    }
    ends(drain, recorded, &progress, verdict);
    apps::ends(drain, recorded, &progress, verdict);
    rejections(drain, &progress, verdict);
    if totals.largest_repeat > bounds::REDELIVERY_BYTES {
        let sentence = format!(
            "{}: {} bytes came again at one time, the bound is {}",
            drain.handle,
            totals.largest_repeat,
            bounds::REDELIVERY_BYTES
        );
        verdict.findings.add("repeated", sentence);
    }
    let causes = drain.ended_by_receiver + bounds::interruptions(&facts.faults);
    if totals.redeliveries > causes {
        let sentence = format!(
            "{}: lines came again {} times, for {causes} interruptions",
            drain.handle, totals.redeliveries
        );
        verdict.findings.add("repeated", sentence);
    }
    Ok(totals)
}

/// A line of output; tells when it came before, if it did.
fn line(
    arrival: &Arrival,
    span: Span,
    drain: &Drain,
    recorded: &Recorded,
    progress: &mut Progress,
    verdict: &mut Verdict,
) -> Option<u64> {
    let Span { stream, offset, length } = span;
    let (session, name) = (arrival.producer, stream.as_str());
    let at = format!("{}: session {session}, {name}, offset {offset}", drain.handle);
    let kept = recorded.sessions.get(&session).and_then(|session| {
        let output = session.output(stream);
        output.get(usize::try_from(offset).ok()?..usize::try_from(offset + length).ok()?)
    });
    if kept.map(text) != Some(&arrival.message) {
        verdict.findings.add("delivered", format!("{at}: the line is not what was recorded"));
    }
    if arrival.id != format!("{session}:{name}:{offset}-{}", offset + length) {
        verdict.findings.add("delivered", format!("{at}: the line's id is {}", arrival.id));
    }
    let next = progress.next(session, stream);
    let line = (session, stream, offset, length);
    if let Some(first) = progress.lines.get(&line) {
        return Some(*first);
    }
    progress.lines.insert(line, progress.arrivals);
    if offset > next {
        verdict.lost += offset - next;
        verdict.findings.add("lost", format!("{at}: it comes after byte {next}"));
    } else if offset < next && !progress.refused.contains_key(&(session, stream, offset)) {
        let sentence = format!("{at}: it comes after byte {next}, and is no line that came before");
        verdict.findings.add("delivered", sentence);
    }
    progress.next.insert((session, stream), next.max(offset + length));
    None
}

/// A line that is no output; tells when it came before, if it did.
fn event(
    arrival: &Arrival,
    drain: &Drain,
    recorded: &Recorded,
    progress: &mut Progress,
    verdict: &mut Verdict,
) -> Option<u64> {
    let (session, seq) = (arrival.producer, arrival.seq);
    let events = recorded.sessions.get(&session).map(|session| &session.events);
    if !events.is_some_and(|events| events.contains(&seq)) {
        let sentence = format!("{}: session {session} has no event {seq}", drain.handle);
        verdict.findings.add("delivered", sentence);
    }
    let first = progress.events.get(&(session, seq)).copied();
    progress.events.entry((session, seq)).or_insert(progress.arrivals);
    first
}

/// Everything that is recorded has come.
fn ends(drain: &Drain, recorded: &Recorded, progress: &Progress, verdict: &mut Verdict) {
    let rejected_ids: HashSet<&str> = drain.rejected.iter().map(String::as_str).collect();
    for (&id, session) in &recorded.sessions {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let all = session.output(stream).len() as u64;
            let next = progress.next(id, stream);
            if next < all {
                verdict.lost += all - next;
                let sentence = format!(
                    "{}: session {id}, {}, offset {next}: the last {} bytes never came",
                    drain.handle,
                    stream.as_str(),
                    all - next
                );
                verdict.findings.add("lost", sentence);
            }
        }
        for seq in &session.events {
            let came = progress.events.contains_key(&(id, *seq));
            if !came && !rejected_ids.contains(format!("{id}:{seq}").as_str()) {
                verdict.lost += 1;
                let sentence = format!("{}: session {id}: event {seq} never came", drain.handle);
                verdict.findings.add("lost", sentence);
            }
        }
    }
}

/// A line that was refused is counted as rejected or has come later, and no other is counted.
fn rejections(drain: &Drain, progress: &Progress, verdict: &mut Verdict) {
    let refused: HashSet<&String> = drain.refused.iter().collect();
    let rejected: HashSet<&String> = drain.rejected.iter().collect();
    for id in rejected.difference(&refused) {
        let sentence = format!("{}: {id} is counted as rejected and was not refused", drain.handle);
        verdict.findings.add("rejected", sentence);
    }
    for id in refused.difference(&rejected) {
        let Some(((session, stream, offset), end)) = parse_id(id) else { continue };
        if !progress.lines.contains_key(&(session, stream, offset, end - offset)) {
            verdict.lost += end - offset;
            let sentence =
                format!("{}: {id} was refused, and is not counted as that", drain.handle);
            verdict.findings.add("lost", sentence);
        }
    }
}

/// A piece of output without its line end, and without the carriage returns of a redraw.
fn text(piece: &[u8]) -> &[u8] {
    let mut text = piece.strip_suffix(b"\n").unwrap_or(piece);
    while let Some(shorter) = text.strip_suffix(b"\r") {
        text = shorter;
    }
    while let Some(shorter) = text.strip_prefix(b"\r") {
        text = shorter;
    }
    text
}

/// `SESSION:STREAM:BEGIN-END`; none for the id of an event.
fn parse_id(id: &str) -> Option<((Uuid, OutputStream, u64), u64)> {
    let mut parts = id.split(':');
    let session = parts.next()?.parse().ok()?;
    let stream = match parts.next()? {
        "stdout" => OutputStream::Stdout,
        "stderr" => OutputStream::Stderr,
        _ => return None,
    };
    let (begin, end) = parts.next()?.split_once('-')?;
    Some(((session, stream, begin.parse().ok()?), end.parse().ok()?))
}

/// The id of such a line from the middle.
fn middle(
    evidence: &Evidence,
    drain: &str,
    is_wanted: impl Fn(&Arrival) -> bool,
) -> Result<String> {
    let mut ids = Vec::new();
    for arrival in evidence.arrivals(drain)? {
        let arrival = arrival?;
        if is_wanted(&arrival) {
            ids.push(arrival.id);
        }
    }
    let middle = ids.len() / 2;
    ids.into_iter().nth(middle).ok_or_else(|| anyhow::anyhow!("no line arrived"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redelivery_ends_where_something_comes_a_third_time_or_much_that_is_new_comes() {
        let mut redelivery = Redelivery::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(!redelivery.goes_on_with(one, 5));
        redelivery.new_bytes = 1000;
        assert!(redelivery.goes_on_with(one, 6) && redelivery.goes_on_with(one, 9));
        assert!(redelivery.goes_on_with(other, 7), "another session's may come later");
        assert!(!redelivery.goes_on_with(one, 6));
        redelivery.new_bytes = bounds::REDELIVERY_BYTES + 1;
        assert!(!redelivery.goes_on_with(one, 7));
    }
}
