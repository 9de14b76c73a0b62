//! What a run has found, as a table.

use std::collections::BTreeMap;

use crate::check::{DrainTotals, Verdict};
use crate::evidence::Facts;

/// The whole report, and last the one line that says it all.
pub(crate) fn report(facts: &Facts, verdict: &Verdict) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("{:<20} {:>6} {:>12} {:>12}", "fault", "times", "recovery p50", "longest"));
    let mut kinds: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for fault in &facts.faults {
        kinds.entry(&fault.kind).or_default().push(fault);
    }
    for (kind, faults) in kinds {
        let done = faults.iter().filter(|fault| fault.not_run.is_none());
        let mut seconds: Vec<f64> =
            done.clone().filter_map(|fault| fault.recovered_after).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
        let longest = seconds.last().copied().unwrap_or_default();
        let not_run = faults.iter().filter(|fault| fault.not_run.is_some()).count();
        let not_run = if not_run > 0 { format!("  {not_run} NOT RUN") } else { String::new() };
        let times = done.count();
        line(format!("{kind:<20} {times:>6} {median:>10.2} s {longest:>10.2} s{not_run}"));
    }

    line(String::new());
    line(format!(
        "{:<14} {:>8} {:>8} {:>14} {:>16}",
        "sessions", "clients", "exit 0", "longest pause", "at"
    ));
    let mut programs: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for client in &facts.clients {
        programs.entry(client.program.name()).or_default().push(client);
    }
    for (program, clients) in programs {
        let well = clients.iter().filter(|client| client.status == Some(0)).count();
        let longest = clients.iter().max_by(|a, b| a.longest_pause.total_cmp(&b.longest_pause));
        let (pause, at) = longest.map_or((0.0, 0.0), |c| (c.longest_pause, c.pause_began));
        let count = clients.len();
        line(format!("{program:<14} {count:>8} {well:>8} {pause:>12.2} s {at:>14.1} s"));
    }
    for (sentence, count) in &facts.refusals {
        line(format!("refused {count} times: {sentence}"));
    }
    line(format!(
        "{} sessions in the stream, {} bytes recorded, {} bytes shown, in {:.0} s of attack",
        verdict.sessions, verdict.recorded_bytes, verdict.shown_bytes, facts.attack_seconds
    ));

    line(String::new());
    line(format!(
        "{:<8} {:>10} {:>12} {:>9} {:>12} {:>7} {:>12} {:>9} {:>12}",
        "drain",
        "lines",
        "bytes",
        "repeated",
        "bytes",
        "times",
        "most at once",
        "rejected",
        "connections"
    ));
    for drain in &verdict.drains {
        line(format!(
            "{:<8} {:>10} {:>12} {:>9} {:>12} {:>7} {:>12} {:>9} {:>12}",
            drain.handle,
            drain.lines,
            drain.bytes,
            drain.repeated_lines,
            drain.repeated_bytes,
            drain.redeliveries,
            drain.largest_repeat,
            drain.rejected,
            drain.connections
        ));
    }

    line(String::new());
    line(ways(verdict).join("\n"));

    line(String::new());
    line(format!("{:<12} {:>12} {:>12}", "memory", "peak MiB", "bound MiB"));
    for memory in &facts.memory {
        let mib = |kib: u64| kib / 1024;
        let (peak, bound) = (mib(memory.peak_kib), mib(memory.bound_kib));
        line(format!("{:<12} {peak:>12} {bound:>12}", memory.process));
    }

    if !verdict.findings.told.is_empty() {
        line(String::new());
        line("WRONG:".to_owned());
        for finding in &verdict.findings.told {
            line(format!("  {finding}"));
        }
    }
    line(String::new());
    let delivered: u64 = verdict.drains.iter().map(|drain| drain.lines).sum();
    let repeated: u64 = verdict.drains.iter().map(|drain| drain.repeated_lines).sum();
    line(format!(
        "chaos: {} shown, {delivered} delivered, {} lost, {repeated} repeated, seed {}",
        verdict.shown_bytes, verdict.lost, facts.seed
    ));
    out
}

/// The ways in, a line each.
fn ways(verdict: &Verdict) -> Vec<String> {
    let handles =
        verdict.drains.iter().map(|drain| format!("{:>9}", format!("at {}", drain.handle)));
    let handles: Vec<_> = handles.collect();
    let mut lines = vec![format!(
        "{:<10} {:>8} {:>12} {:>9} {} {:>6} {:>8} {:>8}",
        "lines",
        "sent",
        "acknowledged",
        "in stream",
        handles.join(" "),
        "lost",
        "repeated",
        "cut off"
    )];
    for (way, totals) in &verdict.ways {
        let at = |drain: &DrainTotals| drain.by_way.get(way).copied().unwrap_or_default();
        let at = verdict.drains.iter().map(|drain| format!("{:>9}", at(drain)));
        let acknowledged =
            totals.acknowledged.map_or_else(|| "-".to_owned(), |lines| lines.to_string());
        lines.push(format!(
            "{:<10} {:>8} {acknowledged:>12} {:>9} {} {:>6} {:>8} {:>8}  {}",
            totals.name,
            totals.sent,
            totals.recorded,
            at.collect::<Vec<_>>().join(" "),
            totals.lost,
            totals.repeated,
            totals.cut_off,
            totals.remark
        ));
    }
    lines
}
