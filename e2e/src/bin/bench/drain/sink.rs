//! A receiver that only decrypts and counts, fast enough to be nobody's bottleneck, and that ends its
//! connections in chosen ways.
//!
//! Each message ends with its number in seven digits. What was read before a connection's end
//! counts; what was in flight then does not, as with a server that dies.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::certificates::ServerCertificate;
use e2e::tls_sink::{Ending, Plan};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::records::CountedRecords;

/// Digits of a message's number.
const DIGITS: usize = 7;
/// How long a connection that was ended is still read from, so that its end is no reset.
const LINGER: Duration = Duration::from_millis(500);
/// Unpacked.
const LARGEST_BODY: usize = 64 << 20;

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Syslog with octet counting (RFC 5425).
    Syslog,
    /// HTTP/1.1 with a JSON object a line, in gzip or not; numbers are not looked at.
    Https,
}

/// What has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Messages, repeated ones included.
    pub(crate) messages: u64,
    /// Their bytes, without framing.
    pub(crate) bytes: u64,
    /// Bytes of HTTP bodies, as they were sent.
    pub(crate) body_bytes: u64,
    /// TLS records that they came in; of HTTP, they are not counted.
    pub(crate) records: u64,
    /// Messages whose number had come before.
    pub(crate) repeated: u64,
    /// Their bytes.
    pub(crate) repeated_bytes: u64,
    /// Whether the message with this number has come.
    seen: Vec<bool>,
    /// When the first and the last came.
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

impl Tally {
    /// Different messages.
    pub(crate) const fn distinct(&self) -> u64 {
        self.messages - self.repeated
    }

    /// Takes lines that came in so many bytes of a body.
    fn take_lines(&mut self, lines: &[u8], body_bytes: usize) {
        self.messages += lines.iter().map(|&byte| u64::from(byte == b'\n')).sum::<u64>();
        self.bytes += lines.len() as u64;
        self.body_bytes += body_bytes as u64;
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn take(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
        let digits = message.last_chunk::<DIGITS>().map_or(&[][..], |digits| digits);
        let number = digits
            .iter()
            .fold(0, |number, &digit| number * 10 + usize::from(digit.wrapping_sub(b'0').min(9)));
        if self.seen.len() <= number {
            self.seen.resize(number + 1, false);
        }
        if let Some(seen) = self.seen.get_mut(number)
            && std::mem::replace(seen, true)
        {
            self.repeated += 1;
            self.repeated_bytes += message.len() as u64;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    tally: Mutex<Tally>,
    plans: Mutex<VecDeque<Plan>>,
    stopped: AtomicBool,
}

/// The receiver; it takes no more connections when dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    certificate: ServerCertificate,
    state: Arc<State>,
}

impl Sink {
    /// Starts on a free port of 127.0.0.1; treats the first connections as planned.
    pub(crate) fn start(protocol: Protocol, plans: &[Plan]) -> Result<Self> {
        let certificate = ServerCertificate::for_localhost()?;
        let config = certificate.server_config()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        lock(&state.plans).extend(plans);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (config, state) = (Arc::clone(&config), Arc::clone(&shared));
                // The peer may end it at any time.
                std::thread::spawn(move || drop(serve(socket, config, protocol, &state)));
            }
        });
        Ok(Self { address, certificate, state })
    }

    /// The port of 127.0.0.1 on which it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its certificate, and its authority's.
    pub(crate) const fn certificate(&self) -> &ServerCertificate {
        &self.certificate
    }

    /// What has come so far.
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.state.tally).clone()
    }

    /// How many different messages have come so far.
    pub(crate) fn distinct(&self) -> u64 {
        lock(&self.state.tally).distinct()
    }

    /// When the last message came.
    pub(crate) fn last(&self) -> Option<Instant> {
        lock(&self.state.tally).last
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        #[allow(clippy::disallowed_methods, reason = "it wakes the accepting thread")]
        drop(TcpStream::connect(self.address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Tls = StreamOwned<ServerConnection, CountedRecords>;

fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    protocol: Protocol,
    state: &State,
) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, CountedRecords::new(socket));
    // Something that only connects, to see whether it can, gets no plan.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let mut buffer = Buffer::new();
    match protocol {
        Protocol::Syslog => syslog(stream, &mut buffer, state),
        Protocol::Https => https(stream, &mut buffer, state),
    }
}

