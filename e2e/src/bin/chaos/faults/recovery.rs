//! What shows that the platform works again after a fault.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::load::Load;
use crate::program::Program;
use crate::receivers::Ledger;
use crate::world::SYSLOG;

/// What is to work again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    /// A new session shows something on this edge.
    Session(usize),
    /// New lines arrive.
    Lines(&'static [&'static str]),
    /// The API answers.
    Api,
    /// This intake acknowledges lines.
    Acknowledged(usize),
    /// A sender of syslog connects.
    Connected,
    /// Nothing was to stop.
    None,
}

/// Waits until what was hit works again.
pub(super) async fn recovered(load: &Load, sign: Sign, healed: Instant) {
    match sign {
        Sign::None => {}
        Sign::Session(edge) => {
            while !matches!(load.session(Program::Probe, edge).await, Ok(true)) {
                sleep(Duration::from_millis(200)).await;
            }
        }
        Sign::Lines(drains) => {
            for drain in drains {
                let ledger: &Ledger = if *drain == SYSLOG {
                    load.world.syslog.ledger()
                } else {
                    load.world.https.ledger()
                };
                while ledger.last_arrival().is_none_or(|at| at < healed) {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        Sign::Acknowledged(intake) => {
            while !load.senders.has_acknowledged(intake, healed) {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Sign::Connected => {
            while !load.senders.has_connected(healed) {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Sign::Api => {
            while !load.world.cli().finish(&["env", "list"]).await.is_ok_and(|f| f.status.success())
            {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
