//! The gate before a stream that fails, is slow, and does not say what it has kept.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use log_stream::{AppendError, Position, ReadError};
use model::{EnvironmentTag, EphemeralSession, Handle, Origin, OutputStream, Producer, Source};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::recorder::Recorder;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Kept,
    /// Kept, and the answer takes a while.
    Slow,
    Refused,
    /// Kept, but the answer is lost.
    KeptUnknown,
    LostUnknown,
}

#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    outcomes: VecDeque<Outcome>,
    ids: HashSet<Uuid>,
    records: Vec<Record>,
    in_flight: HashSet<Id<Environment>>,
    overlapped: bool,
}

impl Memory {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }

    fn holds(&self, producer: Id<Producer>, event: &Event) -> bool {
        let state = self.state();
        state.records.iter().any(|r| r.origin.producer == producer && r.event == *event)
    }
}

#[async_trait]
impl LogStream for Memory {
    async fn append(&self, block: Arc<Block>) -> Result<(), AppendError> {
        let records = block.records().expect("a good block");
        let environment = records[0].origin.environment.id;
        let outcome = {
            let mut state = self.state();
            state.overlapped |= !state.in_flight.insert(environment);
            state.outcomes.pop_front().unwrap_or(Outcome::Kept)
        };
        tokio::task::yield_now().await;
        if outcome == Outcome::Slow {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let mut state = self.state();
        state.in_flight.remove(&environment);
        if !matches!(outcome, Outcome::Refused | Outcome::LostUnknown)
            && state.ids.insert(block.id())
        {
            state.records.extend(records);
        }
        match outcome {
            Outcome::Kept | Outcome::Slow => Ok(()),
            Outcome::Refused => Err(AppendError::Refused("full".to_owned())),
            Outcome::KeptUnknown | Outcome::LostUnknown => {
                Err(AppendError::Unknown("cut".to_owned()))
            }
        }
    }

    fn read(
        &self,
        _environment: Id<Environment>,
        _from: Position,
    ) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
        Box::pin(futures_util::stream::empty())
    }
}

fn origin(environment: Id<Environment>) -> Origin {
    let handle: Handle = "test".parse().expect("a handle");
    Origin {
        producer: Id::<EphemeralSession>::generate().producer(),
        source: Source::EphemeralSession,
        environment: EnvironmentTag { id: environment, handle, organization: Id::generate() },
        app: None,
        database: None,
        session: None,
    }
}

fn gate(outcomes: Vec<Outcome>) -> (Arc<Memory>, Gate) {
    let memory = Arc::new(Memory::default());
    memory.state().outcomes = outcomes.into();
    (memory.clone(), Gate::new(memory, Shutdown::new()))
}

