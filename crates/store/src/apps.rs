//! Apps and their sealed variables.
