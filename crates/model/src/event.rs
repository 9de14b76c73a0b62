//! What a record says happened.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::{Id, LogLine, User};

/// Which of a program's outputs bytes came from. With a pty there is one, `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error, when there is no terminal.
    Stderr,
}

impl OutputStream {
    /// The stream's name, as delivered to endpoints.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A terminal's size in character cells; 0 means unknown (RFC 4254, section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u32,
    /// Lines.
    pub rows: u32,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this status.
    Code(u32),
    /// A signal ended it: the name without `SIG` (RFC 4254, section 6.10).
    Signal {
        /// For example `KILL`.
        name: String,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal { name, core_dumped: false } => write!(f, "signal {name}"),
            Self::Signal { name, core_dumped: true } => write!(f, "signal {name}, core dumped"),
        }
    }
}

/// How an ephemeral session began. Who, where and which app stand in the record's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStarted {
    /// The app's image, as its runtime names it.
    pub image: String,
    /// The client's network address.
    pub client_address: String,
    /// The client's SSH version string, cut to 255 bytes.
    pub client_version: String,
    /// How the engineer signed in: `certificate` or `public_key`.
    pub auth_method: String,
    /// The fingerprint of the key that signed in, as `SHA256:...`.
    pub key_fingerprint: String,
    /// Why, in the engineer's words, if given.
    pub reason: Option<String>,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Spillway itself.
    Platform,
    /// A user.
    User {
        /// The user's id.
        id: Id<User>,
        /// The user's e-mail address at that time.
        email: String,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::User { email, .. } => f.write_str(email),
        }
    }
}

/// What something was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its kind, such as `log_drain`.
    pub kind: String,
    /// Its id.
    pub id: Uuid,
    /// Its handle at that time.
    pub handle: String,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerAction {
    /// It started.
    Started,
    /// Its first process ended.
    Exited {
        /// With this status; 128 and more by a signal (`docker run`, "Exit status").
        code: u32,
    },
    /// The kernel ended a process of it, for it had no memory left.
    OutOfMemory,
}

/// A container, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// What.
    pub action: ContainerAction,
    /// The container's id, as its runtime gives it.
    pub id: String,
    /// Its name there.
    pub name: String,
    /// Its image, as its runtime names it.
    pub image: String,
}

/// What happened. There are very many of these, so what is rare and large is in a box. Bytes are shared, not
/// copied: those of a record that was read from the stream keep all bytes of its block in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session showed bytes. `offset` counts the bytes of this stream before these.
    Output {
        /// Which output.
        stream: OutputStream,
        /// Bytes of this stream before these.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// For a while nothing followed some output: a line without an end counts as one, and what belongs to
    /// several lines is complete. Such pauses stand in the stream so that all who read it, whenever, cut lines
    /// at the same places.
    Pause {
        /// The output.
        stream: OutputStream,
    },
    /// A session was given bytes, where the environment's policy records input.
    Input {
        /// Bytes of input before these.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// An app or a database wrote a line.
    Line(Box<LogLine>),
    /// Lines of this producer were lost before they could be recorded.
    Gap {
        /// How many.
        lines: u64,
        /// Why, in words.
        reason: String,
    },
    /// Something happened to a container of an app or a database.
    Container(Box<ContainerEvent>),
    /// An ephemeral session began.
    SessionStarted(Box<SessionStarted>),
    /// The client asked for a terminal.
    Pty {
        /// The terminal's type, as in `TERM`.
        term: String,
        /// Its size.
        size: TerminalSize,
    },
    /// The client's terminal changed its size.
    Resize {
        /// The new size.
        size: TerminalSize,
    },
    /// The client set an environment variable; its value is not kept.
    Env {
        /// The variable's name.
        name: String,
    },
    /// The client ran a command.
    Exec {
        /// The command line.
        command: Vec<u8>,
    },
    /// The client started a shell.
    Shell,
    /// The client asked for a subsystem.
    Subsystem {
        /// The subsystem's name.
        name: String,
    },
    /// The client sent a signal.
    Signal {
        /// The signal's name without `SIG`.
        name: String,
    },
    /// The session's program ended.
    Exit(ExitStatus),
    /// The session is over: nothing of it follows.
    SessionEnded {
        /// Why, in words.
        reason: String,
        /// Whether it ended otherwise than by its program's or its client's will.
        aborted: bool,
        /// Bytes shown: standard output and standard error together.
        output_bytes: u64,
        /// Time since it began.
        duration: Duration,
    },
    /// A user or the platform did something to a thing of the environment.
    Activity {
        /// Who.
        actor: Actor,
        /// What, such as `log_drain.failing`.
        action: String,
        /// To what.
        target: Box<Target>,
        /// More about it, in words; nothing secret. May be empty.
        detail: String,
    },
}

impl Event {
    /// The event's name, as delivered to endpoints.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Output { .. } => "output",
            Self::Pause { .. } => "pause",
            Self::Input { .. } => "input",
            Self::Line(_) => "line",
            Self::Gap { .. } => "gap",
            Self::Container(_) => "container",
            Self::SessionStarted(_) => "session_started",
            Self::Pty { .. } => "pty",
            Self::Resize { .. } => "resize",
            Self::Env { .. } => "env",
            Self::Exec { .. } => "exec",
            Self::Shell => "shell",
            Self::Subsystem { .. } => "subsystem",
            Self::Signal { .. } => "signal",
            Self::Exit(_) => "exit",
            Self::SessionEnded { .. } => "session_ended",
            Self::Activity { .. } => "activity",
        }
    }
}
