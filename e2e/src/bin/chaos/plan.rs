//! Which faults, when and on what: decided by the seed alone.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Kind {
    KillEdge,
    KillWorker,
    KillApi,
    KillBackend,
    KillPostgres,
    FreezeEdge,
    FreezeWorker,
    FreezeApi,
    KillIntake,
    FreezeIntake,
    CutSenders,
    FreezePostgres,
    KillClient,
    RestartDocker,
    SyslogCloseNotify,
    SyslogFin,
    SyslogReset,
    SyslogEveryFive,
    SyslogStall,
    HttpsClose,
    HttpsLostAnswer,
    HttpsStall,
    #[value(name = "https-503")]
    Https503,
    #[value(name = "https-429")]
    Https429,
    #[value(name = "https-413")]
    Https413,
    #[value(name = "https-400")]
    Https400,
    #[value(name = "https-401")]
    Https401,
    BlackHole,
    DiskFull,
    ClockStep,
}

/// A fault to come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    /// After the start of the attack.
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    /// How long it lasts, if it lasts.
    pub(crate) lasts: Duration,
    /// Chooses among what it can hit.
    pub(crate) choice: u32,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// Plans an attack of this length: every kind once, in any order, then every kind again. Faults
/// begin so that they overlap now and then.
pub(crate) fn plan(seed: u64, attack: Duration, kinds: &[Kind]) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut planned = Vec::new();
    let mut left: Vec<Kind> = Vec::new();
    let mut at = 2.0;
    // Short attacks have them closer together, so that most kinds fit.
    let between = (attack.as_secs_f64() / 60.0).clamp(1.2, 4.0);
    while at < attack.as_secs_f64() - 2.0 && !kinds.is_empty() {
        if left.is_empty() {
            left = kinds.to_vec();
            left.shuffle(&mut random);
        }
        let Some(kind) = left.pop() else { break };
        // Sometimes longer than leases (3 s) and heartbeats (20 s) allow.
        let longest = match kind {
            Kind::FreezeEdge | Kind::FreezeWorker | Kind::FreezeIntake
                if random.random_ratio(1, 4) =>
            {
                25.0
            }
            _ => 6.0,
        };
        let lasts = random.random_range(1.0..longest);
        let lasts = Duration::from_secs_f64(f64::min(lasts, attack.as_secs_f64() / 4.0));
        let choice = random.random();
        planned.push(Planned { at: Duration::from_secs_f64(at), kind, lasts, choice });
        at += random.random_range(0.3..2.0) * between;
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides_and_every_kind_comes() {
        let kinds = Kind::value_variants();
        let attack = Duration::from_mins(4);
        let first = plan(7, attack, kinds);
        assert_eq!(first, plan(7, attack, kinds));
        assert_ne!(first, plan(8, attack, kinds));
        assert!(kinds.iter().all(|kind| first.iter().any(|fault| fault.kind == *kind)));
        assert!(first.iter().all(|fault| fault.at < attack));
    }
}
