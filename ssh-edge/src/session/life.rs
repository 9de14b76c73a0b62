//! A running session as a state machine: `(state, event) -> (state, effects)`; no I/O in it.
//!
//! Invariants: a session ends once and nothing follows its end; the guest gets no more input than it
//! has granted; a guest that breaks the protocol ends its session as aborted.

use std::time::Duration;

use bytes::Bytes;
use guest_protocol::{FromEdge, FromGuest, INITIAL_CREDIT};
use model::{Event, ExitStatus, OutputStream, TerminalSize};

/// More credit than this is a guest's mistake or attack: the edge would have to hold the input.
const MAX_CREDIT: u32 = 4 * INITIAL_CREDIT;

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happening {
    Guest(FromGuest),
    /// The guest's connection ended or broke.
    GuestLost(String),
    /// Bytes of the client's, at most [`Life::allowance`].
    Input(Bytes),
    InputEnd,
    Resize {
        columns: u16,
        rows: u16,
    },
    Signal(String),
    /// The client closed the channel or its connection ended.
    ClientGone(String),
    /// Neither input nor output for this long.
    Idle(Duration),
    /// The service stops.
    Stopping,
    /// Its records could not be kept for this long.
    Unrecorded(Duration),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Record it; what is shown of it is shown when it is durable.
    Record(Event),
    /// Record these bytes as output, and show them when they are durable.
    Show(OutputStream, Bytes),
    /// Tell the client in a sentence.
    Say(String),
    ToGuest(FromEdge),
    /// The program takes no more input: drop what waits and what comes.
    DropInput,
    End(Ending),
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: String,
    pub(crate) aborted: bool,
    pub(crate) exit: Option<ExitStatus>,
}

/// A session from the moment its guest was told what to run.
#[derive(Debug)]
pub(crate) struct Life {
    phase: Phase,
    has_pty: bool,
    credit: u32,
    input_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Over,
}

impl Life {
    pub(crate) const fn new(has_pty: bool) -> Self {
        Self { phase: Phase::Starting, has_pty, credit: INITIAL_CREDIT, input_closed: false }
    }

    /// How many bytes of input may be given now.
    pub(crate) const fn allowance(&self) -> usize {
        match self.phase {
            Phase::Over => 0,
            Phase::Starting | Phase::Running => self.credit as usize,
        }
    }

