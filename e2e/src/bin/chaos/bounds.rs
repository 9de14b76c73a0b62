//! What the platform promises in figures.

use crate::evidence::Fault;

/// The most that comes again after one interruption: a drain's redelivery window, which what was
/// delivered after the position that was last written counts towards.
pub(crate) const REDELIVERY_BYTES: u64 = 8 << 20;

/// The most memory that a service may have resident, in KiB.
pub(crate) const EDGE_KIB: u64 = 256 << 10;
pub(crate) const WORKER_KIB: u64 = 256 << 10;
pub(crate) const INTAKE_KIB: u64 = 256 << 10;
pub(crate) const API_KIB: u64 = 128 << 10;

/// Faults that may make every drain send something again.
pub(crate) fn interruptions(faults: &[Fault]) -> u64 {
    const HITTING: [&str; 8] = [
        "kill-worker",
        "freeze-worker",
        "kill-backend",
        "kill-postgres",
        "freeze-postgres",
        "disk-full",
        "black-hole",
        "clock-step",
    ];
    faults.iter().filter(|fault| HITTING.contains(&fault.kind.as_str())).count() as u64
}

/// How long before the end of a connection that nobody closes in order the last of what was lost with it may have
/// been written, while the platform works: an intake has a mebibyte of a connection's messages at most that are not
/// durable, and goes on reading at once.
const ON_ITS_WAY: f64 = 5.0;
/// Between a process's death and its peer's noticing.
const NOTICING: f64 = 5.0;

/// When a process was killed, in seconds after the start.
pub(crate) fn kills(faults: &[Fault], member: &str) -> Vec<f64> {
    let of_member =
        |fault: &&Fault| fault.kind.starts_with("kill-") && fault.member.as_deref() == Some(member);
    faults.iter().filter(of_member).map(|fault| fault.began).collect()
}

/// Whether what was written at some time may have been on its way still when its connection was reset, or its intake
/// killed: what stops the stream, or the intake, holds it up.
pub(crate) fn may_be_cut_off(faults: &[Fault], written: f64, ended: f64) -> bool {
    const HOLDING: [&str; 5] =
        ["kill-backend", "kill-postgres", "freeze-postgres", "disk-full", "freeze-intake"];
    let mut since = ended;
    let holding = faults.iter().filter(|fault| HOLDING.contains(&fault.kind.as_str()));
    let mut holding: Vec<&Fault> = holding.filter(|fault| fault.began < ended).collect();
    holding.sort_by(|one, other| other.healed.total_cmp(&one.healed));
    for fault in holding {
        let recovered = fault.healed + fault.recovered_after.unwrap_or_default();
        if recovered + ON_ITS_WAY >= since {
            since = since.min(fault.began);
        }
    }
    (since - ON_ITS_WAY..=ended + NOTICING).contains(&written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: &str, member: &str, began: f64, healed: f64) -> Fault {
        Fault {
            kind: kind.to_owned(),
            detail: String::new(),
            member: Some(member.to_owned()),
            began,
            healed,
            recovered_after: Some(1.0),
            not_run: None,
            failure: None,
        }
    }

    #[test]
    fn only_what_was_written_right_before_the_end_may_be_cut_off() {
        assert!(may_be_cut_off(&[], 98.0, 100.0) && may_be_cut_off(&[], 101.0, 100.0));
        assert!(!may_be_cut_off(&[], 90.0, 100.0) && !may_be_cut_off(&[], 110.0, 100.0));
    }

    #[test]
    fn what_the_stream_could_not_take_may_be_cut_off_later() {
        let down = fault("kill-postgres", "", 80.0, 95.0);
        let before = fault("freeze-postgres", "", 70.0, 77.0);
        let long_ago = fault("freeze-postgres", "", 20.0, 25.0);
        let faults = [long_ago, down, before];
        assert!(may_be_cut_off(&faults, 82.0, 100.0));
        assert!(may_be_cut_off(&faults, 71.0, 100.0), "one outage after the other");
        assert!(!may_be_cut_off(&faults, 60.0, 100.0));
        assert!(!may_be_cut_off(&faults[..2], 71.0, 100.0));
    }

    #[test]
    fn kills_are_those_of_one_process() {
        let faults = [
            fault("kill-intake", "intake-0", 10.0, 12.0),
            fault("kill-intake", "intake-1", 20.0, 22.0),
            fault("freeze-intake", "intake-1", 30.0, 32.0),
        ];
        assert_eq!(kills(&faults, "intake-1"), [20.0]);
    }
}
