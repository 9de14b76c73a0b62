//! The tables as people read them: in README.md and on a terminal.

use std::fmt::Write as _;

use super::{Judged, Row, Table, median, spread};

/// The tables with the facts of the machine above.
pub(crate) fn render(facts: &str, tables: &[Table]) -> Result<String, std::fmt::Error> {
    let mut text = format!("{facts}\n");
    for table in tables {
        table.write(&mut text)?;
    }
    Ok(text)
}

impl Table {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let columns: Vec<usize> = (0..self.columns.len())
            .filter(|&column| self.rows.iter().any(|row| row.median(column).is_some()))
            .collect();
        write!(text, "\n| {} |", self.title)?;
        for &column in &columns {
            write!(text, " {} |", self.columns.get(column).map_or("", String::as_str))?;
        }
        let has_targets = self.rows.iter().any(|row| !row.targets.is_empty());
        writeln!(text, "{}", if has_targets { " Target |" } else { "" })?;
        let rules = "---|".repeat(columns.len() + usize::from(has_targets));
        writeln!(text, "|---|{rules}")?;
        for row in self.rows.iter().filter(|row| row.samples.iter().any(|all| !all.is_empty())) {
            write!(text, "| {}, {} |", row.what, row.unit)?;
            for &column in &columns {
                write!(
                    text,
                    " {} |",
                    row.samples.get(column).map_or(String::new(), |all| cell(all))
                )?;
            }
            if has_targets {
                write!(text, " {} |", self.targets(row))?;
            }
            writeln!(text)?;
        }
        Ok(())
    }

    fn targets(&self, row: &Row) -> String {
        let judged = row.targets.iter().filter_map(|target| row.judge(target));
        judged.map(|judged| self.verdict(&judged)).collect::<Vec<_>>().join("; ")
    }

    fn verdict(&self, judged: &Judged) -> String {
        let verdict = if judged.met { "met" } else { "**missed**" };
        let sign = if judged.at_least { "≥" } else { "≤" };
        let bound = number(judged.bound);
        let Some(rival) = judged.rival else { return format!("{verdict} ({sign} {bound})") };
        let rival = self.columns.get(rival).map_or("", String::as_str);
        let measured = number(judged.measured);
        if judged.is_difference {
            format!("{verdict}: {measured} more than {rival} ({sign} {bound})")
        } else {
            format!("{verdict}: {measured} of {rival} ({sign} {bound})")
        }
    }
}

fn cell(samples: &[f64]) -> String {
    let (Some(median), Some((least, most))) = (median(samples), spread(samples)) else {
        return String::new();
    };
    let (median, least, most) = (number(median), number(least), number(most));
    if least == most { median } else { format!("{median} ({least}–{most})") }
}

/// With three digits that say something.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 10_000.0 {
        thousands(value)
    } else if size >= 100.0 || value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Rounded to three digits, with commas.
fn thousands(value: f64) -> String {
    let step = 10_f64.powf(value.abs().log10().floor() - 2.0);
    let digits = format!("{:.0}", (value / step).round() * step);
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
