//! The program's terminal: made here, taken by the program.

mod modes;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use guest_protocol::Pty;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::program::{self, Invocation};

/// The first argument of [`exec`]'s form of this program.
pub(crate) const EXEC: &str = "--exec-on-terminal";

/// Makes a terminal with this size and these modes: our end and the program's.
pub(crate) fn open(pty: &Pty) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    // Not by its path: that would need /dev/pts to be where it should.
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    let mut attributes = tcgetattr(&theirs)?;
    for (opcode, argument) in &pty.modes {
        modes::set(&mut attributes, *opcode, *argument);
    }
    tcsetattr(&theirs, OptionalActions::Now, &attributes)?;
    resize(&ours, pty.columns, pty.rows)?;
    Ok((ours, theirs))
}

pub(crate) fn resize(terminal: &OwnedFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The command that runs the program on the terminal, through [`exec`]. Its standard input and
/// output must be the terminal, its standard error a pipe: that is closed without a word once the
/// program runs, and carries the reason if it cannot.
///
/// A program gets a controlling terminal by calls of its own between fork and exec, which safe Rust
/// does not have; so this binary runs in between.
pub(crate) fn command(invocation: &Invocation) -> Command {
    let Invocation { path, name, arguments } = invocation;
    let mut command = Command::new("/proc/self/exe");
    command.arg(EXEC).arg(path).arg(name).args(arguments);
    command
}

/// Becomes the program that the arguments tell (path, name, arguments), on the terminal that
/// standard input is.
pub(crate) fn exec(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(path), Some(name)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    // Kept from the program by being closed when it starts.
    let Ok(report) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3) else {
        return ExitCode::FAILURE;
    };
    let reason = match take_terminal() {
        Ok(()) => {
            let error = Command::new(&path).arg0(name).args(arguments).exec();
            program::explain(&path, &error)
        }
        Err(error) => format!("the terminal cannot be taken: {error}"),
    };
    // If nobody listens the exit status is all there is.
    drop(std::fs::File::from(report).write_all(reason.as_bytes()));
    ExitCode::FAILURE
}

/// Makes this process the leader of a session on the terminal.
fn take_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    Ok(rustix::stdio::dup2_stderr(rustix::stdio::stdin())?)
}

#[cfg(test)]
mod tests {
    use rustix::termios::{InputModes, LocalModes, OutputModes, SpecialCodeIndex};

    use super::*;

    fn opened(modes: Vec<(u8, u32)>) -> (OwnedFd, OwnedFd) {
        open(&Pty { term: "xterm".to_owned(), columns: 132, rows: 43, modes }).unwrap()
    }

    #[test]
    fn modes_and_size_are_the_clients() {
        let modes = vec![(1, 7), (2, 255), (42, 1), (53, 0), (72, 0), (128, 9600), (200, 1)];
        let (_ours, theirs) = opened(modes);
        let set = tcgetattr(&theirs).unwrap();
        assert_eq!(set.special_codes[SpecialCodeIndex::VINTR], 7);
        assert_eq!(set.special_codes[SpecialCodeIndex::VQUIT], 0);
        assert!(set.input_modes.contains(InputModes::IUTF8));
        assert!(!set.local_modes.contains(LocalModes::ECHO));
        assert!(set.local_modes.contains(LocalModes::ICANON));
        assert!(!set.output_modes.contains(OutputModes::ONLCR));
        assert_eq!(set.input_speed(), 9600);
        let size = rustix::termios::tcgetwinsize(&theirs).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
    }

    #[test]
    fn any_modes_leave_a_terminal() {
        for opcode in 0..=255 {
            for argument in [0, 1, 255, u32::MAX] {
                opened(vec![(opcode, argument)]);
            }
        }
    }
}
