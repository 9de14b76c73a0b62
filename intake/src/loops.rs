//! Log loops: a drain whose receiver logs back into the drain's own environment.
//!
//! What a drain sends says which drain it was, under the name `hop`. A line that comes in with the mark of a drain of
//! its own environment is in the stream already; taken in, it would be delivered again, for ever. So it is not
//! taken, its sender is told that it was (sending it again would not help), and the drain says so.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

use memchr::memmem::Finder;
use model::{Drain, Environment, Event, Fields, Id, LogLine, LogSource};
use store::intake::DrainLoop;

use crate::counts::Counts;

/// What the mark is called; ways in may put something and a dot in front.
const HOP: &str = "hop";
/// Digits of a mark.
const MARK_LENGTH: usize = 8;
/// Bytes between the name and the mark, in a text.
const MOST_BETWEEN: usize = 12;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(HOP));

/// What came in through which source, of which environment.
pub(crate) type SourceOf = (Id<Environment>, Id<LogSource>);

/// Each environment's drains, by their marks.
type Marks = HashMap<(Id<Environment>, String), Id<Drain>>;

/// The drains there are, and lines of theirs that came back. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loops {
    drains: Arc<RwLock<Marks>>,
    back: Arc<Mutex<HashMap<Id<Drain>, DrainLoop>>>,
    counts: Counts,
}

impl Loops {
    pub(crate) fn new(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }

    /// These are the drains now.
    pub(crate) fn know(&self, drains: Vec<(Id<Drain>, Id<Environment>)>) {
        let drains = drains.into_iter().map(|(drain, of)| ((of, drain.hop()), drain)).collect();
        *self.drains.write().unwrap_or_else(PoisonError::into_inner) = drains;
    }

    /// Takes out what a drain of the source's environment had delivered; that is counted.
    pub(crate) fn take_out(&self, source: SourceOf, events: &mut Vec<Event>) {
        self.retain(source, events, |event| match event {
            Event::Line(line) => Some(line),
            _ => None,
        });
    }

    /// The same of lines.
    pub(crate) fn take_out_lines(&self, source: SourceOf, lines: &mut Vec<LogLine>) {
        self.retain(source, lines, |line| Some(line));
    }

    fn retain<T>(&self, source: SourceOf, all: &mut Vec<T>, line: fn(&T) -> Option<&LogLine>) {
        let before = all.len();
        all.retain(|one| line(one).is_none_or(|line| !self.has_come_back(source, line)));
        if all.len() < before {
            self.counts.looped(source.1, before - all.len());
        }
    }

    fn has_come_back(&self, source: SourceOf, line: &LogLine) -> bool {
        let mut marks = marks_in_fields(&line.fields).chain(marks_in_text(&line.text)).peekable();
        // Mostly there is none.
        if marks.peek().is_none() {
            return false;
        }
        let drains = self.drains.read().unwrap_or_else(PoisonError::into_inner);
        let found = marks.find_map(|mark| drains.get(&(source.0, mark.to_owned())).copied());
        let Some(drain) = found else { return false };
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut back, DrainLoop { drain, source: source.1, lines: 1 });
        true
    }

    /// What came back since the last call.
    pub(crate) fn taken(&self) -> Vec<DrainLoop> {
        let back = std::mem::take(&mut *self.back.lock().unwrap_or_else(PoisonError::into_inner));
        back.into_values().collect()
    }

    /// What could not be told is told next time.
    pub(crate) fn give_back(&self, loops: Vec<DrainLoop>) {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        for one in loops {
            note(&mut back, one);
        }
    }
}

/// Marks that a way in has read.
fn marks_in_fields(fields: &Fields) -> impl Iterator<Item = &str> {
    let is_mark = |name: &str| {
        name.strip_suffix(HOP).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let may_have = FINDER.find(fields.packed()).is_some();
    let fields = may_have.then(|| fields.iter()).into_iter().flatten();
    fields.filter(move |(name, _)| is_mark(name)).map(|(_, mark)| mark)
}

/// Marks in a line that a receiver has written down as it came: `"hop":"01234567"`, also within a string of
/// JSON, and `hop="01234567"`.
fn marks_in_text(text: &[u8]) -> impl Iterator<Item = &str> {
    FINDER.find_iter(text).filter_map(|at| {
        let rest = text.get(at + HOP.len()..)?;
        let between = rest.iter().take_while(|byte| b"\\\":= ".contains(byte)).count();
        let mark = rest.get(between..between + MARK_LENGTH)?;
        let is_mark = (2..=MOST_BETWEEN).contains(&between)
            && mark.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        std::str::from_utf8(mark).ok().filter(|_| is_mark)
    })
}

fn note(back: &mut HashMap<Id<Drain>, DrainLoop>, found: DrainLoop) {
    let DrainLoop { drain, source, lines } = found;
    let kept = back.entry(drain).or_insert(DrainLoop { drain, source, lines: 0 });
    kept.lines = kept.lines.saturating_add(lines);
    kept.source = source;
}
