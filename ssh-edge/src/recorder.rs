//! One session's records: numbered without a gap, in time's order, outputs with their offsets, and the
//! pauses after which what was written counts as a line.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Event, Origin, OutputStream, Record, Timestamp};
use tokio::time::Instant;

use crate::gate::{Durable, Gate};

/// Numbers a session's records and submits them.
pub(crate) struct Recorder {
    gate: Gate,
    origin: Arc<Origin>,
    next_seq: u64,
    last_at: Timestamp,
    stdout: Written,
    stderr: Written,
}

/// What a program wrote to one of its outputs.
#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    /// When the last bytes came, if no pause has followed.
    last: Option<Instant>,
}

impl Recorder {
    /// For a session that has no record yet.
    #[must_use]
    pub(crate) fn new(gate: Gate, origin: Origin) -> Self {
        Self::resume(gate, origin, 0, Timestamp::default())
    }

    /// For a session that has records up to `next_seq`, the last of them made at `last_at`.
    #[must_use]
    pub(crate) fn resume(gate: Gate, origin: Origin, next_seq: u64, last_at: Timestamp) -> Self {
        Self {
            gate,
            origin: Arc::new(origin),
            next_seq,
            last_at,
            stdout: Written::default(),
            stderr: Written::default(),
        }
    }

    /// Submits events in order; each future resolves to its event when that is durable.
    pub(crate) fn record(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Durable> {
        let records: Vec<Record> = events.into_iter().map(|event| self.number(event)).collect();
        self.gate.submit(self.origin.environment.id, records)
    }

    /// What a program wrote, as an event.
    pub(crate) fn output(&mut self, stream: OutputStream, bytes: Bytes) -> Event {
        let written = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let offset = written.bytes;
        written.bytes += bytes.len() as u64;
        if !bytes.is_empty() {
            written.last = Some(Instant::now());
        }
        Event::Output { stream, offset, bytes }
    }

    /// Bytes of output so far, standard output and standard error together.
    #[must_use]
    pub(crate) const fn output_bytes(&self) -> u64 {
        self.stdout.bytes + self.stderr.bytes
    }

    /// When the first output has paused for so long.
    pub(crate) fn next_pause(&self, pause: Duration) -> Option<Instant> {
        let times = [self.stdout.last, self.stderr.last];
        times.into_iter().flatten().min().map(|since| since + pause)
    }

    /// The outputs that have paused for so long, as events; each pause once.
    pub(crate) fn pauses(&mut self, pause: Duration) -> Vec<Event> {
        let outputs = [
            (OutputStream::Stdout, &mut self.stdout.last),
            (OutputStream::Stderr, &mut self.stderr.last),
        ];
        outputs
            .into_iter()
            .filter_map(|(stream, last)| {
                last.take_if(|since| since.elapsed() >= pause)?;
                Some(Event::Pause { stream })
            })
            .collect()
    }

    fn number(&mut self, event: Event) -> Record {
        // The system's clock may be set back; a session's time is not.
        self.last_at = self.last_at.max(Timestamp::now());
        let record =
            Record { origin: self.origin.clone(), seq: self.next_seq, at: self.last_at, event };
        self.next_seq += 1;
        record
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use model::{EnvironmentTag, Id, Producer, Source};
    use service::Shutdown;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn each_output_pauses_once_until_more_comes() {
        let origin = Origin {
            producer: Id::<Producer>::generate(),
            source: Source::EphemeralSession,
            environment: EnvironmentTag {
                id: Id::generate(),
                handle: "production".parse().expect("a handle"),
                organization: Id::generate(),
            },
            app: None,
            database: None,
            session: None,
        };
        let mut recorder = Recorder::new(Gate::open(Shutdown::new()), origin);
        let write = |recorder: &mut Recorder, stream, bytes: &'static str| {
            recorder.output(stream, Bytes::from_static(bytes.as_bytes()));
        };
        let out = Event::Pause { stream: OutputStream::Stdout };
        let err = Event::Pause { stream: OutputStream::Stderr };

        write(&mut recorder, OutputStream::Stdout, "line\nprompt$ ");
        write(&mut recorder, OutputStream::Stderr, "password: ");
        let at = recorder.next_pause(PAUSE).expect("a pause to come");
        assert!(recorder.pauses(Duration::from_mins(1)).is_empty());
        sleep(PAUSE);
        assert!(at <= Instant::now());
        assert_eq!(recorder.pauses(PAUSE), [out.clone(), err]);
        assert_eq!((recorder.next_pause(PAUSE), recorder.pauses(PAUSE)), (None, Vec::new()));

        write(&mut recorder, OutputStream::Stdout, "ls\r\n");
        sleep(PAUSE);
        assert_eq!(recorder.pauses(PAUSE), [out]);
        write(&mut recorder, OutputStream::Stdout, "");
        assert_eq!(recorder.next_pause(PAUSE), None);
    }
}
