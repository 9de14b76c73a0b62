//! Moves bytes between the edge and the program until one of them is gone.
//!
//! One loop, nothing in it waits but the poll. Invariants: the edge's frames are read whatever the
//! outputs do, so resizes and signals get through; outputs are read only when the last frame is on
//! its way, so a slow edge slows the program and takes no memory; all output goes before the exit
//! status.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use guest_protocol::{FromEdge, FromGuest, Output};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::edge::{Edge, FAREWELL, Lost};
use crate::exit::Reaper;
use crate::input::Input;
use crate::program::{Program, Running};
use crate::signals;
use crate::source::Source;

/// From SIGHUP to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// After SIGKILL a program in an uninterruptible call is left to the kernel.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// What is to be done at the deadline.
#[derive(Debug, Clone, Copy)]
enum Then {
    Kill,
    Leave,
}

/// What the poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Termination,
    Edge,
    Ended,
    InputTakes,
    InputClosed,
    Source(Output),
}

struct Session {
    /// `None` once it is lost.
    edge: Option<Edge>,
    program: Program,
    input: Input,
    /// Who comes next is in front.
    sources: VecDeque<Source>,
    /// `None` once the program has ended.
    reaper: Option<Reaper>,
    /// How the program ended, until the edge is told.
    exit: Option<FromGuest>,
    /// Readable once this process is told to end; `None` when it was.
    termination: Option<PipeReader>,
    deadline: Option<(Instant, Then)>,
}

/// Runs until the program has ended and the edge knows, or the edge is gone and the program with it.
pub(crate) fn run(edge: Edge, running: Running, termination: PipeReader) -> Result<(), Lost> {
    let Running { program, reaper, input, stdout, stderr } = running;
    let stdout = Source::new(Output::Stdout, stdout);
    let stderr = stderr.map(|end| Source::new(Output::Stderr, end));
    let mut session = Session {
        edge: Some(edge),
        program,
        input: Input::new(input),
        sources: std::iter::once(stdout).chain(stderr).collect(),
        reaper: Some(reaper),
        exit: None,
        termination: Some(termination),
        deadline: None,
    };
    let mut lost = session.begin().err();
    loop {
        if lost.is_some() {
            session.edge = None;
            session.hang_up();
            if session.reaper.is_none() {
                break;
            }
        }
        match session.turn() {
            Ok(true) => {}
            Ok(false) => break,
            // Not even polling works.
            Err(_) if lost.is_some() => break,
            Err(error) => lost = Some(error),
        }
    }
    // The edge closes first when it knows how the program ended.
    lost.filter(|_| session.exit.is_some() || session.reaper.is_some()).map_or(Ok(()), Err)
}

fn farewell() -> (Instant, Then) {
    (Instant::now() + FAREWELL, Then::Leave)
}

impl Session {
    /// Says that the program runs, and takes what came together with `Start`.
    fn begin(&mut self) -> Result<(), Lost> {
        if let Some(edge) = &mut self.edge {
            edge.put(&FromGuest::Started)?;
        }
        self.obey()?;
        self.speak(&[])
    }

    /// Waits for something to do and does it; `false` when there is nothing left to do.
    fn turn(&mut self) -> Result<bool, Lost> {
        let ready = self.wait()?;
        for what in &ready {
            match what {
                Ready::Termination => {
                    // Not the program's own end, so the edge is told none.
                    self.termination = None;
                    return Err(Lost::Stopped);
                }
                Ready::Edge => {
                    if let Some(edge) = &mut self.edge {
                        edge.receive()?;
                    }
                    self.obey()?;
                }
                Ready::Ended => {
                    self.exit = self.reaper.take().map(Reaper::status);
                    // After a hang-up there is nothing left to kill, and nothing to wait for long.
                    self.deadline = self.deadline.map(|_| farewell());
                }
                Ready::InputClosed => self.input.closed(),
                Ready::InputTakes | Ready::Source(_) => {}
            }
        }
        self.input.write();
        self.speak(&ready)?;
        match self.deadline {
            Some((at, Then::Kill)) if at <= Instant::now() => {
                self.program.signal_group(Signal::KILL);
                self.deadline = Some((at + AFTER_KILL, Then::Leave));
            }
            Some((at, Then::Leave)) if at <= Instant::now() => return Ok(false),
            _ => {}
        }
        Ok(true)
    }

