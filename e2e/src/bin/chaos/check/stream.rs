//! What is in the stream, session by session and, of apps, producer by producer.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use model::{Event, OutputStream, Source};
use uuid::Uuid;

use super::Verdict;
use crate::evidence::Evidence;
use crate::lines::Way;
use crate::mutate::Mutation;

/// The sessions in the stream.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) sessions: BTreeMap<Uuid, Session>,
    pub(crate) producers: BTreeMap<Uuid, Producer>,
    /// Where the lines of each way in are: producer and number, in the order of the stream.
    pub(crate) order: BTreeMap<Way, Vec<(Uuid, usize)>>,
}

/// Who numbers lines of apps: a connection, a container, a request.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    /// What its lines say; none where a record is no line.
    pub(crate) records: Vec<Option<Vec<u8>>>,
    /// The way that its lines have come.
    pub(crate) way: Option<Way>,
    last_at: u64,
}

impl Recorded {
    /// The lines of a way in, in the order of the stream.
    pub(crate) fn lines(&self, way: Way) -> impl Iterator<Item = &[u8]> {
        self.order.get(&way).into_iter().flatten().filter_map(|(producer, number)| {
            self.producers.get(producer)?.records.get(*number)?.as_deref()
        })
    }
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
    let removed = match mutation {
        Some(Mutation::Stream) => Some(middle_block(evidence)?),
        Some(Mutation::StreamLines) => Some(middle_block_of_lines(evidence)?),
        _ => None,
    };
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

/// A record of an app.
fn line(record: model::Record, recorded: &mut Recorded, verdict: &mut Verdict) {
    let id = record.origin.producer.uuid();
    let producer = recorded.producers.entry(id).or_default();
    let expected = producer.records.len() as u64;
    if record.seq != expected {
        verdict.lost += record.seq.saturating_sub(expected);
        let sentence =
            format!("producer {id}: where record {expected} should be is {}", record.seq);
        verdict.findings.add("stream", sentence);
        // So that what follows is compared where it belongs.
        let missing = usize::try_from(record.seq).unwrap_or_default();
        producer.records.resize(missing.max(producer.records.len()), None);
    }
    if record.at.nanos() < producer.last_at {
        let sentence = format!("producer {id}: time runs back at record {}", record.seq);
        verdict.findings.add("stream", sentence);
    }
    producer.last_at = record.at.nanos();
    let text = match record.event {
        Event::Line(line) => Some(line.text.to_vec()),
        Event::Container(_) => None,
        event => {
            let name = event.name();
            let sentence = format!("producer {id}: record {} is a {name}", record.seq);
            verdict.findings.add("stream", sentence);
            None
        }
    };
    if let Some(text) = &text {
        // What a connection that was cut leaves of its last line may not say which way it came.
        let way = Way::of(text).or(producer.way);
        producer.way = producer.way.or(way);
        if let Some(way) = way {
            recorded.order.entry(way).or_default().push((id, producer.records.len()));
        } else {
            let text = String::from_utf8_lossy(text);
            let sentence = format!("producer {id}: record {} is no sender's: {text}", record.seq);
            verdict.findings.add("stream", sentence);
        }
    }
    producer.records.push(text);
}

fn take(record: model::Record, recorded: &mut Recorded, verdict: &mut Verdict) {
    if record.origin.source == Source::App {
        return line(record, recorded, verdict);
    }
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

/// A block from the middle with lines that were acknowledged.
fn middle_block_of_lines(evidence: &Evidence) -> Result<usize> {
    let is_wanted = Mutation::StreamLines.block();
    let mut found = Vec::new();
    for (number, block) in evidence.blocks()?.enumerate() {
        if is_wanted
            .is_some_and(|is_wanted| block.as_ref().is_ok_and(|(_, block)| is_wanted(block)))
        {
            found.push(number);
        }
    }
    found.get(found.len() / 2).copied().ok_or_else(|| anyhow::anyhow!("no lines"))
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
