//! What Spillway is compared with.

pub(crate) mod forwarder;
pub(crate) mod receiver;
pub(crate) mod sshd;
