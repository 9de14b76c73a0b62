//! What a client may ask for on a session channel, and when (pure; RFC 4254, section 6).
//!
//! Invariant: a channel starts at most one program, and what it asked for before is bounded.

use guest_protocol::{Program, Pty};

const MAX_VARIABLES: usize = 64;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 4096;
const MAX_TERM: usize = 64;
/// The longest command line; the record of it must fit into a block.
pub(crate) const MAX_COMMAND: usize = 128 * 1024;

/// What a channel has asked for so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    environment: Vec<(String, Vec<u8>)>,
    pty: Option<Pty>,
    started: bool,
}

/// What the client wants to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Program(Program),
    /// A subsystem, by name.
    Subsystem(String),
}

/// Everything that was asked for when the program was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) wanted: Wanted,
    pub(crate) environment: Vec<(String, Vec<u8>)>,
    pub(crate) pty: Option<Pty>,
}

impl Requests {
    /// Sets a variable; false is a refusal.
    pub(crate) fn variable(&mut self, name: &str, value: &str) -> bool {
        let allowed = !self.started
            && self.environment.len() < MAX_VARIABLES
            && value.len() <= MAX_VALUE
            && !value.contains('\0')
            && harmless(name);
        if allowed {
            self.environment.push((name.to_owned(), value.as_bytes().to_vec()));
        }
        allowed
    }

    /// Asks for a terminal; false is a refusal.
    pub(crate) fn pty(&mut self, pty: Pty) -> bool {
        let allowed = !self.started
            && self.pty.is_none()
            && pty.term.len() <= MAX_TERM
            && pty.term.bytes().all(|byte| byte.is_ascii_graphic());
        if allowed {
            self.pty = Some(pty);
        }
        allowed
    }

    /// Changes the terminal's size; true if the running program must hear of it.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) -> bool {
        let Some(pty) = &mut self.pty else { return false };
        (pty.columns, pty.rows) = (columns, rows);
        self.started
    }

    /// Asks for a program; `None` is a refusal.
    pub(crate) fn start(&mut self, wanted: Wanted) -> Option<Start> {
        let too_long = matches!(
            &wanted,
            Wanted::Program(Program::Command(command))
                if command.len() > MAX_COMMAND || command.contains(&0)
        );
        if self.started || too_long {
            return None;
        }
        self.started = true;
        Some(Start {
            wanted,
            environment: std::mem::take(&mut self.environment),
            pty: self.pty.clone(),
        })
    }
}

/// Variables of the locale and of the terminal's abilities only: others change how programs load
/// code (`LD_PRELOAD`, `PATH`, `BASH_ENV`).
fn harmless(name: &str) -> bool {
    let known = ["LANG", "LANGUAGE", "TZ", "COLORTERM", "NO_COLOR", "TERM_PROGRAM"];
    let locale = name.strip_prefix("LC_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    name.len() <= MAX_NAME && (known.contains(&name) || locale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pty() -> Pty {
        Pty { term: "xterm".to_owned(), columns: 80, rows: 24, modes: Vec::new() }
    }

    #[test]
    fn only_harmless_variables_are_taken() {
        let mut requests = Requests::default();
        for name in ["LANG", "LC_ALL", "LC_CTYPE", "TZ"] {
            assert!(requests.variable(name, "C"), "{name}");
        }
        for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "LC_", "LC_=X", "lang", "", "LC_A\0"] {
            assert!(!requests.variable(name, "C"), "{name}");
        }
        assert!(!requests.variable("LANG", "a\0b"));
        assert!(!requests.variable("LANG", &"x".repeat(MAX_VALUE + 1)));
    }

    #[test]
    fn second_program_is_refused_and_nothing_is_taken_after_the_first() {
        let mut requests = Requests::default();
        assert!(requests.pty(pty()));
        assert!(!requests.pty(pty()));
        assert!(!requests.resize(100, 50));
        let start = requests.start(Wanted::Program(Program::Shell)).expect("the first");
        assert_eq!(start.pty.map(|pty| (pty.columns, pty.rows)), Some((100, 50)));
        assert_eq!(requests.start(Wanted::Program(Program::Shell)), None);
        assert!(!requests.variable("LANG", "C"));
        assert!(requests.resize(80, 24));
    }

    #[test]
    fn command_that_no_shell_could_take_is_refused() {
        let mut requests = Requests::default();
        let command = |bytes: Vec<u8>| Wanted::Program(Program::Command(bytes));
        assert_eq!(requests.start(command(b"a\0b".to_vec())), None);
        assert_eq!(requests.start(command(vec![b'x'; MAX_COMMAND + 1])), None);
        assert!(requests.start(command(b"true".to_vec())).is_some());
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_bounded_and_starts_once(
            asked in proptest::collection::vec((0..5_u8, "[A-Z_]{0,6}", any::<u16>()), 0..300),
        ) {
            let mut requests = Requests::default();
            let mut starts = Vec::new();
            for (kind, text, number) in asked {
                match kind {
                    0 => { requests.variable(&format!("LC_{text}"), &text); }
                    1 => { requests.pty(Pty { term: text, ..pty() }); }
                    2 => { requests.resize(number, number); }
                    3 => starts.extend(requests.start(Wanted::Subsystem(text))),
                    _ => starts.extend(requests.start(Wanted::Program(Program::Shell))),
                }
            }
            prop_assert!(starts.len() <= 1);
            prop_assert!(starts.iter().all(|start| start.environment.len() <= MAX_VARIABLES));
        }
    }
}
