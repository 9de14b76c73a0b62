//! Real peers for tests and for the demo: PostgreSQL, Docker images, OpenSSH's client, rsyslog, a
//! TLS web server, and the built `platform` command.
//!
//! Invariant: what a helper starts, it ends when dropped, so that a failed test leaves nothing
//! behind; and it waits on conditions with a deadline, never for a fixed time.

pub mod arrivals;
pub mod certificates;
pub mod clock;
pub mod docker;
pub mod endpoints;
pub mod https_receiver;
pub mod openssh;
pub mod platform;
pub mod postgres;
pub mod process;
pub mod rsyslog;
pub mod services;
pub mod smtp_receiver;
pub mod syslog_ng;
pub mod terminal;
pub mod tls_sink;
pub mod tmpfs;
pub mod wait;
