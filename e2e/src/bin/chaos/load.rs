//! Engineers at work: sessions through OpenSSH's client, one after the other on each seat.
//!
//! What a client printed is kept whole, also of clients that were cut off: that is what was shown.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::OutputStream;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::evidence::{Client, Evidence};
use crate::program::{Program, typed_line};
use crate::senders::Senders;
use crate::world::{PAIRS, World};

/// A client that is older is cut off: nothing of the load takes so long.
const LONGEST: Duration = Duration::from_mins(4);
const BETWEEN: Duration = Duration::from_millis(200);
/// A line of [`Program::Bulk`].
const BULK_LINE_BYTES: u32 = 140;

/// Everybody at work.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) world: Arc<World>,
    pub(crate) senders: Senders,
    evidence: Evidence,
    seed: u64,
    bulk_bytes: u32,
    began: Instant,
    counter: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clients: Vec<Client>,
    refusals: BTreeMap<String, u64>,
    running: BTreeMap<String, u32>,
    shown: u64,
}

impl Load {
    pub(crate) fn new(world: Arc<World>, evidence: Evidence, seed: u64, bulk_bytes: u32) -> Self {
        let (counter, state) = (AtomicU64::new(0), Mutex::default());
        let (senders, began) = (Senders::default(), Instant::now());
        Self { world, senders, evidence, seed, bulk_bytes, began, counter, state }
    }

    /// Decides what is random.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Seconds since the start.
    pub(crate) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Opens one session after the other until told to stop; the last one may end.
    pub(crate) async fn sit(self: Arc<Self>, seat: u64, stop: watch::Receiver<bool>) -> Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed ^ (seat + 1).rotate_left(32));
        while !*stop.borrow() {
            let program = self.program(seat, &mut random);
            let edge = random.random_range(0..PAIRS);
            let opened = self.session(program, edge).await?;
            if !opened {
                sleep(BETWEEN * 4).await;
            }
            sleep(BETWEEN).await;
        }
        Ok(())
    }

    fn program(&self, seat: u64, random: &mut StdRng) -> Program {
        let bulk = self.bulk_bytes / BULK_LINE_BYTES;
        match seat % 4 {
            0 => Program::Slow { lines: random.random_range(40..300) },
            1 => Program::Interactive { lines: random.random_range(3..25) },
            2 => Program::Bulk { lines: random.random_range(bulk / 8..=bulk) },
            _ => Program::Binary { lines: random.random_range(bulk / 8..=bulk) },
        }
    }

    /// Runs one session to its end; tells whether it showed anything.
    pub(crate) async fn session(&self, program: Program, edge: usize) -> Result<bool> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let token = format!("s{}n{number}x", self.seed);
        let interactive = matches!(program, Program::Interactive { .. });
        let log = self.evidence.client_log(&token);
        let log = log.to_str().context("the evidence's path is text")?;
        let options = ["-E", log, if interactive { "-tt" } else { "-T" }];
        let mut ssh = self.world.ssh(edge)?.ssh("web.production", &options);
        ssh.arg(program.command(&token));
        let mut child = ssh
            .stdin(if interactive { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start ssh")?;
        let began = self.now();
        if let Some(pid) = child.id() {
            self.lock().running.insert(token.clone(), pid);
        }
        let screen = Screen::default();
        let streams = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let (Some(stdout), Some(stderr), stdin) = streams else {
            anyhow::bail!("ssh has no pipes");
        };
        let typing = async {
            if let (Some(stdin), Program::Interactive { lines }) = (stdin, program) {
                type_lines(stdin, lines, &screen).await
            } else {
                std::future::pending().await
            }
        };
        let show = async {
            // Losing the typing is losing nothing: the client has ended.
            tokio::select! {
                shown = async {
                    tokio::try_join!(
                        self.show(&token, OutputStream::Stdout, stdout, &screen),
                        self.show(&token, OutputStream::Stderr, stderr, &screen),
                    )
                } => shown.map(drop),
                never = typing => match never {}
            }
        };
        let outcome = timeout(LONGEST, async {
            show.await?;
            anyhow::Ok(child.wait().await?)
        })
        .await;
        let status = if let Ok(status) = outcome {
            status?.code()
        } else {
            child.kill().await?;
            None
        };
        let stderr = std::fs::read_to_string(self.evidence.shown(&token, OutputStream::Stderr));
        let (longest_pause, pause_began) = screen.longest_pause(began);
        let mut state = self.lock();
        state.running.remove(&token);
        let opened = screen.count(OutputStream::Stdout) > 0;
        if !opened && status != Some(0) {
            let said = stderr.unwrap_or_default();
            let sentence = said.trim().lines().next().unwrap_or("no connection").to_owned();
            *state.refusals.entry(sentence).or_default() += 1;
        }
        let ended = self.now();
        let client =
            Client { token, program, edge, began, ended, status, longest_pause, pause_began };
        state.clients.push(client);
        Ok(opened)
    }

    /// Keeps what the client prints.
    async fn show(
        &self,
        token: &str,
        stream: OutputStream,
        mut from: impl AsyncRead + Unpin,
        screen: &Screen,
    ) -> Result<()> {
        let mut file = File::create(self.evidence.shown(token, stream))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(buffer.get(..count).unwrap_or_default())?;
            self.lock().shown += count as u64;
            screen.note(stream, count as u64, self.now());
        }
    }

    /// Kills one of the running clients, by a number that chooses.
    pub(crate) fn kill_a_client(&self, choice: u32) -> Option<String> {
        let state = self.lock();
        let running: Vec<_> = state.running.iter().collect();
        let (token, pid) = running.get(choice as usize % running.len().max(1))?;
        let pid = Pid::from_raw(i32::try_from(**pid).ok()?)?;
        kill_process(pid, Signal::KILL).ok().map(|()| (*token).clone())
    }

    /// Bytes shown so far.
    pub(crate) fn shown(&self) -> u64 {
        self.lock().shown
    }

    /// Everything that the clients were.
    pub(crate) fn take(&self) -> (Vec<Client>, BTreeMap<String, u64>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.clients), std::mem::take(&mut state.refusals))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts everybody; the tasks end some time after the stop.
    pub(crate) fn start(
        self: &Arc<Self>,
        seats: u64,
        stop: &watch::Receiver<bool>,
    ) -> JoinSet<Result<()>> {
        (0..seats).map(|seat| Arc::clone(self).sit(seat, stop.clone())).collect()
    }
}

