//! A running session: carries happenings to `life` and carries its effects out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use guest_protocol::FromEdge;
use model::{EphemeralSession, Event, Id, OutputStream};
use store::live_sessions::End;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::guest_link::{GuestLink, LinkError};
use super::inbox::{Input, Notice};
use super::life::{Effect, Ending, Happening, Life};
use super::opening::Opened;
use super::reveal::{Halt, QUEUE, Recorded, reveal};
use super::window::Window;
use super::{Closing, close_row};
use crate::edge::Edge;
use crate::gate::{NotDurable, cost};

const MAX_INPUT: usize = 64 * 1024;
const HANG_UP_DEADLINE: Duration = Duration::from_secs(1);
/// How long a client may take to read what led to the end, when that was not its program's exit.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(5);

const TOO_MUCH: &str = "it sent more than could be kept";
const LOST: &str = "another SSH edge has closed the session";

struct Running<'a> {
    edge: &'a Edge,
    opened: Opened,
    client: &'a Client,
    lost: &'a CancellationToken,
    life: Life,
    window: Window,
    recorded: mpsc::Sender<Recorded>,
    halted: watch::Receiver<Option<Halt>>,
    last_activity: Instant,
}

/// Runs an opened session to its very end: the last record, the row, the container.
pub(crate) async fn run(
    edge: &Edge,
    opened: Opened,
    client: Arc<Client>,
    lost: &CancellationToken,
) {
    let session = opened.admission.session;
    let idle_limit = opened.admission.destination.limits.idle;
    let window = Window::default();
    let (recorded, queue) = mpsc::channel(QUEUE);
    let (halt, halted) = watch::channel(None);
    let limit = edge.record_pause_limit;
    let revealing = reveal(queue, client.clone(), window.clone(), limit, halt);
    let revealing = edge.tasks.spawn(revealing);
    let mut running = Running {
        edge,
        life: Life::new(client.has_pty),
        opened,
        client: &client,
        lost,
        window: window.clone(),
        recorded,
        halted,
        last_activity: Instant::now(),
    };
    let ending = running.until_end(idle_limit).await;
    let output_bytes = running.opened.recorder.output_bytes();
    let Running { opened: Opened { link, .. }, recorded, .. } = running;
    drop(recorded);
    client.inbox.drop_input();
    let close = async {
        let patience = match &ending {
            Some(Ending { exit: Some(_), .. }) => idle_limit,
            Some(_) => LAST_WORDS_DEADLINE,
            None => {
                revealing.abort();
                return client.cut_off(LOST).await;
            }
        };
        match (until_revealed(revealing, &window, &client, patience).await, ending) {
            (Ok(()), Some(Ending { reason, aborted, exit })) => {
                let end = End { aborted, reason, exit, output_bytes: Some(output_bytes) };
                close_row(edge, session, &Closing::Ended(end)).await;
            }
            _ => client.cut_off(LOST).await,
        }
    };
    tokio::join!(close, dispose(edge, session, link));
}

