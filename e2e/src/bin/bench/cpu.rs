//! What processes have cost: CPU seconds and memory, from /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// /proc counts in `USER_HZ`, which is 100 on every architecture that matters (proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// One line of /proc/PID/stat.
#[derive(Debug, Clone)]
pub(crate) struct Stat {
    parent: i32,
    name: String,
    own_ticks: u64,
    children_ticks: u64,
}

impl Stat {
    /// Parses the line.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        // The name may have blanks and parentheses in it.
        let fields = || {
            let (head, tail) = line.rsplit_once(") ")?;
            let name = head.split_once('(')?.1.to_owned();
            let tail: Vec<&str> = tail.split_whitespace().collect();
            let number = |at: usize| tail.get(at)?.parse::<u64>().ok();
            Some(Self {
                parent: tail.get(1)?.parse().ok()?,
                name,
                own_ticks: number(11)? + number(12)?,
                children_ticks: number(13)? + number(14)?,
            })
        };
        fields().with_context(|| format!("no line of /proc/PID/stat: {line}"))
    }

    /// The process's own time.
    pub(crate) const fn own(&self) -> Duration {
        ticks(self.own_ticks)
    }

    /// The time of its children that have ended.
    pub(crate) const fn children(&self) -> Duration {
        ticks(self.children_ticks)
    }
}

const fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Which processes count.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A process and all its descendants, ended ones included.
    Tree(i32),
    /// A process alone, without the children that it has waited for.
    Alone(i32),
    /// Docker's daemon, its containerd and what they run to start containers.
    Docker,
}

/// The CPU time that these parts have used since they were started.
pub(crate) fn used(parts: &[Part]) -> Result<Duration> {
    let all = processes()?;
    let mut whole = BTreeSet::new();
    let mut alone = BTreeSet::new();
    for part in parts {
        match part {
            Part::Tree(root) => whole.extend(tree(&all, *root)),
            Part::Alone(pid) => alone.extend([*pid]),
            Part::Docker => {
                let daemons = all
                    .iter()
                    .filter(|(_, stat)| matches!(stat.name.as_str(), "dockerd" | "containerd"));
                whole.extend(daemons.flat_map(|(pid, _)| tree(&all, *pid)));
            }
        }
    }
    let whole =
        whole.iter().filter_map(|pid| all.get(pid)).map(|stat| stat.own() + stat.children());
    let alone = alone.iter().filter_map(|pid| all.get(pid)).map(Stat::own);
    Ok(whole.chain(alone).sum())
}

/// A process's resident memory, in bytes.
pub(crate) fn resident_bytes(pid: i32) -> Result<u64> {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The memory of a process and its descendants but for `root` itself, in bytes; what several share
/// is divided among them.
pub(crate) fn proportional_bytes_below(root: i32) -> Result<u64> {
    let all = processes()?;
    let below = tree(&all, root).into_iter().filter(|pid| *pid != root);
    // One may end meanwhile.
    Ok(below.filter_map(|pid| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:").ok()).sum())
}

/// The process that has started this one.
pub(crate) fn parent(pid: i32) -> Result<i32> {
    Ok(Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)?.parent)
}

fn kilobytes(file: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("{file} has no {field}"))? * 1024)
}

fn processes() -> Result<BTreeMap<i32, Stat>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since the folder was listed.
        if let Ok(line) = std::fs::read_to_string(entry.path().join("stat")) {
            all.insert(pid, Stat::parse(&line)?);
        }
    }
    Ok(all)
}

fn tree(all: &BTreeMap<i32, Stat>, root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}
