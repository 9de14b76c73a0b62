//! The platform's processes.

use std::fmt;

use super::PAIRS;

/// One of the platform's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Member {
    Api,
    Edge(usize),
    Worker(usize),
    Intake(usize),
}

impl Member {
    /// How many there are.
    pub(crate) const COUNT: usize = 1 + 3 * PAIRS;

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let edges = (0..PAIRS).map(Self::Edge);
        let workers = (0..PAIRS).map(Self::Worker);
        [Self::Api].into_iter().chain(edges).chain(workers).chain((0..PAIRS).map(Self::Intake))
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str("api"),
            Self::Edge(number) => write!(f, "edge-{number}"),
            Self::Worker(number) => write!(f, "worker-{number}"),
            Self::Intake(number) => write!(f, "intake-{number}"),
        }
    }
}
