//! The local terminal.
//!
//! Invariant: whatever ends this process short of SIGKILL, the terminal is as it was.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Width and height in characters, then in pixels.
pub(crate) type Size = (u32, u32, u32, u32);

/// Used where the size is not known.
const DEFAULT_SIZE: Size = (80, 24, 0, 0);

/// Whether a person is at both ends.
pub(crate) fn is_present() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The terminal's size.
pub(crate) fn size() -> Size {
    let known = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin()));
    let known = known.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(DEFAULT_SIZE, |size| {
        (size.ws_col.into(), size.ws_row.into(), size.ws_xpixel.into(), size.ws_ypixel.into())
    })
}

/// The terminal in raw mode: every key, Ctrl-C too, goes to the container. Dropping restores it.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Enters raw mode, if standard input is a terminal.
    pub(crate) fn enter() -> Result<Option<Self>> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self { before };
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("cannot set the terminal up")?;
        Ok(Some(guard))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        tcsetattr(stdin(), OptionalActions::Now, &self.before).ok();
    }
}