    pub(crate) fn on(&mut self, happening: Happening) -> Vec<Effect> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        match happening {
            Happening::Guest(frame) => self.on_guest(frame),
            Happening::GuestLost(why) => {
                self.end_with_notice(&format!("the session's container is gone ({why})"))
            }
            Happening::Input(bytes) => self.on_input(bytes),
            Happening::InputEnd if self.input_closed => Vec::new(),
            Happening::InputEnd => {
                self.input_closed = true;
                vec![Effect::ToGuest(FromEdge::InputEnd)]
            }
            Happening::Resize { columns, rows } => vec![
                Effect::Record(Event::Resize {
                    size: TerminalSize { columns: columns.into(), rows: rows.into() },
                }),
                Effect::ToGuest(FromEdge::Resize { columns, rows }),
            ],
            Happening::Signal(name) => vec![
                Effect::Record(Event::Signal { name: name.clone() }),
                Effect::ToGuest(FromEdge::Signal(name)),
            ],
            Happening::ClientGone(reason) => self.end(reason, false, None),
            Happening::Idle(limit) => self.end_with_notice(&format!(
                "the session was idle for {} seconds, which is the environment's limit",
                limit.as_secs()
            )),
            // The sentence is told past the gate: it would wait behind what cannot be recorded.
            Happening::Unrecorded(limit) => self.end(unrecorded(limit), true, None),
            Happening::Stopping => self.end_with_notice("the SSH edge is stopping"),
        }
    }

    fn on_guest(&mut self, frame: FromGuest) -> Vec<Effect> {
        let running = self.phase == Phase::Running;
        match frame {
            FromGuest::Started if !running => {
                self.phase = Phase::Running;
                Vec::new()
            }
            FromGuest::StartFailed(why) if !running => {
                let sentence = format!("the program could not be started: {}", printable(&why));
                let mut effects = vec![Effect::Say(sentence)];
                effects.extend(self.exited(ExitStatus::Code(126)));
                effects
            }
            FromGuest::Stdout(bytes) if running => {
                vec![Effect::Show(OutputStream::Stdout, bytes)]
            }
            FromGuest::Stderr(bytes) if running && !self.has_pty => {
                vec![Effect::Show(OutputStream::Stderr, bytes)]
            }
            FromGuest::Credit(granted) => match self.credit.checked_add(granted) {
                Some(credit) if credit <= MAX_CREDIT => {
                    self.credit = credit;
                    Vec::new()
                }
                _ => self.broken("too much credit"),
            },
            FromGuest::InputClosed => {
                self.input_closed = true;
                vec![Effect::DropInput]
            }
            FromGuest::ExitCode(code) if running => self.exited(ExitStatus::Code(code)),
            FromGuest::ExitSignal { name, core_dumped } if running => {
                let known = (1..=16).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
                if known {
                    self.exited(ExitStatus::Signal { name, core_dumped })
                } else {
                    self.broken("an impossible signal")
                }
            }
            FromGuest::Hello { .. } => self.broken("a second greeting"),
            _ => self.broken("a frame out of order"),
        }
    }

    fn on_input(&mut self, bytes: Bytes) -> Vec<Effect> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if self.input_closed || length == 0 {
            return Vec::new();
        }
        self.credit = self.credit.saturating_sub(length);
        vec![Effect::ToGuest(FromEdge::Input(bytes))]
    }

    fn exited(&mut self, exit: ExitStatus) -> Vec<Effect> {
        let mut effects = vec![Effect::Record(Event::Exit(exit.clone()))];
        effects.extend(self.end(format!("the program ended: {exit}"), false, Some(exit)));
        effects
    }

    fn broken(&mut self, what: &str) -> Vec<Effect> {
        self.end_with_notice(&format!("the session's container broke its protocol: {what}"))
    }

    fn end_with_notice(&mut self, reason: &str) -> Vec<Effect> {
        let mut effects = vec![Effect::Say(reason.to_owned())];
        effects.extend(self.end(reason.to_owned(), true, None));
        effects
    }

    fn end(&mut self, reason: String, aborted: bool, exit: Option<ExitStatus>) -> Vec<Effect> {
        self.phase = Phase::Over;
        let mut effects = Vec::new();
        if exit.is_none() {
            effects.push(Effect::ToGuest(FromEdge::HangUp));
        }
        effects.push(Effect::End(Ending { reason, aborted, exit }));
        effects
    }
}

/// Why a session ends that was paused for too long.
pub(crate) fn unrecorded(limit: Duration) -> String {
    format!(
        "records could not be kept for {} seconds, which is the limit: what is not recorded yet is \
         not shown",
        limit.as_secs()
    )
}

