//! The evidence of a run, in files: what was shown, what is in the stream, what arrived. The check
//! reads nothing else, so it can be made again, and be tried with something missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use log_stream::{Block, Position};
use model::OutputStream;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::program::Program;

pub(crate) use sent::{Connection, End, HttpSent, Sent};

mod sent;

/// The folder that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Evidence(PathBuf);

/// What a run knows of itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) seed: u64,
    pub(crate) attack_seconds: f64,
    pub(crate) clients: Vec<Client>,
    pub(crate) sent: Sent,
    /// Sentences with which sessions were refused, and how often.
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) drains: Vec<Drain>,
    pub(crate) memory: Vec<Memory>,
    /// Containers that are there a minute after the last session.
    pub(crate) containers_left: Vec<String>,
}

/// One run of OpenSSH's client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Client {
    /// In its command, by which its session is found in the stream.
    pub(crate) token: String,
    pub(crate) program: Program,
    pub(crate) edge: usize,
    /// Seconds after the start of the attack.
    pub(crate) began: f64,
    pub(crate) ended: f64,
    /// None if it was killed.
    pub(crate) status: Option<i32>,
    /// The longest time without output, in seconds, and when it began.
    pub(crate) longest_pause: f64,
    pub(crate) pause_began: f64,
}

/// A fault that was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    pub(crate) detail: String,
    /// Which process it hit, where there are several of its kind.
    pub(crate) member: Option<String>,
    /// Seconds after the start of the attack.
    pub(crate) began: f64,
    pub(crate) healed: f64,
    /// Seconds from healing until what it had hit worked again; none if that was not seen.
    pub(crate) recovered_after: Option<f64>,
    /// Why it could not be done on this machine.
    pub(crate) not_run: Option<String>,
    /// What went wrong with doing or healing it.
    pub(crate) failure: Option<String>,
}

/// What a receiver knows of its drain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Drain {
    pub(crate) handle: String,
    /// Connections, or requests without a proper answer, that the receiver has ended.
    pub(crate) ended_by_receiver: u64,
    pub(crate) connections: u64,
    /// Lines that it answered 400 to when they came alone.
    pub(crate) refused: Vec<String>,
    /// Lines that the platform has counted and kept as rejected.
    pub(crate) rejected: Vec<String>,
}

/// A process's peak.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) process: String,
    pub(crate) peak_kib: u64,
    pub(crate) bound_kib: u64,
}

/// Bytes of a session's output that a line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) stream: OutputStream,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A line at a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// On which connection, or in which request, it came.
    pub(crate) batch: u32,
    pub(crate) id: String,
    /// Whose: a session, or who numbers the lines of an app.
    pub(crate) producer: Uuid,
    pub(crate) seq: u64,
    pub(crate) span: Option<Span>,
    /// As long as it was on the wire, but for compression.
    pub(crate) sent_bytes: u32,
    pub(crate) message: Vec<u8>,
}

impl Arrival {
    /// The producer that an id begins with.
    pub(crate) fn producer_of(id: &str) -> Option<Uuid> {
        id.split(':').next()?.parse().ok()
    }
}

