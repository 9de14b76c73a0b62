//! Log loops: a drain whose receiver logs back into the drain's own environment.
//!
//! What a drain sends says which drain it was, under the name `hop`. A line that comes in with the mark of a drain of
//! its own environment is one that it has delivered; delivered again, it would come back for ever. So that is noted on
//! it, and this drain leaves it out and says so. It is in the stream all the same, and goes to other drains: whoever
//! knows a mark, and gets it into a line, makes nothing disappear.

use std::collections::{BTreeMap, HashMap};
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

    /// Notes on a line which drains of its environment have delivered it before; that is counted.
    pub(crate) fn mark(&self, source: SourceOf, line: &mut LogLine) {
        let mut marks = marks_in_fields(&line.fields).chain(marks_in_text(&line.text)).peekable();
        // Mostly there is none.
        if marks.peek().is_none() {
            return;
        }
        let found: BTreeMap<String, Id<Drain>> = {
            let drains = self.drains.read().unwrap_or_else(PoisonError::into_inner);
            let known = |mark: &str| drains.get(&(source.0, mark.to_owned())).copied();
            marks.filter_map(|mark| Some((mark.to_owned(), known(mark)?))).collect()
        };
        if found.is_empty() {
            return;
        }
        let looped = found.keys().map(|mark| (LogLine::LOOPED, mark.as_str()));
        line.fields = line.fields.iter().chain(looped).collect();
        self.counts.looped(source.1, 1);
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        for drain in found.into_values() {
            note(&mut back, DrainLoop { drain, source: source.1, lines: 1 });
        }
    }

    /// The same of those events that are lines.
    pub(crate) fn mark_events(&self, source: SourceOf, events: &mut [Event]) {
        for event in events {
            if let Event::Line(line) = event {
                self.mark(source, line);
            }
        }
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
