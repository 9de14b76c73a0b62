//! Signals and their names (RFC 4254, sections 6.9 and 6.10: without `SIG`).

use std::io::{self, PipeReader};

use rustix::process::Signal;

/// Those that a client may send and those that end programs.
const NAMES: &[(&str, Signal)] = &[
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("BUS", Signal::BUS),
    ("CONT", Signal::CONT),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("IO", Signal::IO),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("PROF", Signal::PROF),
    ("PWR", Signal::POWER),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("STKFLT", Signal::STKFLT),
    ("STOP", Signal::STOP),
    ("SYS", Signal::SYS),
    ("TERM", Signal::TERM),
    ("TRAP", Signal::TRAP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("VTALRM", Signal::VTALARM),
    ("WINCH", Signal::WINCH),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

/// The signal of this name.
pub(crate) fn parse(name: &str) -> Option<Signal> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// The name of this signal; a real-time one goes by its number.
pub(crate) fn name(number: i32) -> String {
    NAMES
        .iter()
        .find(|(_, signal)| signal.as_raw() == number)
        .map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Readable once this process was told to end: a container's stop sends SIGTERM to its first
/// process, on which it has no effect unless it is asked for.
pub(crate) fn on_termination() -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, writer)?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::{name, parse};

    #[test]
    fn names_of_the_rfc_are_known_both_ways() {
        for known in "ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2".split(' ') {
            assert_eq!(name(parse(known).unwrap().as_raw()), known);
        }
        assert_eq!(parse("SIGINT"), None);
        assert_eq!(name(40), "40");
    }
}
