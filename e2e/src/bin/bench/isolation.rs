//! A thousand drains, of which three hundred have endpoints that do not work: what the others' lines wait for,
//! beside the same without those; and what memory the worker takes.
//!
//! A line's delay is from the call that appends it to its arrival at a receiver of syslog over TLS. What the
//! edge adds before is in the key echo.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::tls_sink::{Ending, Plan, TlsSink, take_message};
use e2e::wait;
use log_stream::LogStream as _;
use rustix::net::{AddressFamily, SocketType};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::cpu::resident_bytes;
use crate::drain::ours::{World, lines};
use crate::records::Session;
use crate::report::{Table, Target, percentile};
use crate::tls_receiver::{Connection, TlsReceiver};
use crate::{Options, progress};

const PATIENCE: Duration = Duration::from_mins(2);
/// Between two lines, each of the next environment.
const PERIOD: Duration = Duration::from_millis(20);
/// In every environment.
const GOOD: usize = 7;
/// What 64 MiB and 256 KiB for each drain are, of a thousand drains.
pub(crate) const MEMORY_MIB: f64 = 314.0;

struct Sizes {
    environments: usize,
    /// Lines that show what does not work.
    before: usize,
    lines: usize,
}

/// Runs all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    let sizes = if options.quick {
        Sizes { environments: 5, before: 50, lines: 100 }
    } else {
        Sizes { environments: 100, before: 500, lines: 1000 }
    };
    let columns = ["700 drains beside 300 that do not work", "700 drains alone", "one drain"];
    let mut table = Table::new("Isolation", &columns);
    let flat = [Target::RatioAtMost(1, 1.2)];
    let median = table.row("from the append to the receiver, p50", "ms", &[]);
    let tail = table.row("from the append to the receiver, p99", "ms", &flat);
    let memory = table.row("memory of the worker", "MiB", &[Target::AtMost(MEMORY_MIB)]);
    let mut world = World::start().await?;
    for round in 0..options.rounds {
        progress(&format!("isolation: round {} of {}", round + 1, options.rounds));
        let one = Sizes { environments: 1, ..sizes };
        for (column, sizes, good, is_beside_bad) in
            [(2, &one, 1, false), (1, &sizes, GOOD, false), (0, &sizes, GOOD, true)]
        {
            let (delays, bytes) = run(&mut world, sizes, good, is_beside_bad).await?;
            for (row, share) in [(median, 0.5), (tail, 0.99)] {
                table.add(row, column, percentile(&delays, share).context("nothing came")?);
            }
            table.add(memory, column, bytes as f64 / f64::from(1 << 20));
        }
    }
    Ok(table)
}

async fn run(
    world: &mut World,
    sizes: &Sizes,
    good: usize,
    is_beside_bad: bool,
) -> Result<(Vec<f64>, u64)> {
    let receiver = Receiver::start().await?;
    let bad = if is_beside_bad { Some(Bad::start().await?) } else { None };
    let mut sessions = Vec::with_capacity(sizes.environments);
    for _ in 0..sizes.environments {
        let environment = world.environment().await?;
        for _ in 0..good {
            let destination = json!({
                "host": "localhost", "port": receiver.inner.port,
                "ca_certificates": receiver.inner.authority,
            });
            world.drain_to(environment, "syslog_tls_tcp", destination).await?;
        }
        for (kind, destination) in bad.iter().flat_map(Bad::destinations) {
            world.drain_to(environment, kind, destination).await?;
        }
        sessions.push(Session::new(environment)?);
    }
    let mut worker = world.worker()?;
    let mut next = 0;
    // The first line of each environment, then those that are not measured, then the others.
    for (count, is_measured) in
        [(sizes.environments, false), (sizes.before, false), (sizes.lines, true)]
    {
        if is_measured {
            receiver.forget();
        }
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in next..next + count {
            ticks.tick().await;
            let session = sessions.get_mut(number % sizes.environments).context("a session")?;
            let block = lines(session, number..number + 1)?;
            receiver.sent(number);
            world.stream.append(block).await?;
        }
        next += count;
        let all = count * good;
        wait::until_true("every line", PATIENCE, async || Ok(receiver.count() >= all)).await?;
        ensure!(receiver.count() == all, "{} of {all} lines came", receiver.count());
        if !is_measured {
            receiver.forget();
        }
    }
    let bytes = resident_bytes(worker.pid()?.as_raw_pid())?;
    World::stop(&mut worker).await?;
    world.remove_drains().await?;
    Ok((receiver.delays(), bytes))
}