/// What a container says may not move the engineer's cursor from within our own sentence.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn running(has_pty: bool) -> Life {
        let mut life = Life::new(has_pty);
        assert_eq!(life.on(Happening::Guest(FromGuest::Started)), []);
        life
    }

    fn ending(effects: &[Effect]) -> Option<&Ending> {
        effects.iter().find_map(|effect| match effect {
            Effect::End(ending) => Some(ending),
            _ => None,
        })
    }

    #[test]
    fn exit_is_recorded_and_ends_the_session_well() {
        let mut life = running(false);
        let effects = life.on(Happening::Guest(FromGuest::ExitCode(3)));
        assert_eq!(effects[0], Effect::Record(Event::Exit(ExitStatus::Code(3))));
        let ending = ending(&effects).expect("an end");
        assert!(!ending.aborted);
        assert_eq!(ending.exit, Some(ExitStatus::Code(3)));
    }

    #[test]
    fn client_that_leaves_hangs_the_guest_up() {
        let effects = running(true).on(Happening::ClientGone("gone".to_owned()));
        assert_eq!(effects[0], Effect::ToGuest(FromEdge::HangUp));
        assert!(ending(&effects).is_some_and(|ending| !ending.aborted));
    }

    #[test]
    fn guest_that_breaks_its_protocol_is_ended_as_aborted() {
        let bytes = Bytes::from_static(b"x");
        let strange = [
            FromGuest::Hello { version: 1, token: String::new() },
            FromGuest::Started,
            FromGuest::StartFailed(String::new()),
            FromGuest::Stderr(bytes.clone()),
            FromGuest::Credit(u32::MAX),
            FromGuest::ExitSignal { name: "\x1b[2J".to_owned(), core_dumped: false },
        ];
        for frame in strange {
            let effects = running(true).on(Happening::Guest(frame.clone()));
            assert!(ending(&effects).is_some_and(|ending| ending.aborted), "{frame:?}");
        }
        let effects = Life::new(false).on(Happening::Guest(FromGuest::Stdout(bytes)));
        assert!(ending(&effects).is_some_and(|ending| ending.aborted), "output before the start");
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let bytes = || (1..5000_usize).prop_map(|length| Bytes::from(vec![0; length]));
        prop_oneof![
            4 => bytes().prop_map(|bytes| Happening::Guest(FromGuest::Stdout(bytes))),
            2 => bytes().prop_map(|bytes| Happening::Guest(FromGuest::Stderr(bytes))),
            4 => (0..100_000_u32).prop_map(|bytes| Happening::Guest(FromGuest::Credit(bytes))),
            4 => bytes().prop_map(Happening::Input),
            1 => Just(Happening::InputEnd),
            1 => Just(Happening::Guest(FromGuest::Started)),
            1 => Just(Happening::Guest(FromGuest::InputClosed)),
            1 => Just(Happening::Guest(FromGuest::ExitCode(0))),
            1 => Just(Happening::GuestLost("lost".to_owned())),
            1 => Just(Happening::ClientGone("gone".to_owned())),
            1 => Just(Happening::Idle(Duration::from_secs(1))),
            1 => Just(Happening::Stopping),
            1 => Just(Happening::Unrecorded(Duration::from_mins(1))),
            1 => Just(Happening::Signal("INT".to_owned())),
            1 => Just(Happening::Resize { columns: 1, rows: 1 }),
        ]
    }

    proptest! {
        #[test]
        fn session_ends_once_and_input_stays_within_the_credit(
            has_pty: bool,
            happenings in proptest::collection::vec(happening(), 0..60),
        ) {
            let mut life = running(has_pty);
            let (mut ended, mut input_ended) = (false, false);
            let mut credit = u64::from(INITIAL_CREDIT);
            for happening in happenings {
                // The driver asks for no more than this.
                let happening = match happening {
                    Happening::Input(bytes) => {
                        Happening::Input(bytes.slice(..bytes.len().min(life.allowance())))
                    }
                    other => other,
                };
                if let Happening::Guest(FromGuest::Credit(granted)) = &happening {
                    credit += u64::from(*granted);
                }
                let effects = life.on(happening);
                prop_assert!(!ended || effects.is_empty(), "something after the end");
                for (place, effect) in effects.iter().enumerate() {
                    match effect {
                        Effect::End(_) => {
                            prop_assert_eq!(place, effects.len() - 1);
                            ended = true;
                        }
                        Effect::ToGuest(FromEdge::Input(bytes)) => {
                            prop_assert!(!input_ended && !bytes.is_empty());
                            credit = credit.checked_sub(bytes.len() as u64).expect("credit");
                        }
                        Effect::ToGuest(FromEdge::InputEnd) => input_ended = true,
                        Effect::Show(OutputStream::Stderr, _) => prop_assert!(!has_pty),
                        _ => {}
                    }
                }
            }
        }
    }
}
