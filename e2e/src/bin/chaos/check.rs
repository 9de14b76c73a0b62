//! The verdict (pure): is everything that was shown, or acknowledged to a sender, in the stream, and everything in
//! the stream at the receivers?
//!
//! It reads the evidence and nothing else. What it finds wrong it names: session, drain, offset.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::evidence::{Evidence, Facts};
use crate::lines::Way;
use crate::mutate::Mutation;

mod delivered;
mod sent;
mod shown;
mod stream;

pub(crate) use delivered::DrainTotals;
pub(crate) use sent::WayTotals;

/// How many findings of one kind are written out.
const MOST_TOLD: usize = 10;

/// What the check has found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) shown_bytes: u64,
    pub(crate) recorded_bytes: u64,
    pub(crate) sessions: usize,
    pub(crate) ways: BTreeMap<Way, WayTotals>,
    pub(crate) drains: Vec<DrainTotals>,
    /// Bytes, and events of one each, that are missing somewhere.
    pub(crate) lost: u64,
    /// Everything that is wrong, in sentences.
    pub(crate) findings: Findings,
}

/// Sentences, of which only the first of a kind are kept.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) told: Vec<String>,
    counts: std::collections::HashMap<&'static str, usize>,
}

impl Findings {
    pub(crate) fn add(&mut self, kind: &'static str, sentence: impl std::fmt::Display) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        match *count {
            ..=MOST_TOLD => self.told.push(format!("{kind}: {sentence}")),
            _ if *count == MOST_TOLD + 1 => self.told.push(format!("{kind}: and more of the kind")),
            _ => {}
        }
    }
}

/// Checks the evidence, with something taken away from it if a mutation is asked for.
pub(crate) fn check(
    evidence: &Evidence,
    facts: &Facts,
    mutation: Option<Mutation>,
) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let stream = stream::read(evidence, mutation, &mut verdict)?;
    shown::check(evidence, facts, &stream, mutation, &mut verdict)?;
    verdict.ways = sent::check(evidence, facts, &stream, mutation, &mut verdict)?;
    for drain in &facts.drains {
        // Taking it from one receiver must be enough.
        let mutation = mutation.filter(|_| verdict.drains.is_empty());
        let totals = delivered::check(evidence, facts, drain, &stream, mutation, &mut verdict)?;
        verdict.drains.push(totals);
    }
    for memory in facts.memory.iter().filter(|memory| memory.peak_kib > memory.bound_kib) {
        let sentence = format!(
            "{} used {} KiB, its bound is {} KiB",
            memory.process, memory.peak_kib, memory.bound_kib
        );
        verdict.findings.add("memory", sentence);
    }
    for container in &facts.containers_left {
        let sentence = format!("the container {container} has outlived its session by a minute");
        verdict.findings.add("left behind", sentence);
    }
    for fault in facts.faults.iter().filter(|fault| fault.failure.is_some()) {
        let why = fault.failure.as_deref().unwrap_or_default();
        verdict.findings.add("fault", format!("{} ({}): {why}", fault.kind, fault.detail));
    }
    Ok(verdict)
}
