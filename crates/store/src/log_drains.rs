//! Log drains as the api sees them.