/// One session: writes its outputs, some at a time, and looks that each is kept when it comes back.
async fn session(
    memory: Arc<Memory>,
    mut recorder: Recorder,
    producer: Id<Producer>,
    lengths: Vec<usize>,
) -> Vec<Event> {
    let mut shown = Vec::new();
    // As many as make more than a block sometimes, so that the next is packed ahead.
    for lengths in lengths.chunks(12) {
        let events: Vec<Event> = lengths
            .iter()
            .map(|&length| {
                let stream =
                    if length % 2 == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
                recorder.output(stream, vec![7; length].into())
            })
            .collect();
        for durable in recorder.record(events) {
            let event = durable.await.expect("durable");
            assert!(memory.holds(producer, &event), "shown before it was kept");
            shown.push(event);
        }
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_stream_does_records_are_kept_once_in_order_and_before_they_are_shown(
        outcomes in proptest::collection::vec(
            prop_oneof![
                4 => Just(Outcome::Kept),
                2 => Just(Outcome::Slow),
                1 => Just(Outcome::Refused),
                1 => Just(Outcome::KeptUnknown),
                1 => Just(Outcome::LostUnknown),
            ],
            0..12,
        ),
        sessions in proptest::collection::vec(
            (0..2_usize, proptest::collection::vec(0..200_000_usize, 1..36)),
            1..5,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (memory, shown) = runtime.block_on(async {
            let (memory, gate) = gate(outcomes);
            let environments = [Id::generate(), Id::generate()];
            let running = sessions.into_iter().map(|(environment, lengths)| {
                let origin = origin(environments[environment]);
                let producer = origin.producer;
                let recorder = Recorder::new(gate.clone(), origin);
                let memory = memory.clone();
                async move { (producer, session(memory, recorder, producer, lengths).await) }
            });
            (memory.clone(), futures_util::future::join_all(running).await)
        });
        let state = memory.state();
        prop_assert!(!state.overlapped, "two appends of one environment at a time");
        for (producer, shown) in shown {
            let kept: Vec<&Record> =
                state.records.iter().filter(|r| r.origin.producer == producer).collect();
            let mut offsets = [0, 0];
            for (place, record) in kept.iter().enumerate() {
                prop_assert_eq!(record.seq, place as u64);
                let Event::Output { stream, offset, bytes } = &record.event else { continue };
                let expected = &mut offsets[usize::from(*stream == OutputStream::Stderr)];
                prop_assert_eq!(*offset, *expected);
                *expected += bytes.len() as u64;
            }
            prop_assert!(kept.is_sorted_by_key(|record| record.at));
            let kept: Vec<&Event> = kept.into_iter().map(|record| &record.event).collect();
            prop_assert_eq!(kept, shown.iter().collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn what_waits_is_sent_in_one_block_and_nothing_stays() {
    let (memory, gate) = gate(vec![Outcome::Slow]);
    let mut recorder = Recorder::new(gate.clone(), origin(Id::generate()));
    let mut durables = Vec::new();
    for _ in 0..100 {
        durables.extend(recorder.record([Event::Shell]));
        tokio::task::yield_now().await;
    }
    for durable in durables {
        durable.await.expect("durable");
    }
    assert_eq!(memory.state().ids.len(), 2, "the first, and all that came meanwhile");
    tokio::task::yield_now().await;
    assert!(gate.lanes.is_empty());
}

#[tokio::test]
async fn what_follows_bulk_output_is_gathered_and_what_follows_a_key_is_not() {
    for (length, blocks) in [(BULK, 2), (10, 5)] {
        let (memory, gate) = gate(Vec::new());
        let mut recorder = Recorder::new(gate, origin(Id::generate()));
        let output = recorder.output(OutputStream::Stdout, vec![7; length].into());
        recorder.record([output]).remove(0).await.expect("durable");
        let mut durables = Vec::new();
        for _ in 0..4 {
            durables.extend(recorder.record([Event::Shell]));
            // Time enough for an append, and less than gathering takes.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        for durable in durables {
            durable.await.expect("durable");
        }
        assert_eq!(memory.state().ids.len(), blocks, "after {length} bytes");
    }
}

#[tokio::test]
async fn blocks_are_bounded() {
    let (memory, gate) = gate(vec![Outcome::Slow]);
    let mut recorder = Recorder::new(gate, origin(Id::generate()));
    let outputs: Vec<Event> =
        (0..64).map(|_| recorder.output(OutputStream::Stdout, vec![0; 65_536].into())).collect();
    for durable in recorder.record(outputs) {
        durable.await.expect("durable");
    }
    assert!((4..=5).contains(&memory.state().ids.len()), "{}", memory.state().ids.len());
}

#[tokio::test]
async fn abandoned_gate_reveals_nothing_and_takes_nothing() {
    let (memory, gate) = gate(vec![Outcome::LostUnknown; 1000]);
    let mut recorder = Recorder::new(gate.clone(), origin(Id::generate()));
    let before = recorder.record([Event::Shell]).remove(0);
    let waiting = gate.tasks.spawn(before);
    tokio::time::sleep(Duration::from_millis(10)).await;
    gate.abandon();
    assert_eq!(waiting.await.expect("no panic"), Err(NotDurable));
    assert_eq!(recorder.record([Event::Shell]).remove(0).await, Err(NotDurable));
    assert!(memory.state().records.is_empty());
}

#[tokio::test]
async fn open_gate_gives_everything_back_in_order_and_keeps_nothing() {
    let gate = Gate::open(Shutdown::new());
    let mut recorder = Recorder::new(gate.clone(), origin(Id::generate()));
    let output = recorder.output(OutputStream::Stdout, vec![7; 10].into());
    let events = [Event::Shell, output];
    for (event, durable) in events.clone().into_iter().zip(recorder.record(events)) {
        assert_eq!(durable.await, Ok(event));
    }
    assert!(gate.lanes.is_empty());
}