impl Evidence {
    /// In this folder, which is made.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        for part in ["shown", "arrived"] {
            std::fs::create_dir_all(folder.join(part))
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self(folder.to_owned()))
    }

    /// What an earlier run has left.
    pub(crate) fn open(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub(crate) fn shown(&self, token: &str, stream: OutputStream) -> PathBuf {
        self.0.join("shown").join(format!("{token}.{}", stream.as_str()))
    }

    /// What OpenSSH's client said of itself.
    pub(crate) fn client_log(&self, token: &str) -> PathBuf {
        self.0.join("shown").join(format!("{token}.log"))
    }

    /// What Docker has kept of the container's output.
    pub(crate) fn printed(&self) -> PathBuf {
        self.0.join("printed")
    }

    pub(crate) fn arrived(&self, drain: &str) -> PathBuf {
        self.0.join("arrived").join(drain)
    }

    pub(crate) fn write_facts(&self, facts: &Facts) -> Result<()> {
        Ok(std::fs::write(self.0.join("facts.json"), serde_json::to_vec_pretty(facts)?)?)
    }

    pub(crate) fn facts(&self) -> Result<Facts> {
        let path = self.0.join("facts.json");
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Where the stream's blocks go.
    pub(crate) fn block_writer(&self) -> Result<BufWriter<File>> {
        Ok(BufWriter::new(File::create(self.0.join("stream"))?))
    }

    /// The stream's blocks, in order.
    pub(crate) fn blocks(&self) -> Result<impl Iterator<Item = Result<(Position, Block)>>> {
        let mut file = BufReader::new(File::open(self.0.join("stream"))?);
        Ok(std::iter::from_fn(move || read_block(&mut file).transpose()))
    }

    /// The lines that a receiver got, in order.
    pub(crate) fn arrivals(&self, drain: &str) -> Result<impl Iterator<Item = Result<Arrival>>> {
        let mut file = BufReader::new(File::open(self.arrived(drain))?);
        Ok(std::iter::from_fn(move || read_arrival(&mut file).transpose()))
    }
}

pub(crate) fn write_block(out: &mut impl Write, at: Position, block: &Block) -> io::Result<()> {
    out.write_all(&at.xid.to_le_bytes())?;
    out.write_all(&at.seq.to_le_bytes())?;
    out.write_all(block.id().as_bytes())?;
    write_bytes(out, block.header_bytes())?;
    write_bytes(out, block.payload_bytes())
}

fn read_block(file: &mut impl Read) -> Result<Option<(Position, Block)>> {
    let Some(xid) = read_first(file)? else { return Ok(None) };
    let position = Position { xid, seq: read_u64(file)? };
    let mut id = [0; 16];
    file.read_exact(&mut id)?;
    let (header, payload) = (read_bytes(file)?, read_bytes(file)?);
    Ok(Some((position, Block::from_parts(Uuid::from_bytes(id), header, payload)?)))
}

pub(crate) fn write_arrival(out: &mut impl Write, arrival: &Arrival) -> io::Result<()> {
    out.write_all(&arrival.seq.to_le_bytes())?;
    out.write_all(arrival.producer.as_bytes())?;
    let (stream, offset, length) = arrival.span.map_or((0, 0, 0), |span| {
        (if span.stream == OutputStream::Stdout { 1 } else { 2 }, span.offset, span.length)
    });
    for number in [stream, offset, length, arrival.batch.into(), arrival.sent_bytes.into()] {
        out.write_all(&number.to_le_bytes())?;
    }
    write_bytes(out, arrival.id.as_bytes())?;
    write_bytes(out, &arrival.message)
}

fn read_arrival(file: &mut impl Read) -> Result<Option<Arrival>> {
    let Some(seq) = read_first(file)? else { return Ok(None) };
    let mut producer = [0; 16];
    file.read_exact(&mut producer)?;
    let mut numbers = [0; 5];
    for number in &mut numbers {
        *number = read_u64(file)?;
    }
    let [stream, offset, length, batch, sent_bytes] = numbers;
    let stream = match stream {
        1 => Some(OutputStream::Stdout),
        2 => Some(OutputStream::Stderr),
        _ => None,
    };
    Ok(Some(Arrival {
        batch: batch.try_into()?,
        id: String::from_utf8(read_bytes(file)?)?,
        producer: Uuid::from_bytes(producer),
        seq,
        span: stream.map(|stream| Span { stream, offset, length }),
        sent_bytes: sent_bytes.try_into()?,
        message: read_bytes(file)?,
    }))
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn read_bytes(file: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = vec![0; read_u64(file)?.try_into()?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_u64(file: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The number that an entry begins with; none at the file's end.
fn read_first(file: &mut impl Read) -> io::Result<Option<u64>> {
    match read_u64(file) {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
