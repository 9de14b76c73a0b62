//! What Spillway is compared with.

pub(crate) mod forwarder;
pub(crate) mod sshd;
