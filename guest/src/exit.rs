//! How the program ended, and the duty of a first process to collect every process that ends.

use std::io::{self, PipeReader};
use std::thread::{Builder, JoinHandle};

use guest_protocol::FromGuest;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::signals;

/// Set in a wait status if the process left a core dump (wait(2), `WCOREDUMP`).
const CORE_DUMPED: i32 = 0x80;

/// Collects processes until the program has ended.
#[derive(Debug)]
pub(crate) struct Reaper {
    /// Readable once the program has ended.
    pub(crate) ended: PipeReader,
    thread: JoinHandle<Option<WaitStatus>>,
}

impl Reaper {
    /// A thread, because that is the way to wait for a process that needs no signal handler.
    pub(crate) fn new(program: Pid) -> io::Result<Self> {
        let (ended, signal_end) = io::pipe()?;
        let thread =
            Builder::new().name("reaper".to_owned()).stack_size(64 * 1024).spawn(move || {
                let status = wait_for(program);
                // Closing the pipe is the message.
                drop(signal_end);
                status
            })?;
        Ok(Self { ended, thread })
    }

    /// How the program ended; waits for it.
    pub(crate) fn status(self) -> FromGuest {
        match self.thread.join() {
            Ok(Some(status)) => report(status),
            // Nobody else waits for our children, so this does not come.
            Ok(None) | Err(_) => FromGuest::ExitCode(255),
        }
    }
}

fn wait_for(program: Pid) -> Option<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => return Some(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn report(status: WaitStatus) -> FromGuest {
    match status.terminating_signal() {
        Some(signal) => FromGuest::ExitSignal {
            name: signals::name(signal),
            core_dumped: status.as_raw() & CORE_DUMPED != 0,
        },
        None => FromGuest::ExitCode(
            status.exit_status().and_then(|code| u32::try_from(code).ok()).unwrap_or(255),
        ),
    }
}
