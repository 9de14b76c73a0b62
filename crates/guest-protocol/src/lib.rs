//! The frames between the edge and the guest: one unix socket per session, the guest connects.
//!
//! Bytes on the wire: kind (u8), length of the body (u32, big endian), body. Bodies hold integers in
//! big endian and byte strings with a u32 length in front; the bodies of inputs and outputs are the
//! bytes alone. The two sides come from one build, so there is no version to negotiate; `Hello`
//! carries one to refuse a stranger.
//!
//! Flow: outputs are held back by the socket itself (the edge stops reading, the guest stops reading
//! the program). Input is held back by credit, so that resizes and signals always get through: the
//! edge sends at most as many input bytes as the guest has granted.
//!
//! The guest is untrusted: [`Decoder`] knows for every kind how long it may be, at most
//! [`MAX_FRAME`], and refuses a longer frame by its header, before it holds the body.

mod codec;
mod decoder;

use bytes::Bytes;

pub use codec::{EncodeError, HEADER_LENGTH, encode_edge, encode_guest, output_header};
pub use decoder::{DecodeError, Decoder};

/// The longest body of a frame, in bytes. Only `Start` may be this long.
pub const MAX_FRAME: usize = 1 << 20;

/// The most output bytes that a guest puts into one frame.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// The input bytes that an edge may send before the guest grants more; so one frame of input holds
/// no more than this either.
pub const INITIAL_CREDIT: u32 = 256 * 1024;

/// The most variables in `Start`.
pub const MAX_VARIABLES: usize = 4096;

/// The most terminal modes in `Start`: one for every opcode.
pub const MAX_MODES: usize = 256;

/// The longest name, token or message in a frame, in bytes.
pub const MAX_TEXT: usize = 4096;

/// What `Hello` must carry.
pub const VERSION: u32 = 1;

/// The environment variable through which the guest learns its token.
pub const TOKEN_VARIABLE: &str = "SPILLWAY_GUEST_TOKEN";

/// Where the guest's binary is mounted in a container.
pub const GUEST_PATH: &str = "/.spillway/guest";

/// Where the edge's socket is mounted in a container.
pub const SOCKET_PATH: &str = "/.spillway/edge.sock";

/// A terminal's modes and size: what `pty-req` carries (RFC 4254, section 6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// The value of `TERM`.
    pub term: String,
    /// Columns; 0 means unknown.
    pub columns: u16,
    /// Rows; 0 means unknown.
    pub rows: u16,
    /// Terminal modes as (opcode, argument) pairs (RFC 4254, section 8); unknown ones are ignored.
    pub modes: Vec<(u8, u32)>,
}

/// Which of the program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// An interactive login shell: `$SHELL`, `/bin/bash` or `/bin/sh`, the first there is.
    Shell,
    /// A command line for `/bin/sh -c`.
    Command(Vec<u8>),
}

/// What the edge tells the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromEdge {
    /// Start the program; comes once, first.
    Start {
        /// What to run.
        program: Program,
        /// Variables added to the image's own.
        environment: Vec<(String, Vec<u8>)>,
        /// A terminal, or pipes.
        pty: Option<Pty>,
    },
    /// Bytes for the program's input, within the credit; not empty.
    Input(Bytes),
    /// No more input follows. With a terminal this changes nothing, as with OpenSSH.
    InputEnd,
    /// The terminal changed its size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Send this signal (name without `SIG`) to the program's process group; unknown ones are ignored.
    Signal(String),
    /// The client no longer reads; end the program with SIGHUP, then SIGKILL.
    HangUp,
}

/// What the guest tells the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGuest {
    /// Comes once, first.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The token from the environment.
        token: String,
    },
    /// The program runs.
    Started,
    /// The program could not be started; nothing follows.
    StartFailed(String),
    /// Bytes that the program wrote; at most [`MAX_OUTPUT`], not empty.
    Stdout(Bytes),
    /// The same for standard error; only without a terminal.
    Stderr(Bytes),
    /// The edge may send this many more input bytes.
    Credit(u32),
    /// The program closed its input: more input is of no use and may be dropped.
    InputClosed,
    /// The program returned; all its output went before; nothing follows.
    ExitCode(u32),
    /// A signal ended the program (name without `SIG`); all its output went before; nothing follows.
    ExitSignal {
        /// For example `KILL`.
        name: String,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}