/// Tells how long lines took.
struct Receiver {
    inner: TlsReceiver,
    times: Arc<Mutex<Times>>,
}

#[derive(Default)]
struct Times {
    sent: Vec<Option<Instant>>,
    /// In milliseconds.
    delays: Vec<f64>,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let times = Arc::new(Mutex::new(Times::default()));
        let noted = Arc::clone(&times);
        let inner =
            TlsReceiver::start(move |connection| receive(connection, Arc::clone(&noted))).await?;
        Ok(Self { inner, times })
    }

    /// The line with this number is about to be appended.
    fn sent(&self, number: usize) {
        let mut times = lock(&self.times);
        if times.sent.len() <= number {
            times.sent.resize(number + 1, None);
        }
        if let Some(sent) = times.sent.get_mut(number) {
            *sent = Some(Instant::now());
        }
    }

    fn count(&self) -> usize {
        lock(&self.times).delays.len()
    }

    fn forget(&self) {
        lock(&self.times).delays.clear();
    }

    fn delays(&self) -> Vec<f64> {
        lock(&self.times).delays.clone()
    }
}

fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(mut stream: Connection, times: Arc<Mutex<Times>>) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(message) = take_message(&mut buffer)? {
            let digits = message.last_chunk::<7>().context("a number")?;
            let number: usize = str::from_utf8(digits)?.parse()?;
            let mut times = lock(&times);
            let sent = times.sent.get(number).copied().flatten().context("it was not sent")?;
            times.delays.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Endpoints that do not work.
pub(crate) struct Bad {
    black_hole: BlackHole,
    stalled: TlsSink,
    unavailable: HttpsReceiver,
}

impl Bad {
    pub(crate) async fn start() -> Result<Self> {
        let stalled = TlsSink::start().await?;
        stalled.plan(&vec![Plan { messages: 0, ending: Ending::Stall }; 100_000]);
        let unavailable = HttpsReceiver::start().await?;
        unavailable.answer_by(|_| Answer::status(503));
        Ok(Self { black_hole: BlackHole::start().await?, stalled, unavailable })
    }

    /// One of each.
    pub(crate) fn destinations(&self) -> [(&'static str, serde_json::Value); 3] {
        let Self { black_hole, stalled, unavailable } = self;
        [
            ("syslog_tls_tcp", json!({ "host": "localhost", "port": black_hole.address.port() })),
            (
                "syslog_tls_tcp",
                json!({
                    "host": "localhost", "port": stalled.address().port(),
                    "ca_certificates": stalled.authority(),
                }),
            ),
            (
                "https_post",
                json!({ "url": unavailable.url(), "ca_certificates": unavailable.authority() }),
            ),
        ]
    }
}

/// A port of 127.0.0.1 that answers no attempt to connect: its queue of connections is full.
struct BlackHole {
    address: SocketAddr,
    _listener: std::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    async fn start() -> Result<Self> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
        rustix::net::listen(&socket, 0)?;
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        #[allow(clippy::disallowed_methods, reason = "it is a peer on this machine")]
        let connect = || timeout(Duration::from_millis(300), TcpStream::connect(address));
        while let Ok(connection) = connect().await {
            queued.push(connection?);
            ensure!(queued.len() < 10, "the queue of connections does not fill");
        }
        Ok(Self { address, _listener: listener, _queued: queued })
    }
}
