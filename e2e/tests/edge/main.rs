//! The SSH edge with OpenSSH's client, Docker and PostgreSQL.

mod bulk;
mod fail_closed;
mod faults;
mod fixture;
mod programs;
mod refusals;
mod sign_in;