    fn wait(&self) -> Result<Vec<Ready>, Lost> {
        let (mut whom, mut polled) = (Vec::with_capacity(6), Vec::with_capacity(6));
        let mut add = |ready, end, events| {
            whom.push(ready);
            polled.push(PollFd::from_borrowed_fd(end, events));
        };
        let idle = self.edge.as_ref().is_some_and(Edge::is_idle);
        if let Some(termination) = &self.termination {
            add(Ready::Termination, termination.as_fd(), PollFlags::IN);
        }
        if let Some(edge) = &self.edge {
            let out = if idle { PollFlags::empty() } else { PollFlags::OUT };
            add(Ready::Edge, edge.as_fd(), PollFlags::IN | out);
        }
        if let Some(reaper) = &self.reaper {
            add(Ready::Ended, reaper.ended.as_fd(), PollFlags::IN);
        }
        if let Some((sink, waiting)) = self.input.sink() {
            // Without an event asked for, the end of the program's side is still told.
            let out = if waiting { PollFlags::OUT } else { PollFlags::empty() };
            add(Ready::InputTakes, sink, out);
        }
        // One that is not read is not polled: its end would be told again and again.
        for source in self.sources.iter().filter(|_| idle) {
            add(Ready::Source(source.output), source.as_fd(), PollFlags::IN);
        }
        match poll(&mut polled, self.patience().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Lost::Failed(error.into())),
        }
        let gone = PollFlags::ERR | PollFlags::HUP;
        let found = whom.into_iter().zip(&polled).filter_map(|(ready, polled)| {
            let events = polled.revents();
            match ready {
                _ if events.is_empty() => None,
                Ready::InputTakes if events.intersects(gone) => Some(Ready::InputClosed),
                Ready::Edge if !events.intersects(PollFlags::IN | gone) => None,
                ready => Some(ready),
            }
        });
        Ok(found.collect())
    }

    /// How long to wait when nothing happens.
    fn patience(&self) -> Option<Timespec> {
        let draining = self.reaper.is_none() && !self.sources.is_empty();
        if draining && self.edge.as_ref().is_some_and(Edge::is_idle) {
            return Some(Timespec::default());
        }
        self.deadline.map(|(at, _)| {
            // Rounded up, or the last millisecond would be spent in a busy loop.
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec::try_from(left).unwrap_or_default()
        })
    }

    /// Does what the edge's frames say.
    fn obey(&mut self) -> Result<(), Lost> {
        while let Some(frame) = self.edge.as_mut().map_or(Ok(None), Edge::next)? {
            match frame {
                FromEdge::Start { .. } => return Err(Lost::SecondStart),
                FromEdge::Input(bytes) => self.input.push(bytes)?,
                FromEdge::InputEnd if self.program.terminal.is_some() => {}
                FromEdge::InputEnd => self.input.end(),
                FromEdge::Resize { columns, rows } => self.program.resize(columns, rows),
                FromEdge::Signal(name) => {
                    if let Some(signal) = signals::parse(&name).filter(|_| self.reaper.is_some()) {
                        self.program.signal(signal);
                    }
                }
                FromEdge::HangUp => self.hang_up(),
            }
        }
        Ok(())
    }

    /// Tells the edge what there is to tell, as far as the connection takes it.
    fn speak(&mut self, ready: &[Ready]) -> Result<(), Lost> {
        let Some(edge) = &mut self.edge else { return Ok(()) };
        edge.flush()?;
        if edge.is_idle() && self.input.take_closed() {
            edge.put(&FromGuest::InputClosed)?;
            edge.flush()?;
        }
        if edge.is_idle()
            && let Some(bytes) = self.input.take_credit()
        {
            edge.put(&FromGuest::Credit(bytes))?;
            edge.flush()?;
        }
        let ended = self.reaper.is_none();
        for _ in 0..self.sources.len() {
            if !edge.is_idle() {
                return Ok(());
            }
            let Some(mut source) = self.sources.pop_front() else { break };
            let serve = ended || ready.contains(&Ready::Source(source.output));
            if !serve || source.forward(edge, ended)? {
                self.sources.push_back(source);
            }
        }
        if !ended || !self.sources.is_empty() || !edge.is_idle() {
            return Ok(());
        }
        if let Some(exit) = self.exit.take() {
            edge.put(&exit)?;
            edge.flush()?;
        }
        // A slow edge may take its time until here, but must close once it has everything.
        if edge.is_idle() && self.deadline.is_none() {
            self.deadline = Some(farewell());
        }
        Ok(())
    }

    /// Ends the program: its terminal and its pipes close, it gets SIGHUP, and SIGKILL if it stays.
    fn hang_up(&mut self) {
        self.input.drop_all();
        self.sources.clear();
        if self.reaper.is_some() && self.deadline.is_none() {
            self.program.signal_group(Signal::HUP);
            self.program.terminal = None;
            self.deadline = Some((Instant::now() + GRACE, Then::Kill));
        }
    }
}