/// What one client has shown, and when.
#[derive(Debug, Default)]
struct Screen {
    state: Mutex<Shown>,
    changed: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Shown {
    stdout: u64,
    stderr: u64,
    last: Option<f64>,
    longest: (f64, f64),
}

impl Screen {
    fn note(&self, stream: OutputStream, count: u64, at: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match stream {
            OutputStream::Stdout => state.stdout += count,
            OutputStream::Stderr => state.stderr += count,
        }
        if let Some(last) = state.last.replace(at)
            && at - last > state.longest.0
        {
            state.longest = (at - last, last);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn count(&self, stream: OutputStream) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stream == OutputStream::Stdout { state.stdout } else { state.stderr }
    }

    /// Between two pieces of output; its length and its beginning.
    fn longest_pause(&self, began: f64) -> (f64, f64) {
        let longest = self.state.lock().unwrap_or_else(PoisonError::into_inner).longest;
        if longest.0 > 0.0 { longest } else { (0.0, began) }
    }
}

/// Types line by line and key by key, each key after the echo of the one before it; then waits to
/// be dropped with the session.
async fn type_lines(mut keyboard: ChildStdin, lines: u32, screen: &Screen) -> Infallible {
    // A client that has ended takes no more keys.
    drop(keys(&mut keyboard, lines, screen).await);
    // Closing the pipe would say no more than that; the client reads on until its session ends.
    std::future::pending().await
}

async fn keys(keyboard: &mut ChildStdin, lines: u32, screen: &Screen) -> io::Result<()> {
    let mut expected = 0;
    for number in 0..lines {
        let line = typed_line(number);
        for key in line.bytes().chain([b'\r']) {
            keyboard.write_all(&[key]).await?;
            keyboard.flush().await?;
            // The line end is echoed as two bytes, and then the program repeats the line.
            expected += if key == b'\r' { 2 + line.len() as u64 + 2 } else { 1 };
            while screen.count(OutputStream::Stdout) < expected {
                // Until the client ends, which drops this.
                screen.changed.notified().await;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    // The end of the input, as a terminal knows it: the program ends.
    keyboard.write_all(&[4]).await?;
    keyboard.flush().await
}
