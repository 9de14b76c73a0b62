//! What Spillway is compared with.

pub(crate) mod sshd;
