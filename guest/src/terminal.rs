//! The program's terminal: made here, taken by the program.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use guest_protocol::Pty;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};

use crate::program::{self, Invocation};

/// The first argument of [`exec`]'s form of this program.
pub(crate) const EXEC: &str = "--exec-on-terminal";

/// The value of a special character that is switched off (RFC 4254, section 8).
const DISABLED: u32 = 255;

/// Makes a terminal with this size and these modes: our end and the program's.
pub(crate) fn open(pty: &Pty) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    // Not by its path: that would need /dev/pts to be where it should.
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    let mut modes = tcgetattr(&theirs)?;
    for (opcode, argument) in &pty.modes {
        set_mode(&mut modes, *opcode, *argument);
    }
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
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

/// Sets one mode of RFC 4254, section 8; unknown ones change nothing.
fn set_mode(modes: &mut Termios, opcode: u8, argument: u32) {
    let on = argument != 0;
    if let Some(index) = special_code(opcode) {
        let character = if argument == DISABLED { 0 } else { argument };
        if let Ok(character) = u8::try_from(character) {
            modes.special_codes[index] = character;
        }
    } else if let Some(mode) = input_mode(opcode) {
        modes.input_modes.set(mode, on);
    } else if let Some(mode) = local_mode(opcode) {
        modes.local_modes.set(mode, on);
    } else if let Some(mode) = output_mode(opcode) {
        modes.output_modes.set(mode, on);
    } else {
        set_line(modes, opcode, argument);
    }
}

fn special_code(opcode: u8) -> Option<SpecialCodeIndex> {
    Some(match opcode {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        16 => SpecialCodeIndex::VSWTC,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input_mode(opcode: u8) -> Option<InputModes> {
    Some(match opcode {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        37 => InputModes::IUCLC,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        // RFC 8160.
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(opcode: u8) -> Option<LocalModes> {
    Some(match opcode {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        52 => LocalModes::XCASE,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output_mode(opcode: u8) -> Option<OutputModes> {
    Some(match opcode {
        70 => OutputModes::OPOST,
        71 => OutputModes::OLCUC,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

/// What a serial line would do. Speeds matter to programs that draw slowly for slow lines; a speed
/// of 0 would mean to hang up.
fn set_line(modes: &mut Termios, opcode: u8, argument: u32) {
    let on = argument != 0;
    match opcode {
        90 if on => set_character_size(modes, ControlModes::CS7),
        91 if on => set_character_size(modes, ControlModes::CS8),
        92 => modes.control_modes.set(ControlModes::PARENB, on),
        93 => modes.control_modes.set(ControlModes::PARODD, on),
        // A speed that cannot be set stays as it is.
        128 if on => drop(modes.set_input_speed(argument)),
        129 if on => drop(modes.set_output_speed(argument)),
        _ => {}
    }
}

fn set_character_size(modes: &mut Termios, size: ControlModes) {
    modes.control_modes.remove(ControlModes::CSIZE);
    modes.control_modes.insert(size);
}

#[cfg(test)]
mod tests {
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
