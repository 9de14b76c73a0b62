//! What the platform promises in figures.

use crate::evidence::Fault;

/// The most that comes again after one interruption: a drain's redelivery window, which what was
/// delivered after the position that was last written counts towards.
pub(crate) const REDELIVERY_BYTES: u64 = 8 << 20;

/// The most memory that a service may have resident, in KiB.
pub(crate) const EDGE_KIB: u64 = 256 << 10;
pub(crate) const WORKER_KIB: u64 = 256 << 10;
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
