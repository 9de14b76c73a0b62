//! What is in the stream, session by session.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use model::{Event, OutputStream, Source};
use uuid::Uuid;

use super::Verdict;
use crate::evidence::Evidence;
use crate::mutate::Mutation;

/// The sessions in the stream.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) sessions: BTreeMap<Uuid, Session>,
}

/// A session as it is recorded.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The records that are no output, by number.
    pub(crate) events: Vec<u64>,
    pub(crate) command: String,
    next_seq: u64,
    last_at: u64,
    started: u32,
    ended: u32,
    told_bytes: u64,
}

impl Session {
    pub(crate) fn output(&self, stream: OutputStream) -> &[u8] {
        match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        }
    }
}

/// Reads every block, and checks numbers, times and offsets.
pub(super) fn read(
    evidence: &Evidence,
    mutation: Option<Mutation>,
    verdict: &mut Verdict,
) -> Result<Recorded> {
    let mut recorded = Recorded::default();
    let mut blocks = HashSet::new();
    let mut last = None;
    let removed =
        (mutation == Some(Mutation::Stream)).then(|| middle_block(evidence)).transpose()?;
    for (number, block) in evidence.blocks()?.enumerate() {
        let (position, block) = block?;
        if removed == Some(number) {
            continue;
        }
        if !blocks.insert(block.id()) {
            verdict.findings.add("stream", format!("the block {} is there twice", block.id()));
        }
        if last.is_some_and(|last| last >= position) {
            verdict.findings.add("stream", format!("{position} is not after the block before it"));
        }
        last = Some(position);
        match block.records() {
            Ok(records) => {
                for record in records {
                    take(record, &mut recorded, verdict);
                }
            }
            Err(error) => {
                verdict.findings.add("stream", format!("the block at {position}: {error}"));
            }
        }
    }
    for (id, session) in &recorded.sessions {
        let bytes = (session.stdout.len() + session.stderr.len()) as u64;
        verdict.recorded_bytes += bytes;
        if (session.started, session.ended) != (1, 1) {
            let sentence = format!(
                "session {id} ({}) has {} beginnings and {} ends",
                session.command, session.started, session.ended
            );
            verdict.findings.add("stream", sentence);
        } else if session.told_bytes != bytes {
            let told = session.told_bytes;
            let sentence =
                format!("session {id} ends with {told} bytes of output told, of {bytes}");
            verdict.findings.add("stream", sentence);
        }
    }
    verdict.sessions = recorded.sessions.len();
    Ok(recorded)
}

fn take(record: model::Record, recorded: &mut Recorded, verdict: &mut Verdict) {
    if record.origin.source != Source::EphemeralSession {
        // What users and the platform did: each alone, and no session's.
        return;
    }
    let id = record.origin.producer.uuid();
    let session = recorded.sessions.entry(id).or_default();
    if record.seq != session.next_seq {
        let expected = session.next_seq;
        if record.seq > expected {
            verdict.lost += record.seq - expected;
        }
        let sentence = format!("session {id}: where record {expected} should be is {}", record.seq);
        verdict.findings.add("stream", sentence);
    }
    session.next_seq = record.seq + 1;
    if record.at.nanos() < session.last_at {
        let sentence = format!("session {id}: time runs back at record {}", record.seq);
        verdict.findings.add("stream", sentence);
    }
    session.last_at = record.at.nanos();
    if session.ended > 0 {
        let sentence = format!("session {id}: record {} is after its end", record.seq);
        verdict.findings.add("stream", sentence);
    }
    if let Event::Output { stream, offset, bytes } = record.event {
        let output = match stream {
            OutputStream::Stdout => &mut session.stdout,
            OutputStream::Stderr => &mut session.stderr,
        };
        let have = output.len() as u64;
        if offset != have {
            let name = stream.as_str();
            let sentence = format!("session {id}: after byte {have} of {name} comes byte {offset}");
            verdict.findings.add("stream", sentence);
            verdict.lost += offset.saturating_sub(have);
            // So that later offsets are compared where they belong.
            output.resize(usize::try_from(offset).unwrap_or(output.len()), 0);
        }
        output.extend_from_slice(&bytes);
        return;
    }
    if matches!(record.event, Event::Pause { .. }) {
        // Cuts a line and is none.
        return;
    }
    session.events.push(record.seq);
    match record.event {
        Event::SessionStarted(_) => session.started += 1,
        Event::SessionEnded { output_bytes, .. } => {
            session.ended += 1;
            session.told_bytes = output_bytes;
        }
        Event::Exec { command } => session.command = String::from_utf8_lossy(&command).into_owned(),
        _ => {}
    }
}

/// A block from the middle that holds output which is not the last of its session: without it there is a
/// gap.
fn middle_block(evidence: &Evidence) -> Result<usize> {
    let (mut with_output, mut last) = (Vec::new(), HashMap::new());
    for (number, block) in evidence.blocks()?.enumerate() {
        let (_, block) = block?;
        let spans = block.header().producers.iter().filter(|span| span.output_bytes > 0);
        for span in spans {
            with_output.push((number, span.producer));
            last.insert(span.producer, number);
        }
    }
    with_output.retain(|(number, producer)| last.get(producer).is_some_and(|last| last > number));
    let middle = with_output.get(with_output.len() / 2);
    middle.map(|(number, _)| *number).ok_or_else(|| anyhow::anyhow!("no output"))
}

/// Sessions by the token in their command.
pub(super) fn by_token<'a>(
    recorded: &'a Recorded,
    tokens: impl Iterator<Item = &'a str>,
) -> HashMap<&'a str, Vec<(Uuid, &'a Session)>> {
    let mut found: HashMap<&str, Vec<(Uuid, &Session)>> =
        tokens.map(|token| (token, Vec::new())).collect();
    for (id, session) in &recorded.sessions {
        for (token, sessions) in &mut found {
            if session.command.contains(token) {
                sessions.push((*id, session));
            }
        }
    }
    found
}