impl Running<'_> {
    /// Its end, or `None` if others have the session now: then nothing is for this edge to record.
    async fn until_end(&mut self, idle_limit: Duration) -> Option<Ending> {
        loop {
            let happening = self.next(idle_limit).await?;
            let effects = self.life.on(happening);
            if let Some(ending) = self.carry_out(effects) {
                return Some(ending);
            }
        }
    }

    /// What happens next; `None`: others have the session.
    async fn next(&mut self, idle_limit: Duration) -> Option<Happening> {
        let inbox = &self.client.inbox;
        loop {
            let room = self.window.has_room();
            let link = &mut self.opened.link;
            let allowance = if link.is_free() { self.life.allowance().min(MAX_INPUT) } else { 0 };
            let idle_at = self.last_activity + idle_limit;
            let pause_at = self.opened.recorder.next_pause(self.edge.line_pause).filter(|_| room);
            // Every arm either has done nothing when it is lost, or says itself that it may be.
            let happening = tokio::select! {
                () = self.edge.tasks.requested() => Happening::Stopping,
                () = self.lost.cancelled() => return None,
                halt = halted(&mut self.halted) => match halt {
                    Halt::Unrecorded => Happening::Unrecorded(self.edge.record_pause_limit),
                    Halt::NotDurable => return None,
                },
                () = inbox.gone().cancelled(), if self.halted.borrow().is_none() => {
                    Happening::ClientGone(inbox.why_gone())
                }
                () = sleep_until(idle_at) => Happening::Idle(idle_limit),
                notice = inbox.next_notice(), if room => match notice {
                    Notice::Resize { columns, rows } => Happening::Resize { columns, rows },
                    Notice::Signal(name) => Happening::Signal(name),
                },
                input = inbox.next_input(allowance), if allowance > 0 => match input {
                    Input::Bytes(bytes) => Happening::Input(bytes),
                    Input::End => Happening::InputEnd,
                },
                frame = link.next(room) => match frame {
                    Ok(frame) => Happening::Guest(frame),
                    Err(error) => Happening::GuestLost(error.to_string()),
                },
                () = self.window.freed(), if !room => continue,
                () = sleep_until(pause_at.unwrap_or(idle_at)), if pause_at.is_some() => {
                    let pauses = self.opened.recorder.pauses(self.edge.line_pause);
                    if self.record(pauses) {
                        continue;
                    }
                    Happening::GuestLost(TOO_MUCH.to_owned())
                }
            };
            if !matches!(happening, Happening::Idle(_)) {
                self.last_activity = Instant::now();
            }
            return Some(happening);
        }
    }

    /// Carries effects out; what they record goes to the gate in one piece.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Option<Ending> {
        let mut events = Vec::with_capacity(effects.len());
        let mut told: Result<(), LinkError> = Ok(());
        let mut ending = None;
        for effect in effects {
            match effect {
                Effect::Record(event) => events.push(event),
                Effect::Show(stream, bytes) => events.push(self.output(stream, bytes)),
                Effect::Say(text) => {
                    let stream = if self.client.has_pty {
                        OutputStream::Stdout
                    } else {
                        OutputStream::Stderr
                    };
                    let sentence = self.client.sentence(&text);
                    events.push(self.output(stream, sentence.into()));
                }
                Effect::ToGuest(frame) => told = told.and(self.opened.link.send(&frame)),
                Effect::DropInput => self.client.inbox.drop_input(),
                Effect::End(end) => {
                    events.push(self.last_event(&end));
                    ending = Some(end);
                }
            }
        }
        let kept = self.record(events);
        if ending.is_some() {
            return ending;
        }
        // A session that cannot go on is told so to its state machine, which then ends it.
        let lost = match (told, kept) {
            (Err(error), _) => error.to_string(),
            (Ok(()), false) => TOO_MUCH.to_owned(),
            (Ok(()), true) => return None,
        };
        let effects = self.life.on(Happening::GuestLost(lost));
        self.carry_out(effects)
    }

    fn output(&mut self, stream: OutputStream, bytes: Bytes) -> Event {
        self.opened.recorder.output(stream, bytes)
    }

    fn last_event(&self, ending: &Ending) -> Event {
        Event::SessionEnded {
            reason: ending.reason.clone(),
            aborted: ending.aborted,
            output_bytes: self.opened.recorder.output_bytes(),
            duration: self.opened.began.elapsed(),
        }
    }

    /// Records events and queues them to be shown; false if the queue is full.
    fn record(&mut self, events: Vec<Event>) -> bool {
        if events.is_empty() {
            return true;
        }
        let costs: Vec<usize> = events.iter().map(cost).collect();
        let submitted = Instant::now();
        let durables = self.opened.recorder.record(events);
        costs.into_iter().zip(durables).all(|(cost, durable)| {
            self.window.take(cost);
            self.recorded.try_send(Recorded { durable, cost, submitted }).is_ok()
        })
    }
}

/// Waits until nothing more is shown.
async fn halted(halted: &mut watch::Receiver<Option<Halt>>) -> Halt {
    match halted.wait_for(Option::is_some).await.map(|halt| *halt) {
        Ok(Some(halt)) => halt,
        Ok(None) | Err(_) => Halt::NotDurable,
    }
}

/// Waits until everything is durable and shown. A client that reads nothing for so long is given up.
async fn until_revealed(
    mut revealing: JoinHandle<Result<(), NotDurable>>,
    window: &Window,
    client: &Client,
    patience: Duration,
) -> Result<(), NotDurable> {
    loop {
        let before = window.used();
        // Losing the pause loses nothing; the task goes on by itself.
        tokio::select! {
            revealed = &mut revealing => return revealed.unwrap_or(Err(NotDurable)),
            () = sleep(patience) => {
                // While records cannot be kept, it is not the client that does not read.
                if window.used() == before && client.is_showing.load(Ordering::Relaxed) {
                    client.inbox.close("the client did not read");
                }
            }
        }
    }
}

/// Ends what still runs in the container, and removes it.
async fn dispose(edge: &Edge, session: Id<EphemeralSession>, mut link: GuestLink) {
    // Best effort: the guest ends its programs as well when the connection breaks.
    if link.send(&FromEdge::HangUp).is_ok() {
        drop(timeout(HANG_UP_DEADLINE, link.flush()).await);
    }
    drop(link);
    edge.remove_container(session).await;
}
