//! Lines of apps at a receiver, against the stream: each producer's in their order, and all of them.

use super::{Progress, Recorded};
use crate::check::Verdict;
use crate::evidence::{Arrival, Drain};

/// A record of an app; tells when it came before, if it did.
pub(super) fn record(
    arrival: &Arrival,
    drain: &Drain,
    recorded: &Recorded,
    progress: &mut Progress,
    verdict: &mut Verdict,
) -> Option<u64> {
    let (producer, seq) = (arrival.producer, arrival.seq);
    let at = format!("{}: producer {producer}, record {seq}", drain.handle);
    let records = recorded.producers.get(&producer).map(|producer| &producer.records);
    let kept = records.and_then(|records| records.get(usize::try_from(seq).ok()?));
    match kept {
        None => verdict.findings.add("delivered", format!("{at}: there is no such record")),
        Some(Some(text)) if *text != arrival.message => {
            verdict.findings.add("delivered", format!("{at}: the line is not what was recorded"));
        }
        Some(_) => {}
    }
    if arrival.id != format!("{producer}:{seq}") {
        verdict.findings.add("delivered", format!("{at}: the line's id is {}", arrival.id));
    }
    if let Some(first) = progress.events.get(&(producer, seq)) {
        return Some(*first);
    }
    progress.events.insert((producer, seq), progress.arrivals);
    let next = progress.next_record.entry(producer).or_default();
    if seq > *next {
        verdict.lost += seq - *next;
        verdict.findings.add("lost", format!("{at}: it comes after record {next}"));
    } else if seq < *next {
        verdict.findings.add("delivered", format!("{at}: it comes after record {next}"));
    }
    *next = (seq + 1).max(*next);
    None
}

/// Everything that is recorded has come.
pub(super) fn ends(drain: &Drain, recorded: &Recorded, progress: &Progress, verdict: &mut Verdict) {
    for (id, producer) in &recorded.producers {
        let (all, next) = (producer.records.len() as u64, progress.next_record.get(id));
        let missing = all - next.copied().unwrap_or_default().min(all);
        if missing > 0 {
            verdict.lost += missing;
            let sentence =
                format!("{}: producer {id}: the last {missing} records never came", drain.handle);
            verdict.findings.add("lost", sentence);
        }
    }
}
