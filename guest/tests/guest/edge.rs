//! The edge's side of a guest that runs outside any container.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use guest_protocol::{
    Decoder, FromEdge, FromGuest, Program, Pty, TOKEN_VARIABLE, VERSION, encode_edge,
};
use tempfile::TempDir;

/// Nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Edge {
    socket: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    pub(crate) guest: Child,
    /// A place for the program's files.
    pub(crate) folder: TempDir,
}

/// All that came until the program ended.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) others: Vec<FromGuest>,
    pub(crate) end: Option<FromGuest>,
}

impl Edge {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let guest = Command::new(env!("CARGO_BIN_EXE_guest"))
            .arg(&path)
            .env(TOKEN_VARIABLE, "secret")
            .env("SHELL", "/bin/sh")
            .spawn()
            .unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let buffer = vec![0; 256 * 1024];
        let mut edge = Self { socket, decoder: Decoder::default(), buffer, guest, folder };
        let hello = FromGuest::Hello { version: VERSION, token: "secret".to_owned() };
        assert_eq!(edge.next(), Some(hello));
        edge
    }

    /// A guest that runs this command.
    pub(crate) fn with_command(line: &str, pty: Option<Pty>) -> Self {
        Self::with(Program::Command(line.as_bytes().to_vec()), pty)
    }

    pub(crate) fn with(program: Program, pty: Option<Pty>) -> Self {
        let mut edge = Self::new();
        edge.start(program, pty);
        assert_eq!(edge.next(), Some(FromGuest::Started));
        edge
    }

    /// Sends `Start`; the program finds its folder in `$FOLDER`.
    pub(crate) fn start(&mut self, program: Program, pty: Option<Pty>) {
        let folder = self.folder.path().to_str().unwrap().as_bytes().to_vec();
        let environment = vec![("FOLDER".to_owned(), folder)];
        self.send(&FromEdge::Start { program, environment, pty });
    }

    pub(crate) fn send(&mut self, frame: &FromEdge) {
        let mut bytes = Vec::new();
        encode_edge(frame, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        self.send(&FromEdge::Input(bytes.to_vec().into()));
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<FromGuest> {
        loop {
            if let Some(frame) = self.decoder.next_guest().unwrap() {
                return Some(frame);
            }
            let length = self.socket.read(&mut self.buffer).unwrap();
            if length == 0 {
                return None;
            }
            self.decoder.push(&self.buffer[..length]);
        }
    }

    /// Reads standard output until this text has come; answers all that came.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut shown = String::new();
        while !shown.contains(text) {
            match self.next() {
                Some(FromGuest::Stdout(bytes)) => shown += &String::from_utf8_lossy(&bytes),
                Some(FromGuest::Credit(_) | FromGuest::InputClosed) => {}
                other => panic!("{other:?} instead of {text:?} after {shown:?}"),
            }
        }
        shown
    }

    /// Reads until the program has ended or the connection has.
    pub(crate) fn rest(&mut self) -> Rest {
        let mut rest = Rest::default();
        while let Some(frame) = self.next() {
            match frame {
                FromGuest::Stdout(bytes) => rest.stdout.extend_from_slice(&bytes),
                FromGuest::Stderr(bytes) => rest.stderr.extend_from_slice(&bytes),
                FromGuest::ExitCode(_)
                | FromGuest::ExitSignal { .. }
                | FromGuest::StartFailed(_) => {
                    rest.end = Some(frame);
                    break;
                }
                other => rest.others.push(other),
            }
        }
        rest
    }

    /// Closes the connection and waits for the guest to end.
    pub(crate) fn close(mut self) -> ExitStatus {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.guest.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the guest stays after its edge is gone");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // Only matters when a test failed; then there is nobody to tell.
        drop(self.guest.kill());
        drop(self.guest.wait());
    }
}

/// A terminal of 80 by 24.
pub(crate) fn terminal() -> Pty {
    Pty { term: "vt100".to_owned(), columns: 80, rows: 24, modes: Vec::new() }
}

pub(crate) fn exit_signal(name: &str) -> FromGuest {
    FromGuest::ExitSignal { name: name.to_owned(), core_dumped: false }
}

/// Waits for a condition; `false` if it does not come in this time.
pub(crate) fn comes(within: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    condition()
}

/// Whether this process is there and not only its remains.
pub(crate) fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}
