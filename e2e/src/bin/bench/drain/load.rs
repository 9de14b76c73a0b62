//! The messages that are forwarded, and what feeds them to the rivals.

use std::io::{BufWriter, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What their structured data says; in front of that, what HTTPS needs besides.
pub(super) const TAGS: [&str; 7] =
    ["id", "environment", "app", "user_email", "user_name", "stream", "offset"];

/// What the rivals get: a whole message, of about 255 bytes.
fn message(number: usize) -> String {
    format!(
        "<134>1 2026-11-02T09:30:00.{:06}Z production web 0193f2a8 output \
         [spillway@32473 environment=\"production\" app=\"web\" user_email=\"ada@example.com\" \
         user_name=\"Ada Lovelace\" stream=\"stdout\" offset=\"{number:09}\"] {}",
        number % 1_000_000,
        text(number)
    )
}

/// What a session shows, and Spillway makes a message of: a line without its end.
pub(crate) fn text(number: usize) -> String {
    let status = if number.is_multiple_of(17) { 404 } else { 200 };
    format!(
        "GET /v1/orders/{} status={status} duration_ms={} {number:07}",
        number * 31 % 9973,
        number % 97
    )
}

/// Sends messages with these numbers to a port of 127.0.0.1, a line each, as fast as they are taken,
/// or one at a time with a pause after each.
pub(super) fn feed(
    port: u16,
    numbers: std::ops::Range<usize>,
    pause: Option<Duration>,
) -> Result<()> {
    #[allow(clippy::disallowed_methods, reason = "it is a peer on this machine")]
    let mut socket = TcpStream::connect(("127.0.0.1", port)).context("the forwarder's port")?;
    if let Some(pause) = pause {
        for number in numbers {
            socket.write_all(format!("{}\n", message(number)).as_bytes())?;
            std::thread::sleep(pause);
        }
    } else {
        let mut out = BufWriter::with_capacity(1 << 20, socket);
        for number in numbers {
            out.write_all(message(number).as_bytes())?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    Ok(())
}
