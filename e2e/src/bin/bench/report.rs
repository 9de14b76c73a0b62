//! What was measured: tables of rows, a column for each contestant, and the targets.
//!
//! A figure is the median of its samples, one per round; spread and number of samples go with it.

use serde_json::{Value, json};

mod markdown;

pub(crate) use markdown::render;

/// One part of the benchmark.
#[derive(Debug)]
pub(crate) struct Table {
    title: &'static str,
    columns: Vec<String>,
    rows: Vec<Row>,
}

/// One thing that is measured of every contestant.
#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    /// By column.
    samples: Vec<Vec<f64>>,
    targets: Vec<Target>,
}

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowId(usize);

/// What a row's first column, which is Spillway's, should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Divided by another column's, at most this.
    RatioAtMost(usize, f64),
    /// Divided by another column's, at least this.
    RatioAtLeast(usize, f64),
    /// At most so much more than another column's.
    AboveAtMost(usize, f64),
}

impl Table {
    /// A table without rows. The first column is Spillway's.
    pub(crate) fn new(title: &'static str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title, columns, rows: Vec::new() }
    }

    /// The row with this name, made if it is new.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        targets: &[Target],
    ) -> RowId {
        let what = what.into();
        if let Some(at) = self.rows.iter().position(|row| row.what == what) {
            return RowId(at);
        }
        let samples = vec![Vec::new(); self.columns.len()];
        self.rows.push(Row { what, unit, samples, targets: targets.to_vec() });
        RowId(self.rows.len() - 1)
    }

    /// Takes one round's figure.
    pub(crate) fn add(&mut self, row: RowId, column: usize, sample: f64) {
        let row = self.rows.get_mut(row.0);
        if let Some(samples) = row.and_then(|row| row.samples.get_mut(column)) {
            samples.push(sample);
        }
    }

    /// Everything, for programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "title": self.title, "rows": self.rows.iter().map(|row| row.to_json(&self.columns)).collect::<Vec<_>>() })
    }

    /// How many targets were met, and how many there are.
    pub(crate) fn met(&self) -> (usize, usize) {
        let judged =
            self.rows.iter().flat_map(|row| row.targets.iter().map(|target| row.judge(target)));
        let judged: Vec<_> = judged.flatten().collect();
        (judged.iter().filter(|judged| judged.met).count(), judged.len())
    }
}

/// A target, compared with what was measured.
struct Judged {
    measured: f64,
    bound: f64,
    at_least: bool,
    /// The column that it is compared with.
    rival: Option<usize>,
    is_difference: bool,
    met: bool,
}

impl Row {
    fn median(&self, column: usize) -> Option<f64> {
        median(self.samples.get(column)?)
    }

    /// `None` where something was not measured.
    fn judge(&self, target: &Target) -> Option<Judged> {
        let ours = self.median(0)?;
        let (measured, bound, at_least, rival) = match *target {
            Target::AtMost(bound) => (ours, bound, false, None),
            Target::AtLeast(bound) => (ours, bound, true, None),
            Target::RatioAtMost(rival, bound) => {
                (ours / self.median(rival)?, bound, false, Some(rival))
            }
            Target::RatioAtLeast(rival, bound) => {
                (ours / self.median(rival)?, bound, true, Some(rival))
            }
            Target::AboveAtMost(rival, bound) => {
                (ours - self.median(rival)?, bound, false, Some(rival))
            }
        };
        let met = if at_least { measured >= bound } else { measured <= bound };
        let is_difference = matches!(target, Target::AboveAtMost(..));
        Some(Judged { measured, bound, at_least, rival, is_difference, met })
    }

    fn to_json(&self, columns: &[String]) -> Value {
        let figures = columns.iter().zip(&self.samples).filter(|(_, samples)| !samples.is_empty());
        let figures = figures.map(|(column, samples)| {
            let spread = spread(samples);
            let figure = json!({
                "median": median(samples), "least": spread.map(|spread| spread.0),
                "most": spread.map(|spread| spread.1), "samples": samples,
            });
            (column.clone(), figure)
        });
        let targets = self.targets.iter().filter_map(|target| self.judge(target)).map(|judged| {
            json!({
                "measured": judged.measured,
                "bound": judged.bound,
                "is": if judged.at_least { "at least" } else { "at most" },
                "of": match (judged.rival, judged.is_difference) {
                    (None, _) => "the figure",
                    (Some(_), false) => "the ratio",
                    (Some(_), true) => "the difference",
                },
                "rival": judged.rival.and_then(|rival| columns.get(rival)),
                "met": judged.met,
            })
        });
        json!({
            "what": self.what,
            "unit": self.unit,
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

/// The middle of the samples; of two, their mean.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(*sorted.get(low)?, *sorted.get(high)?))
}

/// The sample below or at which this share of them is.
pub(crate) fn percentile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[allow(clippy::cast_sign_loss, reason = "neither is negative")]
    let at = (share * last as f64).ceil() as usize;
    sorted.get(at.min(last)).copied()
}

fn spread(samples: &[f64]) -> Option<(f64, f64)> {
    let least = samples.iter().copied().min_by(f64::total_cmp)?;
    let most = samples.iter().copied().max_by(f64::total_cmp)?;
    Some((least, most))
}
