//! The SSH edge with OpenSSH's client, Docker and PostgreSQL.

mod bulk;
mod clocks;
mod docker;
mod fail_closed;
mod faults;
mod fixture;
mod programs;
mod refusals;
mod sign_in;
