//! Ephemeral sessions as the api sees them.
