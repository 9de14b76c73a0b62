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
    const HOLDING: [&str; 6] = [
        "kill-backend",
        "kill-postgres",
        "freeze-postgres",
        "disk-full",
        "freeze-intake",
        "clock-step",
    ];
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