/// Bytes that have come and were not taken yet.
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; 4 << 20], from: 0, to: 0 }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// Reads more behind the rest; false at the end.
    fn fill(&mut self, stream: &mut Tls) -> Result<bool> {
        self.bytes.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let room = self.bytes.get_mut(self.to..).filter(|room| !room.is_empty());
        match stream.read(room.context("a message is larger than the buffer")?) {
            Ok(count) => {
                self.to += count;
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn syslog(mut stream: Tls, buffer: &mut Buffer, state: &State) -> Result<()> {
    let plan = lock(&state.plans).pop_front();
    let mut left = plan.map_or(usize::MAX, |plan| plan.messages);
    loop {
        let mut tally = lock(&state.tally);
        tally.records += std::mem::take(&mut stream.sock.records.count);
        let before = tally.messages;
        while left > 0
            && let Some((start, end)) = frame(buffer.rest())
        {
            tally.take(buffer.rest().get(start..end).unwrap_or_default());
            buffer.from += end;
            left -= 1;
        }
        if tally.messages > before {
            let now = Instant::now();
            tally.first.get_or_insert(now);
            tally.last = Some(now);
        }
        drop(tally);
        if let Some(plan) = plan.filter(|_| left == 0) {
            return end(stream, plan.ending);
        }
        if !buffer.fill(&mut stream)? {
            return Ok(());
        }
    }
}

/// Where the first message is (RFC 5425, section 4.3), once it is complete.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let space = bytes.iter().take(8).position(|&byte| byte == b' ')?;
    let length: usize = str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let end = space + 1 + length;
    (end <= bytes.len()).then_some((space + 1, end))
}

fn https(mut stream: Tls, buffer: &mut Buffer, state: &State) -> Result<()> {
    loop {
        let head = loop {
            if let Some(at) = buffer.rest().windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if !buffer.fill(&mut stream)? {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(buffer.rest().get(..head).unwrap_or_default());
        let field = |wanted: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let mut length: usize = field("content-length").context("a body has a length")?.parse()?;
        let is_packed = field("content-encoding").is_some_and(|coding| coding == "gzip");
        let mut packed = Vec::new();
        buffer.from += head + 4;
        while length > 0 {
            let piece = buffer.rest();
            let piece = piece.get(..length.min(piece.len())).unwrap_or_default();
            let count = piece.len();
            if is_packed {
                packed.extend_from_slice(piece);
            } else {
                lock(&state.tally).take_lines(piece, count);
            }
            buffer.from += count;
            length -= count;
            if length > 0 && !buffer.fill(&mut stream)? {
                return Ok(());
            }
        }
        if is_packed {
            lock(&state.tally).take_lines(&unpack(&packed)?, packed.len());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        stream.flush()?;
    }
}

/// A gzip file of one member (RFC 1952), which ends with the length of what is in it.
fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let length = packed.last_chunk().copied().map(u32::from_le_bytes).context("a length")?;
    let mut bytes = vec![0; usize::try_from(length)?.min(LARGEST_BODY)];
    let count = libdeflater::Decompressor::new().gzip_decompress(packed, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn end(mut stream: Tls, ending: Ending) -> Result<()> {
    match ending {
        Ending::CloseNotify => {
            stream.conn.send_close_notify();
            stream.flush()?;
            stream.sock.socket.shutdown(Shutdown::Write)?;
        }
        Ending::Fin => stream.sock.socket.shutdown(Shutdown::Write)?,
        Ending::Reset => {
            // Closing then resets the connection.
            let now = Some(Duration::ZERO);
            return Ok(rustix::net::sockopt::set_socket_linger(&stream.sock.socket, now)?);
        }
        Ending::Stall => {
            std::thread::sleep(Duration::from_hours(1));
            return Ok(());
        }
    }
    // Unread bytes would turn the end into a reset, so they are read and forgotten.
    let until = Instant::now() + LINGER;
    let mut forgotten = [0; 8192];
    stream.sock.socket.set_read_timeout(Some(LINGER))?;
    while Instant::now() < until && matches!(stream.sock.read(&mut forgotten), Ok(1..)) {}
    Ok(())
}
