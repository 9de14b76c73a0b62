//! Log loops: a drain whose receiver logs back into the drain's own environment.
//!
//! What a drain sends says which drain it was, under the name `hop`. A line that comes in with the mark of a drain of
//! its own environment is in the stream already; taken in, it would be delivered again, for ever. So it is not
//! taken, its sender is told that it was (sending it again would not help), and the drain says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use model::{Drain, Environment, Event, Id, LogLine};
use store::intake::DrainLoop;

use crate::counts::Counts;
use crate::sources::Source;

/// The field that the mark is in; ways in may put something and a dot in front.
const HOP: &str = "hop";

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
    pub(crate) fn take_out(&self, source: &Source, events: &mut Vec<Event>) {
        self.retain(source, events, |event| match event {
            Event::Line(line) => Some(line),
            _ => None,
        });
    }

    /// The same of lines.
    pub(crate) fn take_out_lines(&self, source: &Source, lines: &mut Vec<LogLine>) {
        self.retain(source, lines, |line| Some(line));
    }

    fn retain<T>(&self, source: &Source, all: &mut Vec<T>, line: fn(&T) -> Option<&LogLine>) {
        let before = all.len();
        all.retain(|one| line(one).is_none_or(|line| !self.has_come_back(source, line)));
        if all.len() < before {
            self.counts.looped(source.id(), before - all.len());
        }
    }

    fn has_come_back(&self, source: &Source, line: &LogLine) -> bool {
        // Few lines have fields, and fewer this one.
        if memchr::memmem::find(line.fields.packed(), HOP.as_bytes()).is_none() {
            return false;
        }
        let is_mark = |name: &str| {
            name.strip_suffix(HOP).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let drains = self.drains.read().unwrap_or_else(PoisonError::into_inner);
        let found = line
            .fields
            .iter()
            .filter(|(name, _)| is_mark(name))
            .find_map(|(_, hop)| drains.get(&(source.environment(), hop.to_owned())).copied());
        let Some(drain) = found else { return false };
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut back, DrainLoop { drain, source: source.id(), lines: 1 });
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

fn note(back: &mut HashMap<Id<Drain>, DrainLoop>, found: DrainLoop) {
    let DrainLoop { drain, source, lines } = found;
    let kept = back.entry(drain).or_insert(DrainLoop { drain, source, lines: 0 });
    kept.lines = kept.lines.saturating_add(lines);
    kept.source = source;
}
