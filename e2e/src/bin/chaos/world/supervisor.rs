//! What an operator's supervisor does: a process that cannot use the database when it starts ends, and is started
//! again. One that ends for another reason is left as it is, for the run to tell.

use std::path::Path;

use anyhow::Result;
use e2e::process::Process;

use super::{Member, World};

impl World {
    /// Starts those again that ended because there was no database when they started.
    pub(crate) fn supervise(&self) -> Result<()> {
        for member in Member::all() {
            // One that is being started or killed is looked at the next time.
            let Ok(mut slot) = self.slot(member)?.try_lock() else { continue };
            let Some(process) = slot.as_mut() else { continue };
            let log = self.log(member);
            if process.check_running().is_err() && lacked_the_database(&log) {
                eprintln!(
                    "{:>9}  {member} had no database when it started: it is started again",
                    ""
                );
                *slot = Some(Process::start(self.command(member)?, &log)?);
            }
        }
        Ok(())
    }
}

/// Whether the last that a process said is that it lacked the database.
pub(super) fn lacked_the_database(log: &Path) -> bool {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let last = log.rsplit_once("Error: ").map_or("", |(_, last)| last);
    let sentence = last.lines().next().unwrap_or_default();
    let is_database = ["cannot use the database", "cannot use the log stream"]
        .iter()
        .any(|words| sentence.contains(words));
    is_database && !last.contains("panicked at")
}
