//! Environments and their session policy.
